"""The network before and after, with intervals over the batches, and how far each layer is off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.data.decisions import distance
from bnaudit.measure.estimate import POSITIVE, SHARE, estimate
from bnaudit.records.recalibration import Offset, Performance
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.recalibration.passes import Seen, Statistics
    from bnaudit.records.recalibration import Average

_NO_CLASSES = Skipped("the labels are no classes")
_NO_LABELS = Skipped("no labels given")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Judges passes over the same batches.

    Attributes:
        rows: of each batch.
        label_free: whether the loss is none of the network's task.
        labelled: whether there are labels.
        reference: the pass with batch statistics.
        reach: what the loss can be.
    """

    rows: Sequence[int]
    label_free: bool
    labelled: bool
    reference: Seen
    reach: tuple[float, float]

    def performance(self, seen: Seen) -> Performance:
        """What the network does in a pass."""
        accuracy: Average = _NO_CLASSES if self.labelled else _NO_LABELS
        if len(seen.right) == len(self.rows):
            accuracy = estimate(seen.right, self.rows, "accuracy", SHARE)
        loss: Average = estimate(seen.losses, self.rows, "loss", self.reach)
        if self.label_free:
            loss = Skipped("a loss without labels says nothing about it (pass --labels)")
        return Performance(loss, accuracy, self._distance(seen))

    def change(self, before: Seen, after: Seen) -> Average:
        """Of the loss, or without labels of the distance to the outputs with batch statistics."""
        if not self.label_free:
            pairs = zip(before.losses, after.losses, strict=True)
            return estimate([b - a for a, b in pairs], self.rows, "loss")
        old, new = self._distances(before), self._distances(after)
        if old is None or new is None:
            return Skipped("the outputs are too large to be kept")
        return estimate([b - a for a, b in zip(old, new, strict=True)], self.rows, "distance")

    def accuracy_change(self, before: Seen, after: Seen) -> Average:
        """Of the share of right decisions."""
        if not len(before.right) == len(after.right) == len(self.rows):
            return _NO_CLASSES if self.labelled else _NO_LABELS
        pairs = zip(before.right, after.right, strict=True)
        return estimate([b - a for a, b in pairs], self.rows, "accuracy")

    def _distance(self, seen: Seen) -> Average:
        if seen is self.reference:
            return Skipped("the others are compared with these outputs")
        distances = self._distances(seen)
        if distances is None:
            return Skipped("the outputs are too large to be kept")
        return estimate(distances, self.rows, "distance", POSITIVE)

    def _distances(self, seen: Seen) -> list[float] | None:
        found = []
        for y, reference in zip(seen.outputs, self.reference.outputs, strict=True):
            if y is None or reference is None:
                return None
            found.append(distance(y, reference))
        return found


def offset(
    found: tuple[Tensor, Tensor], against: Statistics, eps: float, scale: Tensor | None = None
) -> Offset | Skipped:
    """How far a mean and a variance are from others, in the units of an audit's drift.

    Args:
        found: of the data.
        against: stored.
        eps: of the layer.
        scale: sigma^2 that means are divided by, where it is not the stored one.
    """
    sigma_sq = against[1] + eps
    mean = ((found[0] - against[0]) / (sigma_sq if scale is None else scale).sqrt()).abs()
    variance = ((found[1] + eps) / sigma_sq).log2().abs()
    if not bool(mean.isfinite().all() and variance.isfinite().all()):
        return Skipped("running statistics or activations are not finite")
    return Offset(
        float(mean.quantile(0.5)),
        float(mean.max()),
        float(variance.quantile(0.5)),
        float(variance.max()),
    )
