"""How far a network moved from its start, weight by weight, and what BatchNorm makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from bnaudit.records.run import DataInfo
from bnaudit.records.values import Count, Finite, Limits, Skipped

Value = float | Skipped
Share = Annotated[Value, Limits(minimum=0, maximum=1)]


@dataclass(frozen=True, slots=True)
class Alignment:
    """Lemma 4.5 of Santurkar et al. (2018) for one start W0 and one trained weight W.

    Attributes:
        k: <W0,W> / |W|^2; of all points on the line through W, kW is nearest to W0.
        cosine: of the angle theta between W0 and W.
        start_norm: |W0|.
        trained_norm: |W|.
        distance: |W0 - W|.
        gain: |W0 - W|^2 - |W0 - kW|^2 = (k - 1)^2 |W|^2, by how much kW is nearer to the start than
            W. Skipped for k <= 0, where kW is not on the ray of W and is another function.
        gain_share: gain / |W0 - W|^2.
        ray_distance: from W0 to the ray of W: |W0| sin(theta), or |W0| where k <= 0.
    """

    k: Value
    cosine: Value
    start_norm: float
    trained_norm: float
    distance: float
    gain: Value
    gain_share: Value
    ray_distance: Value


@dataclass(frozen=True, slots=True)
class Range:
    """A value over the rows that have it.

    Attributes:
        minimum: the smallest.
        median: the middle.
        maximum: the largest.
    """

    minimum: float
    median: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Rows:
    """The lemma for every output row by itself: each can be rescaled without the others.

    Attributes:
        axis: which axis of the weight counts output channels.
        groups: of a transposed convolution, 1 otherwise.
        axis_from: who says so: "operator", "batchnorm" (its channel count) or "assumed".
        count: how many rows.
        used: rows with a nonzero trained weight; shares are of these.
        positive: share with k > 0.
        gaining: share with k > 0 and a gain above 0.
        gain_total: the gains of all rows with k > 0 together, at least that of the whole weight
            where all k > 0.
        k, cosine, start_norm, trained_norm, gain, ray_distance: over the rows that have one.
    """

    axis: int
    groups: int
    axis_from: Annotated[str, Limits(among=("operator", "batchnorm", "assumed"))]
    count: int
    used: int
    positive: Share
    gaining: Share
    gain_total: Value
    k: Range | Skipped
    cosine: Range | Skipped
    start_norm: Range | Skipped
    trained_norm: Range | Skipped
    gain: Range | Skipped
    ray_distance: Range | Skipped


@dataclass(frozen=True, slots=True)
class ScaleChange:
    """What rescaling the weight does to the loss.

    Attributes:
        factor: k.
        change: |L(kW) - L(W)| / |L(W)|.
    """

    factor: Finite
    change: Value


@dataclass(frozen=True, slots=True)
class ScaleTest:
    """Scale invariance of a weight that feeds a BatchNorm, on one batch in float64.

    Attributes:
        changes: of the loss, by factor; only eps keeps them from 0.
        largest_change: the largest of them; only eps keeps it from 0.
        radial: largest over rows of |<w_j, dL/dw_j>| / (|w_j| |dL/dw_j|): how far the gradient is
            from perpendicular to the weight.
        residual: largest over rows of |<w_j, dL/dw_j> - leak gamma dL/dgamma_j| / (|w_j|
            |dL/dw_j|): an exact identity, so rounding alone. Skipped where the run has no float64
            gradient.
        tolerance: what `residual` has to stay below.
    """

    changes: tuple[ScaleChange, ...]
    largest_change: Value
    radial: Value
    residual: Value
    tolerance: float

    @property
    def broken(self) -> bool:
        """Whether autograd contradicts the identity."""
        return not isinstance(self.residual, Skipped) and not self.residual <= self.tolerance


@dataclass(frozen=True, slots=True)
class WeightReport:
    """One weight in both files.

    Attributes:
        name: its name, with wrappers' prefixes removed.
        shape: its sizes.
        followed: whether its output goes to a BatchNorm and nowhere else: "yes", "no", "unknown".
        batchnorm: that layer, None where `followed` is not yes.
        followed_from: who says so: "run", "graph" or "names" (a guess that a checkpoint allows).
        alignment: the lemma for the whole weight, or why not.
        rows: the lemma row by row, or why not.
        scale: scale invariance, in float64.
    """

    name: str
    shape: tuple[Count, ...]
    followed: Annotated[str, Limits(among=("yes", "no", "unknown"))]
    batchnorm: str | None
    followed_from: Annotated[str, Limits(among=("run", "graph", "names"))]
    alignment: Alignment | Skipped
    rows: Rows | Skipped
    scale: ScaleTest | Skipped


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One of the two files.

    Attributes:
        path: as the user typed it.
        kind: "PyTorch checkpoint", "safetensors", "ONNX" or "TorchScript".
        tensors: floating-point tensors in it.
        prefix: wrappers' prefixes removed from its names ("module."), or "".
    """

    path: str
    kind: str
    tensors: Count
    prefix: str


@dataclass(frozen=True, slots=True)
class Unfed:
    """A BatchNorm call that no weight feeds alone.

    Attributes:
        batchnorm: its label.
        reason: why not.
    """

    batchnorm: str
    reason: str


@dataclass(frozen=True, slots=True)
class InitRun:
    """The run of the trained network, on one batch with batch statistics in float64.

    Attributes:
        device: where it ran.
        seed: of synthetic data and randomness inside the model.
        data: the batch.
        loss: name of the loss.
        loss_why: why this one.
        labels: where the labels came from, None without.
        value: the loss at the trained weights.
        unfed: BatchNorm calls that no weight feeds alone.
        versions: of the libraries that computed it.
        notes: what had to be assumed.
    """

    device: str
    seed: int
    data: DataInfo
    loss: str
    loss_why: str
    labels: str | None
    value: Value
    unfed: tuple[Unfed, ...]
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InitReport:
    """One comparison. `weights` are in the trained file's order.

    Attributes:
        start: the file with the initial weights.
        trained: the file with the trained ones.
        identical: whether every compared weight is the same in both.
        run: how the trained network was run, on one batch with batch statistics; None where it was
            not.
        weights: what was compared, in the trained file's order.
        notes: what the user should know.
    """

    start: FileInfo
    trained: FileInfo
    identical: bool
    run: InitRun | Skipped
    weights: tuple[WeightReport, ...]
    notes: tuple[str, ...] = ()
