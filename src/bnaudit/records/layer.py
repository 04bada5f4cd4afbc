"""What was measured of one BatchNorm call. No tensors here: judges and renderers run without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bnaudit.records.curvature import SecondOrder
from bnaudit.records.deployment import LayerGap
from bnaudit.records.drift import Channels
from bnaudit.records.matching import Mismatch
from bnaudit.records.values import (
    NOT_REQUESTED,
    STATISTICS,
    Count,
    Limits,
    Metric,
    Skipped,
    Spread,
)
from bnaudit.records.weights import WeightSpace


@dataclass(frozen=True, slots=True)
class Gain:
    """|gamma|/sigma over the channels of a layer.

    Attributes:
        minimum: smallest over the channels.
        median: the middle channel.
        maximum: largest over the channels.
        fraction_le_1: share of the channels (0 to 1) whose |gamma|/sigma is at or below 1: those
            through which the gradient cannot grow.
    """

    minimum: Spread
    median: Spread
    maximum: Spread
    fraction_le_1: Spread


@dataclass(frozen=True, slots=True)
class Extent:
    """A per-channel quantity over the channels of a layer.

    Attributes:
        minimum: smallest over the channels.
        median: the middle channel.
        maximum: largest over the channels.
    """

    minimum: Spread
    median: Spread
    maximum: Spread


@dataclass(frozen=True, slots=True)
class FiniteDifference:
    """The gradient-norm reduction measured without any BatchNorm backward, in float64.

    Attributes:
        measured: |dL/dx| / |dL/dz| as the quotient of two central differences of the loss.
        predicted: |g|/|G| from the closed form, on the same batch in float64.
        relative_error: |measured - predicted| / predicted.
        step: step of the differences, relative to the norm of the perturbed tensor.
    """

    measured: float
    predicted: float
    relative_error: float
    step: float


@dataclass(frozen=True, slots=True)
class ForwardMode:
    """The gradient-norm reduction in forward mode: no backward of any BatchNorm is in it.

    The directional derivative of the loss along g at the layer's input, carried to the loss by a tangent,
    is |g|^2 if g is its gradient.

    Attributes:
        measured: |g|/|G|: square root of the loss's derivative along g at the layer's input (|g|^2)
            over that along G at its output (|G|^2).
        predicted: |g|/|G| from the closed form, on the same batch.
        relative_error: |measured - predicted| / predicted.
    """

    measured: float
    predicted: float
    relative_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstOrder:
    """Theorem 4.1 of Santurkar et al. (2018) at one layer: what BatchNorm does to the gradient norm.

    Attributes:
        statistics: which mean and variance normalised the activations; with the running ones
            nothing is projected out (a = b = 0).
        predicted: |g|/|G| from the closed form, from gamma, sigma, x and G = dL/dz alone.
        measured: |g|/|G| with g = dL/dx from autograd; below 1 BatchNorm makes the gradient
            smaller.
        residual: ||g| - predicted| / (|D| |G| (1 + |mu|/sigma)), the largest over the channels and
            batches. Above `tolerance` the capture is not to be trusted, and every other number of
            this record is Skipped.
        tolerance: what `residual` must stay below, given by the precision of the activations.
        finite_difference: the same reduction without any BatchNorm backward: the quotient of two
            central differences of the loss, in float64, on one batch, where it was asked for.
        forward_mode: the same reduction from the second-order sweep, where the layer was swept:
            tangents carry g and G to the loss, on the first batch.
        scale: S = sum D^2 |G|^2 / sum |G|^2 over the channels: the rescaling part. (|g|/|G|)^2 =
            scale * projection.
        projection: Pi = sum |g|^2 / sum D^2 |G|^2, the share of the gradient energy that survives:
            1 - removed_mean - removed_xhat.
        removed_mean: share of the gradient energy that subtracting the mean of G removes: sum D^2 a
            / sum D^2 |G|^2.
        removed_xhat: share that removing the component along xhat takes: sum D^2 b / sum D^2 |G|^2.
        grad_out_norm: |G|, Euclidean norm of dL/dz over the whole layer, in units of the loss per
            unit of z; it varies a lot between batches.
        grad_in_norm: |g|, Euclidean norm of dL/dx over the whole layer.
    """

    statistics: Annotated[str, Limits(among=STATISTICS)]
    predicted: Metric
    measured: Metric
    residual: float | Skipped
    tolerance: float
    finite_difference: FiniteDifference | Skipped
    forward_mode: ForwardMode | Skipped = NOT_REQUESTED
    scale: Metric
    projection: Metric
    removed_mean: Metric
    removed_xhat: Metric
    grad_out_norm: Metric
    grad_in_norm: Metric


NO_CHANNEL_VALUES = Skipped("the run did not keep per-channel arrays")


@dataclass(frozen=True, slots=True)
class ChannelValues:
    """Per-channel arrays, each the median over the batches; empty where not measured.

    Attributes:
        gain_batch: |gamma|/sigma with sigma from the batch.
        gain_running: |gamma|/sigma with sigma from the running variance.
        sigma: sqrt(batch variance + eps).
        leak: eps / sigma^2.
        predicted: |g|/|G| of the channel from the closed form.
        measured: |g|/|G| of the channel with g from autograd.
        grad_out_norm: |G| of the channel.
        grad_in_norm: |g| of the channel.
    """

    gain_batch: tuple[float, ...]
    gain_running: tuple[float, ...]
    sigma: tuple[float, ...]
    leak: tuple[float, ...]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    grad_out_norm: tuple[float, ...]
    grad_in_norm: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """One BatchNorm call of the model, in execution order.

    Attributes:
        name: the layer's name as the model's author knows it.
        call: 1 for the layer's first use in a forward pass, 2 for its second; findings name later
            calls "name#2".
        kind: "BatchNorm1d", "BatchNorm2d" or "BatchNorm3d", by the rank of its input.
        channels: the number of channels.
        m: values per channel in one batch (batch size times spatial positions).
        eps: the layer's eps, added to the variance.
        affine: whether it has gamma and beta.
        tracks_running_stats: whether it has running statistics.
        training_flag: the training flag stored in the model, which the measurement overrides.
        origin: where the layer stands in the file: an ONNX node, a module path.
        gain_batch: with sigma from the batch. Rescaling the weights before the layer changes it
            without changing the function: a number to read, not to gate on.
        gain_running: with sigma from the running variance.
        first_order: Theorem 4.1 of Santurkar et al. (2018), arXiv 1805.11604, as an equality: |g|^2
            = D^2 (|G|^2 - a - b) per channel, with G = dL/dz at the layer's output, g = dL/dx at
            its input, D = gamma/sigma, a = m mean(G)^2, b = (1 + leak) <xhat, G>^2 / m.
        second_order: Theorem 4.2, the curvature along the gradient, on the first batch.
        weight_space: Theorem 4.4, the minimax bound on the gradient of the weights that feed the
            layer, on the first batch.
        sigma: sqrt(batch variance + eps) over the channels.
        leak: eps / sigma^2 over the channels: 0 where eps does not matter, 1 where the channel is
            constant and eps is all there is.
        statistics: conspicuous channels, and drift against the stored statistics.
        mismatch: how far matched batches are from what the layer stores.
        gap: its part in the gap between running and batch statistics, where there is one.
        channel_values: per-channel arrays, where they were asked for (--channels).
        reads: labels of the calls whose outputs reach this one with no other call between, () where only
            inputs do; None where it is not known. Not in the JSON.
    """

    name: str
    call: Annotated[int, Limits(minimum=1)]
    kind: str
    channels: Count
    m: Count
    eps: float
    affine: bool
    tracks_running_stats: bool
    training_flag: bool
    origin: str
    gain_batch: Gain | Skipped
    gain_running: Gain | Skipped
    first_order: FirstOrder | Skipped
    second_order: SecondOrder | Skipped = NOT_REQUESTED
    weight_space: WeightSpace | Skipped = NOT_REQUESTED
    sigma: Extent | Skipped
    leak: Extent | Skipped
    statistics: Channels | Skipped = NOT_REQUESTED
    gap: LayerGap | Skipped = NOT_REQUESTED
    mismatch: Mismatch | Skipped = NOT_REQUESTED
    channel_values: ChannelValues | Skipped = NO_CHANNEL_VALUES
    reads: tuple[str, ...] | None = None

    @property
    def integrity_failed(self) -> bool:
        """Whether autograd and the closed form disagree beyond rounding."""
        order = self.first_order
        return (
            isinstance(order, FirstOrder)
            and not isinstance(order.residual, Skipped)
            and not order.residual <= order.tolerance
        )

    @property
    def measured(self) -> bool:
        """Whether the layer has a gradient-norm reduction that can be trusted."""
        order = self.first_order
        return isinstance(order, FirstOrder) and isinstance(order.measured, Spread)

    @property
    def label(self) -> str:
        """The name with the call number where the layer is used more than once."""
        return self.name if self.call == 1 else f"{self.name}#{self.call}"
