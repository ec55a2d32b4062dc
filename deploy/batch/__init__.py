"""Batch inference: a model over all images of a folder, a bucket or Parquet files, without a server in between."""
