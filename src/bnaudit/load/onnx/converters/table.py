"""Which converter serves which operator.

Own converters replace onnx2torch's where those are missing, silently wrong (Resize, pools of unknown
rank, Clip with one bound), too narrow (SAME padding, computed weights) or draw random numbers. A new
operator is one function in a file here and one line in `OWN`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from bnaudit.load.onnx.converters import (
    attention,
    cast,
    elementwise,
    gather,
    linear,
    norm,
    padding,
    pool,
    recurrent,
    reduce,
    resize,
    sequences,
    shapes,
    spatial,
)

if TYPE_CHECKING:
    from bnaudit.load.onnx.converters.base import Converter

OWN: dict[str, Converter] = {
    "Acosh": elementwise.function(torch.acosh),
    "AffineGrid": spatial.affine_grid,
    "Asinh": elementwise.function(torch.asinh),
    "Atanh": elementwise.function(torch.atanh),
    "Attention": attention.attention,
    "AveragePool": pool.average_pool,
    "BatchNormalization": norm.batch_normalization,
    "BitwiseAnd": elementwise.function(torch.bitwise_and),
    "BitwiseNot": elementwise.function(torch.bitwise_not),
    "BitwiseOr": elementwise.function(torch.bitwise_or),
    "BitwiseXor": elementwise.function(torch.bitwise_xor),
    "Cast": cast.cast,
    "CastLike": cast.cast_like,
    "Clip": elementwise.clip,
    "Col2Im": spatial.column_to_image,
    "ConcatFromSequence": sequences.concat,
    "Conv": linear.conv,
    "ConvTranspose": linear.conv_transpose,
    "Cosh": elementwise.function(torch.cosh),
    "DepthToSpace": shapes.depth_to_space,
    "Expand": shapes.expand,
    "Flatten": shapes.flatten,
    "GRU": recurrent.recurrent,
    "Gelu": elementwise.gelu,
    "Gemm": linear.gemm,
    "GlobalAveragePool": pool.global_average_pool,
    "GlobalLpPool": pool.global_lp_pool,
    "GlobalMaxPool": pool.global_max_pool,
    "GridSample": spatial.grid_sample,
    "GroupNormalization": norm.group_normalization,
    "HardSwish": elementwise.function(functional.hardswish),
    "InstanceNormalization": norm.instance_normalization,
    "LSTM": recurrent.recurrent,
    "LayerNormalization": norm.layer_normalization,
    "LpNormalization": norm.lp_normalization,
    "LpPool": pool.lp_pool,
    "MatMul": linear.matmul,
    "MaxPool": pool.max_pool,
    "MeanVarianceNormalization": norm.mean_variance_normalization,
    "Mish": elementwise.function(functional.mish),
    "OneHot": elementwise.one_hot,
    "PRelu": elementwise.prelu,
    "Pad": padding.pad,
    "RMSNormalization": norm.rms_normalization,
    "RNN": recurrent.recurrent,
    "RandomNormalLike": elementwise.random_normal_like,
    "RandomUniformLike": elementwise.random_uniform_like,
    "Reshape": shapes.reshape,
    "Resize": resize.resize,
    "ReverseSequence": gather.reverse_sequence,
    "ScatterElements": gather.scatter_elements,
    "SequenceAt": sequences.at,
    "SequenceConstruct": sequences.construct,
    "SequenceEmpty": sequences.construct,
    "SequenceInsert": sequences.insert,
    "SequenceLength": sequences.length,
    "Shrink": elementwise.shrink,
    "Sinh": elementwise.function(torch.sinh),
    "Size": elementwise.function(lambda x: torch.tensor(x.numel())),
    "Slice": shapes.slice_,
    "SpaceToDepth": shapes.space_to_depth,
    "Split": shapes.split,
    "SplitToSequence": sequences.split_to_sequence,
    "Swish": elementwise.swish,
    "ThresholdedRelu": elementwise.thresholded_relu,
    "Trilu": elementwise.trilu,
    **dict.fromkeys(reduce.OPERATORS, reduce.reduce),
}

SAME_SINCE_15 = frozenset(
    {
        "Acos",
        "Asin",
        "Atan",
        "Celu",
        "ConstantOfShape",
        "Cos",
        "Einsum",
        "Elu",
        "Equal",
        "EyeLike",
        "GreaterOrEqual",
        "HardSigmoid",
        "Identity",
        "IsInf",
        "IsNaN",
        "LessOrEqual",
        "Mod",
        "Range",
        "RoiAlign",
        "Round",
        "ScatterND",
        "Selu",
        "Shape",
        "Sin",
        "Softplus",
        "Softsign",
        "Squeeze",
        "Tan",
        "TopK",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators whose versions after opset 15 only admit more types: the older converter stays right."""
