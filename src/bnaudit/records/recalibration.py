"""Running statistics computed again from data: what they were, what they are, and what that does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from bnaudit.records.run import DataInfo
from bnaudit.records.values import NOT_REQUESTED, Count, Estimate, Limits, Skipped

WAYS = ("one-pass", "front-to-back")
"""How statistics are computed: all layers at once with batch statistics, or each behind the mended ones."""


Average = Estimate | Skipped


@dataclass(frozen=True, slots=True)
class Performance:
    """What the network does on the data with one set of statistics.

    Attributes:
        loss: over all rows.
        accuracy: share of right decisions (0 to 1), where the labels are classes.
        distance: |y - y_B| / |y_B - mean y_B| of the outputs y to those with batch statistics, y_B.
    """

    loss: Average
    accuracy: Average
    distance: Average


@dataclass(frozen=True, slots=True)
class Offset:
    """How far what a layer gets is from the statistics that it normalises with, over its channels.

    Attributes:
        mean: middle channel of |mean - running_mean| / sigma_running.
        mean_max: the largest of them.
        variance: middle channel of |log2((var + eps) / (running_var + eps))|.
        variance_max: the largest of them.
    """

    mean: float
    mean_max: float
    variance: float
    variance_max: float


@dataclass(frozen=True, slots=True)
class LayerChange:
    """One BatchNorm layer.

    Attributes:
        name: the name that an audit gives it.
        channels: their number.
        calls: how often it is called in a forward pass.
        values: values a channel that the new statistics are of.
        kept: why its statistics stay as they are, None where they are new.
        before: the deployed network's own inputs to it against what was stored.
        after: the same with the new statistics.
        apart: where it is called several times, how far its calls' inputs are from each other, in the
            layer's new sigma.
        running_mean: new, by channel.
        running_var: new, by channel; unbiased, as the frameworks store it.
    """

    name: str
    channels: Count
    calls: Count
    values: Count
    kept: str | None
    before: Offset | Skipped
    after: Offset | Skipped
    apart: Offset | Skipped
    running_mean: tuple[float, ...] | None = None
    running_var: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why new statistics are the wrong remedy here.

    Attributes:
        case: which of the known reasons.
        reason: the fact, one clause.
        remedy: what to do instead.
        final: whether even --force does not help.
    """

    case: Annotated[
        str,
        Limits(
            among=(
                "shared",
                "inputs",
                "not-finite",
                "made-up-data",
                "not-used",
                "worse",
                "range",
                "few-values",
            )
        ),
    ]
    reason: str
    remedy: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """The written file, loaded again.

    Attributes:
        statistics: largest difference of a stored statistic from the one that was computed, relative to
            the layer's sigma; rounding of the file's type.
        outputs: largest difference of an output on the first batch from the one that was predicted, relative
            to the largest output.
        tolerance: what `outputs` has to stay below.
    """

    statistics: float
    outputs: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class Recalibration:
    """One recalibration.

    Attributes:
        model: path as the user typed it, or the class name of a live module.
        format: how it is stored: onnx, torchscript, exported, checkpoint, safetensors, or module.
        output: the file that was written, None where nothing was.
        way: how the statistics were computed.
        passes: forward passes over the data for that.
        device: where it ran.
        dtype: precision of the run.
        seed: of the order of the rows, and of randomness inside the model.
        data: the batches.
        loss: name of the loss.
        loss_why: why this one.
        labels: where the labels came from, None without.
        layers: an entry for each BatchNorm layer that ran, in execution order.
        batch: with the statistics of each batch, as in training.
        before: as deployed, with the stored statistics.
        after: as deployed, with the new ones.
        change: the loss after minus the loss before, batch by batch; without labels that of the distance.
        accuracy_change: the same of the accuracy.
        recovered: share of the gap between the deployed loss and that with batch statistics that is gone,
            where there is a gap.
        refusals: why this is the wrong remedy.
        forced: whether it was done nonetheless.
        written: the written file, loaded again; Skipped where none was written.
        versions: of the libraries that computed the numbers.
        notes: what had to be assumed, or was noticed on the way.
    """

    model: str
    format: str
    output: str | None
    way: Annotated[str, Limits(among=WAYS)]
    passes: Count
    device: str
    dtype: str
    seed: int
    data: DataInfo
    loss: str
    loss_why: str
    labels: str | None
    layers: tuple[LayerChange, ...]
    batch: Performance
    before: Performance
    after: Performance
    change: Average
    accuracy_change: Average
    recovered: float | Skipped
    refusals: tuple[Refusal, ...] = ()
    forced: bool = False
    written: WrittenFile | Skipped = NOT_REQUESTED
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether nothing is to be written."""
        return any(r.final or not self.forced for r in self.refusals)

    @property
    def exit_code(self) -> int:
        """0 done, 4 refused."""
        return 4 if self.refused else 0
