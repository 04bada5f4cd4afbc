"""One small module for each ONNX operator."""
