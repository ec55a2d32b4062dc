"""The model bundle that export writes and the server reads: layout, hashes, golden vectors, replay, noise."""
