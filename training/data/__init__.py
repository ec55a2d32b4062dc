"""Data sets: download, reading, splits, batches."""
