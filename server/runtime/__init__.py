"""ONNX Runtime sessions, execution providers, and the process's memory and cores."""
