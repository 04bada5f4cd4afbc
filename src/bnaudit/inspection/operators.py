"""One name for an operator, whatever format a file is of; the reports use it.

ONNX's name where ONNX has the operator; of names for one thing ("Flatten" and "Reshape", "Hardtanh" and
"Clip", pooling with a fixed window or to a fixed size) the more general one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# PyTorch's names without what marks dimensions, variants and writing in place (see `onnx_name`).
_ONNX = {
    "adaptive_avg_pool": "AveragePool",
    "adaptive_max_pool": "MaxPool",
    "addmm": "Gemm",
    "alpha_dropout": "Dropout",
    "amax": "ReduceMax",
    "amin": "ReduceMin",
    "avg_pool": "AveragePool",
    "batch_norm": "BatchNormalization",
    "bmm": "MatMul",
    "cat": "Concat",
    "chunk": "Split",
    "clamp": "Clip",
    "clamp_max": "Clip",
    "clamp_min": "Clip",
    "clip": "Clip",
    "concat": "Concat",
    "concatenate": "Concat",
    "constant_pad_nd": "Pad",
    "cudnn_batch_norm": "BatchNormalization",
    "cumsum": "CumSum",
    "embedding": "Gather",
    "feature_dropout": "Dropout",
    "flatten": "Reshape",
    "getitem": "Split",
    "group_norm": "GroupNormalization",
    "hardsigmoid": "HardSigmoid",
    "hardswish": "HardSwish",
    "hardtanh": "Clip",
    "index": "Gather",
    "index_select": "Gather",
    "instance_norm": "InstanceNormalization",
    "layer_norm": "LayerNormalization",
    "linear": "Gemm",
    "lstm": "LSTM",
    "gru": "GRU",
    "masked_fill": "Where",
    "matmul": "MatMul",
    "max_pool": "MaxPool",
    "maximum": "Max",
    "mean": "ReduceMean",
    "minimum": "Min",
    "mm": "MatMul",
    "movedim": "Transpose",
    "narrow": "Slice",
    "numpy_T": "Transpose",
    "permute": "Transpose",
    "pixel_shuffle": "DepthToSpace",
    "pixel_unshuffle": "SpaceToDepth",
    "prelu": "PRelu",
    "prod": "ReduceProd",
    "reflection_pad": "Pad",
    "relu6": "Clip",
    "repeat": "Tile",
    "replication_pad": "Pad",
    "rsub": "Sub",
    "silu": "Silu",
    "sort": "TopK",
    "split_with_sizes": "Split",
    "sum": "ReduceSum",
    "swapaxes": "Transpose",
    "t": "Transpose",
    "topk": "TopK",
    "tril": "Trilu",
    "triu": "Trilu",
    "unbind": "Split",
    "unflatten": "Reshape",
    "unsafe_view": "Reshape",
    "upsample_bicubic": "Resize",
    "upsample_bilinear": "Resize",
    "upsample_linear": "Resize",
    "upsample_nearest": "Resize",
    "upsample_nearest_exact": "Resize",
    "upsample_trilinear": "Resize",
    "view": "Reshape",
}

_SAME = {
    "Flatten": "Reshape",
    "GlobalAveragePool": "AveragePool",
    "GlobalMaxPool": "MaxPool",
    "SequenceAt": "Split",
    "Upsample": "Resize",
}


def onnx_name(op: str, *, transposed: bool = False) -> str:
    """The name of PyTorch's operator: Conv for conv2d, Relu for relu_.

    Words in capitals for what has no name in ONNX.
    """
    plain = op.rpartition(".")[2].removesuffix("_with_indices").rstrip("_").lstrip("_")
    plain = plain.removeprefix("native_")
    for suffix in ("1d", "2d", "3d"):
        plain = plain.removesuffix(suffix).removesuffix("_")
    if plain in ("conv", "convolution", "conv_transpose"):
        return "ConvTranspose" if transposed or plain == "conv_transpose" else "Conv"
    return _ONNX.get(plain, "".join(word.capitalize() for word in plain.split("_")))


def common_name(op: str) -> str:
    """The name of ONNX's operator where the table has one for several of them."""
    return _SAME.get(op, op)


def keeps_channels(axes: Iterable[int], rank: int | None) -> bool:
    """Whether a crop along these axes leaves the channels, which are axis 1, as they are.

    Args:
        axes: that it cuts; may be negative.
        rank: dimensions of what is cut, None where it is not known.
    """
    return all(axis % rank != 1 if rank else axis >= 0 and axis != 1 for axis in axes)
