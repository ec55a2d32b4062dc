"""Adapting ONNX files that were made elsewhere."""
