"""Which connections grpc is given, and when (admission control)."""
