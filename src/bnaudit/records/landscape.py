"""Loss and gradient along the gradient step: a network with BatchNorm, and with its statistics frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from bnaudit.records.run import DataInfo
from bnaudit.records.values import Count, Finite, Limits, Metric, Spread

NETWORKS = ("batchnorm", "frozen")
"""The network on batch statistics, and the same with those of the given weights held fast."""

FORMS = ("raw", "relative")
"""How long a step is: eta |g|, as in the paper, or relative to the weights of each layer, free of a gauge."""

ROLES = ("weights", "batchnorm", "other")

Network = Annotated[str, Limits(among=NETWORKS)]
Way = Annotated[str, Limits(among=FORMS)]


@dataclass(frozen=True, slots=True)
class Point:
    """One step of a walk, over the batches that gave a value.

    Attributes:
        step: eta of a raw step; of a relative one its size r.
        loss: there.
        change: |g(step) - g(0)|, the predictiveness of the gradient; of a relative walk in its own norm.
        beta: change over the distance from the weights, eta |g(0)| or r.
        failed: batches whose loss or gradient is not finite there, or that could not be run.
    """

    step: Finite
    loss: Metric
    change: Metric
    beta: Metric
    failed: Count


@dataclass(frozen=True, slots=True)
class Walk:
    """One network along its own gradient.

    Attributes:
        network: with BatchNorm, or frozen.
        form: how steps are measured.
        grad_norm: |g(0)|; of a relative walk the root of the sum over layers of (|w| |g|)^2.
        loss: at the weights.
        variation: largest minus smallest loss over the walk, the weights themselves included.
        change: largest |g(step) - g(0)| over the steps.
        beta: effective beta-smoothness, the largest |g(step) - g(0)| / distance over the steps.
        points: one for each step.
    """

    network: Network
    form: Way
    grad_norm: Spread
    loss: Spread
    variation: Metric
    change: Metric
    beta: Metric
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class GroupWalk:
    """The share of one layer in a walk, in which all layers move at once.

    Attributes:
        network: with BatchNorm, or frozen.
        form: how steps are measured.
        grad_norm: |g| of the layer's own gradient at the weights; of a relative walk |w| |g|.
        change: by step the median of the change of the layer's own gradient; not finite where no batch has
            one.
        beta: largest change over the distance that the layer itself has moved.
    """

    network: Network
    form: Way
    grad_norm: Spread
    change: tuple[float, ...]
    beta: Metric


@dataclass(frozen=True, slots=True)
class Group:
    """The parameters of one layer.

    Attributes:
        name: of the module that owns them.
        role: weights in front of a BatchNorm, a BatchNorm's own gamma and beta, or other.
        feeds: the first BatchNorm that they feed with none between, null without one.
        parameters: their names.
        values: how many numbers.
        weight_norm: |w|.
        radial: |<g, w>| / (|g| |w|): 0 where the loss does not depend on how large the weights are.
        walks: an entry for each walk.
    """

    name: str
    role: Annotated[str, Limits(among=ROLES)]
    feeds: str | None
    parameters: tuple[str, ...]
    values: Count
    weight_norm: Finite
    radial: Metric
    walks: tuple[GroupWalk, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The frozen network over that with BatchNorm, batch by batch, over the steps at which both are finite.

    Attributes:
        form: how steps are measured.
        beta: ratio of their effective beta-smoothness; above 1 BatchNorm makes the landscape smoother.
        variation: ratio of the variations of the loss.
        change: ratio of the largest changes of the gradient, each over its own |g(0)|.
        incomparable: steps at which one of them is not finite, in some batch.
    """

    form: Way
    beta: Metric
    variation: Metric
    change: Metric
    incomparable: Count


@dataclass(frozen=True, slots=True)
class Agreement:
    """The two networks at the weights themselves, where they are the same function.

    Attributes:
        loss: largest difference of the losses over the batches, relative to the loss, to 1 where that is
            less.
        outputs: largest difference of an output, relative to the largest output.
        tolerance: what both have to stay below.
    """

    loss: float
    outputs: float
    tolerance: Finite

    @property
    def equal(self) -> bool:
        """Whether they are."""
        return self.loss <= self.tolerance and self.outputs <= self.tolerance


@dataclass(frozen=True, slots=True)
class Landscape:
    """One landscape.

    Attributes:
        model: path as the user typed it, or the class name of a live module.
        format: how it is stored: onnx, torchscript, exported, or module.
        device: where it ran.
        dtype: precision of the run.
        seed: of synthetic data, label-free targets and any randomness inside the model.
        data: the batches.
        loss: name of the loss.
        loss_why: why this one.
        labels: where the labels came from, None without.
        layers: BatchNorm calls in a forward pass.
        moved: parameters that were moved, counted in numbers.
        gradients: forward and backward passes that were run.
        agreement: of the two networks at the weights.
        walks: an entry for each form and network.
        comparisons: an entry for each form.
        groups: an entry for each layer that has parameters, in the order of the module.
        seconds: wall-clock seconds of the walks, the only number that differs between two equal runs.
        versions: of the libraries that computed the numbers.
        notes: what had to be assumed, or was noticed on the way.
    """

    model: str
    format: str
    device: str
    dtype: str
    seed: int
    data: DataInfo
    loss: str
    loss_why: str
    labels: str | None
    layers: Count
    moved: Count
    gradients: Count
    agreement: Agreement
    walks: tuple[Walk, ...]
    comparisons: tuple[Comparison, ...]
    groups: tuple[Group, ...]
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 done, 4 where the two networks are not the same at the weights."""
        return 0 if self.agreement.equal else 4
