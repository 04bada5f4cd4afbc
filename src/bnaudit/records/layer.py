"""What was measured of one BatchNorm call. No tensors here: judges and renderers run without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.records.values import NOT_REQUESTED, Metric, Skipped, Spread

if TYPE_CHECKING:
    from bnaudit.records.curvature import SecondOrder
    from bnaudit.records.drift import Channels
    from bnaudit.records.weights import WeightSpace


@dataclass(frozen=True, slots=True)
class Gain:
    """|gamma|/sigma over the channels of a layer.

    Attributes:
        minimum, median, maximum: over the channels.
        fraction_le_1: share of channels whose gain is at or below 1.
    """

    minimum: Spread
    median: Spread
    maximum: Spread
    fraction_le_1: Spread


@dataclass(frozen=True, slots=True)
class Extent:
    """Smallest, middle and largest of a per-channel quantity."""

    minimum: Spread
    median: Spread
    maximum: Spread


@dataclass(frozen=True, slots=True)
class FiniteDifference:
    """The gradient-norm reduction measured without any BatchNorm backward, in float64.

    Attributes:
        measured: |dL/dx| / |dL/dz| as the quotient of two central differences of the loss.
        predicted: the closed form on the same batch, in float64.
        relative_error: |measured - predicted| / predicted.
        step: the step relative to the norm of the perturbed tensor.
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
        measured: its square root over |G|, the gradient norm at the layer's output.
        predicted: the closed form on the same batch.
        relative_error: |measured - predicted| / predicted.
    """

    measured: float
    predicted: float
    relative_error: float


@dataclass(frozen=True, slots=True)
class FirstOrder:
    """Theorem 4.1 of Santurkar et al. (2018) at one layer: what BatchNorm does to the gradient norm.

    Attributes:
        statistics: which mean and variance normalised the activations ("batch" or "running").
        predicted: |g|/|G| from the closed form, from gamma, sigma, x and G = dL/dz alone.
        measured: |g|/|G| with g = dL/dx from autograd.
        residual: ||g| - predicted| / (|D| |G| (1 + |mu|/sigma)), the largest over the channels and
            batches. Above `tolerance` the capture is not to be trusted, and every other number of
            this record is Skipped.
        tolerance: what `residual` must stay below, given by the precision of the activations.
        scale: S = sum D^2 |G|^2 / sum |G|^2, D = gamma/sigma.
        projection: Pi = sum |g|^2 / sum D^2 |G|^2, the share of gradient energy that survives.
        removed_mean: the share that the mean term of the projection removes.
        removed_xhat: the share that the xhat term removes.
        grad_out_norm: |G| of the layer.
        grad_in_norm: |g| of the layer.
        finite_difference: the same reduction without backward, where it was asked for.
        forward_mode: the same reduction from the second-order sweep, where the layer was swept.
    """

    statistics: str
    predicted: Metric
    measured: Metric
    residual: float | Skipped
    tolerance: float
    scale: Metric
    projection: Metric
    removed_mean: Metric
    removed_xhat: Metric
    grad_out_norm: Metric
    grad_in_norm: Metric
    finite_difference: FiniteDifference | Skipped
    forward_mode: ForwardMode | Skipped = NOT_REQUESTED


@dataclass(frozen=True, slots=True)
class ChannelValues:
    """Per-channel arrays, each the median over the batches; empty where not measured."""

    gain_batch: tuple[float, ...]
    gain_running: tuple[float, ...]
    sigma: tuple[float, ...]
    leak: tuple[float, ...]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    grad_out_norm: tuple[float, ...]
    grad_in_norm: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One BatchNorm call of the model, in execution order.

    Attributes:
        name: the layer's name as the model's author knows it.
        call: 1 for the layer's first use in a forward pass, 2 for its second, ...
        kind: "BatchNorm1d", "BatchNorm2d" or "BatchNorm3d", by the rank of its input.
        channels: the number of channels.
        m: values per channel in one batch (batch size times spatial positions).
        eps: the layer's eps.
        affine: whether it has gamma.
        tracks_running_stats: whether it has running statistics.
        training_flag: the training flag stored in the model, which the measurement overrides.
        origin: where the layer stands in the file.
        gain_batch, gain_running: |gamma|/sigma with sigma from the batch / the running variance.
        sigma, leak: over channels, from the batch; leak = eps / sigma^2.
        first_order: the first-order theorem, or why it was not measured.
        channel_values: per-channel arrays where they were asked for.
        second_order: the second-order theorem, or why it was not measured.
        weight_space: the minimax bound on the weights that feed the layer, or why not.
        statistics: conspicuous channels and drift, or why not.
        reads: labels of the calls whose outputs reach this one with no other call between, () where only
            inputs do; None where it is not known. Not in the JSON.
    """

    name: str
    call: int
    kind: str
    channels: int
    m: int
    eps: float
    affine: bool
    tracks_running_stats: bool
    training_flag: bool
    origin: str
    gain_batch: Gain | Skipped
    gain_running: Gain | Skipped
    sigma: Extent | Skipped
    leak: Extent | Skipped
    first_order: FirstOrder | Skipped
    channel_values: ChannelValues | None = None
    second_order: SecondOrder | Skipped = NOT_REQUESTED
    weight_space: WeightSpace | Skipped = NOT_REQUESTED
    statistics: Channels | Skipped = NOT_REQUESTED
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
