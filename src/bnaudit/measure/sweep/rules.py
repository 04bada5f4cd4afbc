"""Which rule carries a tangent through which operator. A new operator is one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.errors import first_line
from bnaudit.measure.sweep.convolution import CONVOLUTION
from bnaudit.measure.sweep.linear import (
    ADDITION,
    CONCATENATION,
    EXTREME,
    FIRST_ONLY,
    FOLDED,
    IDENTITY,
    INDEX_POOL,
    LINEAR,
    MASKED_FILL,
    PICKED,
    RESTRIDED,
    SELECTION,
)
from bnaudit.measure.sweep.local import LOCAL, REFUSED
from bnaudit.measure.sweep.norm import BATCH_NORM
from bnaudit.measure.sweep.normalising import GROUPS, SOFTMAX
from bnaudit.measure.sweep.pointwise import KINKED, RECTIFIER, SMOOTH
from bnaudit.measure.sweep.products import MATRIX, PRODUCT, QUOTIENT

if TYPE_CHECKING:
    from bnaudit.measure.sweep.family import Family, Needs
    from bnaudit.measure.sweep.tape import Step

_NAMES: tuple[tuple[Family, str], ...] = (
    (IDENTITY, "alias detach clone lift_fresh contiguous _to_copy to"),
    (
        LINEAR,
        "view _unsafe_view reshape permute transpose t expand squeeze unsqueeze select slice split "
        "split_with_sizes unbind sum mean index index_select gather flip roll cumsum repeat diagonal "
        "tril triu movedim unfold im2col col2im neg pixel_shuffle pixel_unshuffle channel_shuffle "
        "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
        "replication_pad3d embedding_dense_backward _reshape_alias swapaxes real unsafe_split unsafe_chunk "
        "unsafe_split_with_sizes",
    ),
    (PICKED, "nll_loss_forward nll_loss2d_forward"),
    (
        FOLDED,
        "avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d "
        "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
        "_upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d upsample_linear1d "
        "upsample_trilinear3d avg_pool1d",
    ),
    (FIRST_ONLY, "constant_pad_nd"),
    (ADDITION, "add sub rsub copy"),
    (CONCATENATION, "cat stack"),
    (SELECTION, "where"),
    (MASKED_FILL, "masked_fill"),
    (INDEX_POOL, "max_pool2d_with_indices max_pool3d_with_indices"),
    (EXTREME, "max min amax amin"),
    (CONVOLUTION, "convolution _convolution"),
    (RECTIFIER, "relu"),
    (
        KINKED,
        "threshold leaky_relu hardtanh clamp clamp_min clamp_max hardsigmoid abs _prelu_kernel",
    ),
    (
        SMOOTH,
        "hardswish silu sigmoid tanh gelu elu softplus mish exp log log2 log10 log1p expm1 sqrt rsqrt "
        "reciprocal sin cos erf square atan log_sigmoid_forward celu selu erfc sinh cosh asinh "
        "softshrink pow",
    ),
    (PRODUCT, "mul"),
    (QUOTIENT, "div"),
    (MATRIX, "mm bmm addmm baddbmm mv"),
    (BATCH_NORM, "native_batch_norm"),
    (SOFTMAX, "_softmax _log_softmax _safe_softmax"),
    (GROUPS, "native_layer_norm native_group_norm"),
    (RESTRIDED, "as_strided"),
    (REFUSED, "set_ resize_ bernoulli _fused_dropout rrelu_with_noise"),
)

_FAMILIES = {name: family for family, names in _NAMES for name in names.split()}


def _family(step_name: str) -> Family:
    plain = step_name[:-1] if step_name.endswith("_") and step_name not in _FAMILIES else step_name
    return _FAMILIES.get(plain, LOCAL)


def needs(name: str, active: tuple[int, ...]) -> Needs:
    """What has to be kept of a call.

    Args:
        name: the operator's.
        active: which of its arguments hold tensors with tangents.
    """
    return _family(name).needs(active)


def prepare(step: Step) -> None:
    """Gives a step its `apply`, or an obstacle; forgets what only this needed."""
    if step.obstacle is None and step.out_shapes:
        try:
            _family(step.name).prepare(step)
        except Exception as error:  # a form of the call that its rule does not foresee
            step.obstacle = f"the rule of {step.name} failed: {first_line(error)}"
    step.forget()
