"""Networks that reshape what they compute, in ONNX files of one batch size run at another."""
