"""Encoding and decoding of image files, tensors and protobuf fields."""
