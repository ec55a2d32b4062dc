"""A run directory: files, metrics log, provenance, finalization."""
