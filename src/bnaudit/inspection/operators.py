"""PyTorch's operators under the names that ONNX has for them, which the reports use."""

from __future__ import annotations

_ONNX = {
    "batch_norm": "BatchNormalization",
    "native_batch_norm": "BatchNormalization",
    "instance_norm": "InstanceNormalization",
    "layer_norm": "LayerNormalization",
    "group_norm": "GroupNormalization",
    "linear": "Gemm",
    "addmm": "Gemm",
    "matmul": "MatMul",
    "mm": "MatMul",
    "bmm": "MatMul",
    "cat": "Concat",
    "max_pool": "MaxPool",
    "avg_pool": "AveragePool",
    "leaky_relu": "LeakyRelu",
    "prelu": "PRelu",
    "feature_dropout": "Dropout",
    "alpha_dropout": "Dropout",
    "silu": "Silu",
    "gelu": "Gelu",
    "view": "Reshape",
}


def onnx_name(op: str, *, transposed: bool = False) -> str:
    """Conv for conv2d, Relu for relu_, and words in capitals for what has no name there."""
    plain = op.rpartition(".")[2].rstrip("_").lstrip("_")
    for suffix in ("1d", "2d", "3d"):
        plain = plain.removesuffix(suffix).removesuffix("_")
    if plain in ("conv", "convolution", "conv_transpose"):
        return "ConvTranspose" if transposed or plain == "conv_transpose" else "Conv"
    return _ONNX.get(plain, "".join(word.capitalize() for word in plain.split("_")))
