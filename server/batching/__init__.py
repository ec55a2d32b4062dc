"""Dynamic batching: queues, fairness, admission control, and the threads that run graphs."""
