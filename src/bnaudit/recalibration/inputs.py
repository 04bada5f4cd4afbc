"""Whether the inputs are other ones than the model was trained on: new statistics would hide it.

The layers that read inputs get the same whatever the others do. Where they are off as a whole,
transformations that go wrong in practice are undone one at a time, and the layers measured again:

    scale   x/k, with k^2 the middle channel's ratio of variances
    shift   (x - b)/k, with b by least squares from what adding 1 to the inputs does to the means
    order   the colour channels in reverse
    pixels  what torchvision calls normalisation, left out or done twice, of images of three channels

Statistics of other weights are not undone by any of them: a handful of numbers cannot mend all channels.
A factor of the weights in front is as good an explanation as one of the inputs, so it counts only where there
are layers behind, which normalise it away, and they agree with what they store. Statistics at their initial
values belong to no inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from bnaudit.data.preprocessing import is_image, undone
from bnaudit.recalibration.compared import offset
from bnaudit.records.recalibration import Refusal
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from bnaudit.data.batch import Batch
    from bnaudit.recalibration.passes import Layer, Passes, Seen, Statistics

_MEAN, _VARIANCE = 0.1, 0.35
"""Limits of BN201 and BN202 for a layer as a whole, from 216 healthy networks."""

_LEFT = 0.25
"""Of the offset, which an explanation may leave."""

_BATCHES = 4
_CAUSES = {
    "inputs-not-normalised": "the images look as if nobody had normalised them",
    "inputs-normalised-twice": "the images look normalised twice",
    "channels-reversed": "the colour channels look reversed",
}


def suspicious_inputs(passes: Passes, before: Seen, batch: Seen) -> Refusal | None:
    """The transformation that explains the layers that read inputs, or None.

    Args:
        passes: runs the data.
        before: with the stored statistics.
        batch: with batch statistics.
    """
    first = [
        layer
        for layer in passes.layers.values()
        if layer.stored is not None
        and not _is_at_start(layer.stored)
        and _same(before, batch, layer.name)
    ]
    off = _off(first, before) if first else None
    if off is None or off < 1:
        return None
    search = _Search(passes, first)
    left, told, scaled = min(search.candidates(before), key=lambda c: c[0])
    if left > max(_LEFT * off, _LEFT) or (scaled and not _quiet(passes, first, batch)):
        return None
    names = ", ".join(layer.name for layer in first[:3])
    return Refusal(
        "inputs",
        f"{told}: then {names} would agree with what is stored",
        "feed what training fed (range, mean and std, channel order), unless the deployed network gets this "
        "on purpose",
    )


def _is_at_start(stored: Statistics) -> bool:
    """Whether they were never updated: no inputs belong to them."""
    return not bool(stored[0].any()) and bool((stored[1] == 1).all())


def _same(a: Seen, b: Seen, name: str) -> bool:
    one, two = a.layer(name), b.layer(name)
    sigma = two.variance.sqrt() + 1e-12
    mean = bool(((one.mean - two.mean).abs() <= 1e-3 * sigma).all())
    return mean and bool(((one.variance.sqrt() - two.variance.sqrt()).abs() <= 1e-3 * sigma).all())


def _off(layers: list[Layer], seen: Seen) -> float | None:
    """The worst of the layers, in units of their limits; None where that is not a number."""
    worst = 0.0
    for layer in layers:
        pool = seen.layer(layer.name)
        if layer.stored is None:
            return None
        found = offset((pool.mean, pool.variance), layer.stored, layer.eps)
        if isinstance(found, Skipped):
            return None
        worst = max(worst, found.mean / _MEAN, found.variance / _VARIANCE)
    return worst


def _quiet(passes: Passes, first: list[Layer], batch: Seen) -> bool:
    """Whether most layers behind agree with what they store, each by itself."""
    behind = [
        layer for layer in passes.layers.values() if layer not in first and layer.stored is not None
    ]
    found = [_off([layer], batch) for layer in behind]
    return bool(found) and sum(value is not None and value < 1 for value in found) * 2 >= len(found)


@dataclass(frozen=True, slots=True)
class _Search:
    passes: Passes
    first: list[Layer]

    def candidates(self, before: Seen) -> Iterator[tuple[float, str, bool]]:
        """What each leaves of the offset, how it is told, and whether it only scales or shifts."""
        yield float("inf"), "", False
        k = self._factor(before)
        if k is not None and abs(k - 1) > 0.05:  # else it is no scale
            yield self._left(lambda x: x / k), f"the inputs look {_times(k)}", True
        b = self._shift(k or 1.0)
        if b is not None:
            told = f"the inputs look shifted by {b:+.3g}"
            if abs((k or 1.0) - 1) > 0.05:
                told += f" and {_times(k or 1.0)}"
            yield self._left(lambda x: (x - b) / (k or 1.0)), told, True
        images = [x for x in self.passes.batches[0].inputs if is_image(x)]
        for place, (cause, number, _) in enumerate(undone(images[0]) if images else ()):
            told = _CAUSES[cause] + ("" if number is None else f" (values up to {number:.0f})")
            yield self._left(partial(_undone, place), images=True), told, False

    def _factor(self, seen: Seen) -> float | None:
        ratios = [
            (seen.layer(layer.name).variance / layer.stored[1]).log2()
            for layer in self.first
            if layer.stored is not None
        ]
        known = torch.cat(ratios)
        known = known[known.isfinite()]
        middle = float(known.quantile(0.5)) if known.numel() else 0.0
        return float(2 ** (middle / 2)) if abs(middle) < 60 else None  # no overflow

    def _shift(self, k: float) -> float | None:
        """B of (x - b)/k: the means fall by b S/k, S what 1 more of the input adds to them."""
        plain = self._seen(lambda x: x / k)
        more = self._seen(lambda x: x / k + 1)
        top, bottom = 0.0, 0.0
        for layer in self.first:
            if plain is None or more is None or layer.stored is None:
                return None
            sigma = (layer.stored[1] + layer.eps).sqrt()
            slope = (more.layer(layer.name).mean - plain.layer(layer.name).mean) / sigma
            gap = (plain.layer(layer.name).mean - layer.stored[0]) / sigma
            top, bottom = top + float((slope * gap).sum()), bottom + float(slope.square().sum())
        return k * top / bottom if bottom > 0 else None

    def _left(self, undo: Callable[[Tensor], Tensor], *, images: bool = False) -> float:
        seen = self._seen(undo, images=images)
        left = None if seen is None else _off(self.first, seen)
        return float("inf") if left is None else left

    def _seen(self, undo: Callable[[Tensor], Tensor], *, images: bool = False) -> Seen | None:
        changed = [_changed(b, undo, images=images) for b in self.passes.batches[:_BATCHES]]
        try:
            return replace(self.passes, batches=changed).run("running")
        except Exception:  # a model that takes no such inputs: then they are not the explanation
            return None


def _times(k: float) -> str:
    return f"{k:.3g} times too large" if k > 1 else f"{1 / k:.3g} times too small"


def _undone(place: int, x: Tensor) -> Tensor:
    return next(y for n, (_, _, y) in enumerate(undone(x)) if n == place)


def _changed(batch: Batch, undo: Callable[[Tensor], Tensor], *, images: bool) -> Batch:
    inputs = tuple(
        undo(x) if x.is_floating_point() and (is_image(x) or not images) else x
        for x in batch.inputs
    )
    return replace(batch, inputs=inputs)
