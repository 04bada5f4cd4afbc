"""BatchNorm over training: what `watch` writes while it runs, what `trend` says of a run's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from bnaudit.records.values import NOT_REQUESTED, Count, Finite, Limits, Skipped

Number = float | Skipped

Direction = Literal["fell", "rose", "none"]
"""Where the interval of a change says so; "none" is no clear trend."""

AXES = ("step", "epoch", "number", "order")
"""What places a checkpoint: a step or an epoch, a bare number of its name, or its place in the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerState:
    """One BatchNorm layer at one moment of training.

    Attributes:
        name: of the layer.
        channels: their number.
        gain: |gamma|/sqrt(running_var + eps), as stored: the middle channel.
        gain_minimum: the smallest channel's.
        gain_maximum: the largest channel's.
        leak: eps/(running_var + eps), as stored: the middle channel; 1 for a constant one.
        leak_maximum: the largest channel's.
        dead_gamma: channels whose |gamma| is below a thousandth of the layer's largest.
        batch_gain: |gamma|/sigma with what the layer normalised with in this pass: the middle channel.
        batch_leak: eps/sigma^2 of the same: the middle channel.
        measured: |g|/|G|, the gradient norm at the layer's input over that at its output, from autograd.
        predicted: the same from the closed form.
        removed: share of the gradient energy that BatchNorm projects out.
        dead_gradient: channels that no gradient reaches in this pass.
    """

    name: str
    channels: Count
    gain: Number
    gain_minimum: Number
    gain_maximum: Number
    leak: Number
    leak_maximum: Number
    dead_gamma: Count | Skipped
    batch_gain: Number = NOT_REQUESTED
    batch_leak: Number = NOT_REQUESTED
    measured: Number = NOT_REQUESTED
    predicted: Number = NOT_REQUESTED
    removed: Number = NOT_REQUESTED
    dead_gradient: Count | Skipped = NOT_REQUESTED


@dataclass(frozen=True, slots=True)
class WatchRecord:
    """One line of `bnaudit.watch`: a training pass that was looked at.

    Attributes:
        model: the class of the watched module.
        step: which one it is, as `counts` says.
        counts: what a step is: a forward pass in training mode with gradients ("passes"), an update of the
            optimizer ("updates"), or a number that the caller gave ("given").
        passes: training passes before this one.
        seconds: since the watch began.
        loss: of this pass, where it was given.
        layers: the BatchNorm layers, in the order of the pass; those that did not run come last.
    """

    model: str
    step: Count
    counts: Annotated[str, Limits(among=("passes", "updates", "given"))]
    passes: Count
    seconds: Finite
    loss: Number
    layers: tuple[LayerState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One checkpoint of a run, or one line of `watch`.

    Attributes:
        path: the file.
        line: in a file of `watch`, from 1; None of a checkpoint.
        place: where it stands on the axis; None where nothing says so.
        loss: as `watch` was told.
        missing: why nothing is taken from it, None where it is read.
        note: what is odd about it, None where nothing is.
        layers: BatchNorm layers in it.
    """

    path: str
    line: int | None = None
    place: float | None
    loss: Number = NOT_REQUESTED
    missing: str | None = None
    note: str | None = None
    layers: Count = 0


@dataclass(frozen=True, slots=True)
class Course:
    """One positive quantity over the run: Theil-Sen's line through its logarithm, and Kendall's tau.

    Attributes:
        first: its first value.
        last: its last value.
        change: factor from the first place to the last along the line: exp(slope (x_last - x_first)).
        lower: lower end of its 95 % interval (Sen, 1968), widened for residuals that follow each other.
        upper: its upper end.
        tau: Kendall's tau-b of the values and their places: 1 rising, -1 falling throughout.
        values: how many values there are.
        direction: "fell" where Kendall's S is beyond what chance gives (95 %), and the last three values are
            below the first three, by 1 % at least; "rose" likewise.
        half_at: where half of the change, from the first value to the last, is behind for good; None
            without a direction.
        late: the direction over the later half of the run.
    """

    first: float
    last: float
    change: float
    lower: float
    upper: float
    tau: float
    values: Count
    direction: Direction
    half_at: float | None
    late: Direction


@dataclass(frozen=True, slots=True)
class LayerTrend:
    """One layer over the run.

    Attributes:
        name: of the layer.
        channels: their number.
        gain: |gamma|/sigma, as stored, over the run.
        batch_gain: |gamma|/sigma of the passes that were run.
        leak: eps/sigma^2, as stored.
        measured: |g|/|G| of the passes that were run.
        dead_first: channels that gamma switches off at first.
        dead_last: and in the end.
        states: the layer at each moment that is read; None where it is not in it.
    """

    name: str
    channels: Count
    gain: Course | Skipped
    batch_gain: Course | Skipped
    leak: Course | Skipped
    measured: Course | Skipped
    dead_first: Count | Skipped
    dead_last: Count | Skipped
    states: tuple[LayerState | None, ...]


@dataclass(frozen=True, slots=True)
class Trend:
    """One run.

    Attributes:
        runs: what was named.
        code: the network's code, where the checkpoints were run with it.
        axis: what places the checkpoints.
        moments: the checkpoints and lines, in order; those that cannot be placed come last.
        network: |gamma|/sigma of the network over the run: the middle layer's of those that every moment has.
        network_of: whether that is of the stored statistics ("stored") or of the passes ("batch").
        layers: the BatchNorm layers, in the network's order.
        versions: of the libraries that computed measured numbers.
        notes: what had to be assumed, or was noticed on the way.
    """

    runs: tuple[str, ...]
    code: str | None
    axis: Annotated[str, Limits(among=AXES)]
    moments: tuple[Moment, ...]
    network: Course | Skipped
    network_of: Literal["stored", "batch"]
    layers: tuple[LayerTrend, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def read(self) -> tuple[Moment, ...]:
        """The moments that `LayerTrend.states` are of."""
        return tuple(moment for moment in self.moments if moment.missing is None)
