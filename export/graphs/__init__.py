"""From network methods to ONNX graphs."""
