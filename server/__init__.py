"""gRPC inference server for model bundles; runs on onnxruntime alone."""
