"""What rules compute from a layer's stored values: sigma, leak, gain, and what counts as untouched."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.summary.gain import ASSUMED_EPS, gain_channels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.inspection import BatchNormStatics, Inspection

_SHOWN_CHANNELS = 5


def activations(inspection: Inspection) -> list[BatchNormStatics]:
    """The layers that normalise activations; weight standardisation is no layer of the network."""
    return [bn for bn in inspection.batchnorms if not bn.of_weights]


def eps_clause(bn: BatchNormStatics) -> str:
    """How sure a finding is whose number depends on eps."""
    if bn.eps is None:
        return f"the file stores no eps; {ASSUMED_EPS:g}, PyTorch's default, is assumed"
    return "read from the file"


def gains(bn: BatchNormStatics) -> tuple[float, ...]:
    """`gain_channels`; empty where the layer has none."""
    values = gain_channels(bn)
    return () if isinstance(values, Skipped) else values


def largest(values: Sequence[float] | None) -> float:
    """The largest finite absolute value, 0 where there is none."""
    return max(map(abs, filter(isfinite, values or ())), default=0.0)


def statistics_untouched(bn: BatchNormStatics) -> bool:
    """Whether all channels have the same running mean and the same variance, which no data gives.

    (0, 1) is where PyTorch starts, (0, 0) Caffe; a single channel counts only with one of these.
    """
    means, variances = bn.running_mean, bn.running_var
    if not means or not variances or not (_constant(means) and _constant(variances)):
        return False
    return len(variances) > 1 or (means[0] == 0 and variances[0] in (0, 1))


def half_untouched(bn: BatchNormStatics) -> str | None:
    """Which statistic is where PyTorch starts it, in every channel, while data gave the other one.

    Returns:
        "running_mean" (all 0) or "running_var" (all 1); None for both, for neither, and for so few
        channels that it may be chance.
    """
    means, variances = bn.running_mean, bn.running_var
    if not means or not variances or len(means) < _FEW_CHANNELS or statistics_untouched(bn):
        return None
    if all(mean == 0 for mean in means):
        return "running_mean"
    return "running_var" if all(variance == 1 for variance in variances) else None


_FEW_CHANNELS = 4


def fixed_by_mxnet(bn: BatchNormStatics, producer: str | None) -> bool:
    """Whether gamma is one number other than 1 in a file of MXNet's.

    A layer with fix_gamma=True is trained with gamma 1 whatever is stored for it, 0 most often, and the
    exporters of 2018 to 2020 write what is stored.
    """
    gamma = bn.gamma or ()
    named = (producer or "").lower().startswith("mxnet")
    return named and len(gamma) > 1 and len(set(gamma)) == 1 and gamma[0] != 1


FIX_GAMMA = (
    "set this gamma to 1, in the file (its initializer) or in MXNet's parameters before a new export, unless "
    "the layer was trained with fix_gamma=False"
)
"""The remedy."""


def like_instance_norm(inspection: Inspection, bn: BatchNormStatics) -> bool:
    """Whether a call is as weight standardisation and InstanceNorm are written.

    In training mode, with nothing of its own, and behind no layer with weights, where the format tells that.
    """
    graph = inspection.kind in {"onnx", "torchscript", "exported"}
    unused = bn.running_var is None or statistics_untouched(bn)
    alone = graph and bn.training is True and bn.feeder is None
    return alone and unused and affine_untouched(bn)


def affine_untouched(bn: BatchNormStatics) -> bool:
    """Whether all channels have the same gamma and the same beta, or there are none."""
    return _constant(bn.gamma) and _constant(bn.beta)


def _constant(values: Sequence[float] | None) -> bool:
    return not values or all(v == values[0] for v in values)


def without(inspection: Inspection, attribute: str, what: str) -> str | None:
    """A reason that a rule is not applicable: no layer stores this attribute.

    Args:
        inspection: the file.
        attribute: of `BatchNormStatics`.
        what: its name in a sentence ("momentum").
    """
    if not inspection.batchnorms:
        return "there are no BatchNorm layers"
    if all(getattr(bn, attribute) is None for bn in inspection.batchnorms):
        return f"this file stores no {what}"
    return None


def without_graph(inspection: Inspection) -> str | None:
    """A reason that a rule is not applicable: the file does not tell what stands before a layer."""
    if not inspection.batchnorms:
        return "there are no BatchNorm layers"
    if all(bn.preceded_by is None and bn.feeder is None for bn in inspection.batchnorms):
        return "this file does not tell what stands before a layer"
    return None


def listed(channels: Sequence[int]) -> str:
    """The first few channels for a message: "channel 3", "channels 3, 7, 12 and 20 more"."""
    shown = ", ".join(str(c) for c in channels[:_SHOWN_CHANNELS])
    more = len(channels) - _SHOWN_CHANNELS
    return f"channel{'s' if len(channels) > 1 else ''} {shown}" + (
        f" and {more} more" if more > 0 else ""
    )
