"""Where new statistics are the wrong remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.recalibration.compared import offset
from bnaudit.records.recalibration import Offset, Refusal
from bnaudit.records.values import Estimate, Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bnaudit.recalibration.passes import Layer, Seen, Statistics
    from bnaudit.records.inspection import Inspection
    from bnaudit.records.recalibration import Average, Recalibration
    from bnaudit.records.run import DataInfo

_APART_MEAN, _APART_VARIANCE = 0.2, 0.7
"""Twice the limits of BN201 and BN202 for a layer: of two calls so far apart one average leaves each beyond
them."""

_LEAST_VALUES = 2


def made_up(data: DataInfo) -> Refusal | None:
    """Synthetic batches and a file's example are not what the network gets."""
    if not data.made_up:
        return None
    what = "synthetic batches" if data.source == "synthetic" else "the example inputs of a file"
    return Refusal(
        "made-up-data", f"{what} are not the data of any task", "pass --data with real samples"
    )


def not_used(stored: Inspection | None, names: Iterable[str]) -> Refusal | None:
    """A file that runs its layers in training mode never uses what it stores."""
    if stored is None:
        return None
    flags = {bn.name: bn.training for bn in stored.batchnorms}
    training = [name for name in names if flags.get(name)]
    if not training or len(training) < len(list(names)):
        return None
    return Refusal(
        "not-used",
        f"the file runs {training[0]} and all others with batch statistics (training mode), and uses none "
        "that it stores",
        "export it in eval mode first",
    )


def apart(seen: Seen, layer: Layer, new: Statistics) -> Offset | Skipped:
    """How far the two calls of a layer are from each other that are farthest, in the layer's new sigma."""
    pools = [seen.pools[layer.name, call] for call in sorted(layer.calls)]
    found = [
        offset(
            (a.mean - b.mean, a.variance),
            (torch.zeros_like(b.mean), b.variance),
            layer.eps,
            scale=new[1] + layer.eps,
        )
        for i, a in enumerate(pools)
        for b in pools[i + 1 :]
    ]
    if not found:
        return Skipped("called once")
    return max(found, key=lambda o: 0.0 if isinstance(o, Skipped) else _size(o))


def _size(found: Offset) -> float:
    return max(found.mean / _APART_MEAN, found.variance / _APART_VARIANCE)


def shared(found: Mapping[str, Offset | Skipped]) -> Refusal | None:
    """One BatchNorm in several places whose inputs differ.

    Args:
        found: layer -> how far its calls are apart.
    """
    far = {n: o for n, o in found.items() if isinstance(o, Offset) and _size(o) > 1}
    if not far:
        return None
    name, worst = max(far.items(), key=lambda item: _size(item[1]))
    more = f" (and {len(far) - 1} more)" if len(far) > 1 else ""
    return Refusal(
        "shared",
        f"{name}{more} is called in several places, whose inputs are {worst.mean:.2g} sigma and a factor of "
        f"{2**worst.variance:.2g} in variance apart (middle channel): one average fits none of them",
        "give each place a BatchNorm of its own (what is in front may stay shared) and train again",
    )


def unusable(statistics: Mapping[str, Statistics], seen: Seen) -> list[Refusal]:
    """Statistics that are no numbers, or of a single value."""
    found = []
    bad = [n for n, (mean, var) in statistics.items() if not torch.isfinite(mean + var).all()]
    if bad:
        found.append(
            Refusal(
                "not-finite",
                f"the statistics of {bad[0]} are not finite on this data",
                "mend what makes them so: weights or inputs with NaN or Inf, or activations beyond the "
                "range of the precision (--dtype float32)",
                final=True,
            )
        )
    few = [n for n in statistics if seen.layer(n).count < _LEAST_VALUES]
    if few:
        found.append(
            Refusal(
                "few-values",
                f"{few[0]} has a single value a channel in all of the data",
                "give more rows",
                final=True,
            )
        )
    return found


def worse(report: Recalibration, *, label_free: bool) -> Refusal | None:
    """The loss rises, or the accuracy falls, beyond its own interval, and batch by batch as well.

    Args:
        report: all but its refusals.
        label_free: whether the loss is none of the network's task, so that the distance to the outputs with
            batch statistics stands for it.
    """
    before = report.before
    was = before.distance if label_free else before.loss
    what = "distance to the outputs with batch statistics" if label_free else "loss"
    told = _rise(what, was, report.change, 1) or _rise(
        "accuracy", before.accuracy, report.accuracy_change, -1
    )
    if told is None:
        return None
    return Refusal(
        "worse",
        told,
        "is this the data that the network is for, and are its labels right? `bnaudit check` says more",
    )


_ENOUGH, _FAR = 4, 0.25
"""Batches below which an interval says little, and the change, of what was, that is refused there anyway."""


def _rise(what: str, was: Average, change: Average, sign: int) -> str | None:
    """How it is told where a quantity changes for the worse, which is up (1) or down (-1)."""
    if not isinstance(was, Estimate) or not isinstance(change, Estimate):
        return None
    near = change.lower if sign > 0 else change.upper
    bound = was.upper if sign > 0 else was.lower
    now = was.mean + change.mean
    if was.n < _ENOUGH and sign * change.mean > _FAR * abs(was.mean):
        return (
            f"the {what} would {'rise' if sign > 0 else 'fall'} from {was.mean:.3g} to {now:.3g}, on "
            f"{was.n} {'batch' if was.n == 1 else 'batches'} alone"
        )
    if isinstance(near, Skipped) or isinstance(bound, Skipped):
        return None
    if sign * near <= 0 or sign * now <= sign * bound:
        return None
    return (
        f"the {what} would {'rise' if sign > 0 else 'fall'} from {was.mean:.3g} to {now:.3g} (95 % interval "
        f"of the change {change.lower:+.2g} to {change.upper:+.2g})"
    )


def explained(report: Recalibration) -> tuple[str, str]:
    """What is said on stderr of a refusal: fact and remedy."""
    serious = [r for r in report.refusals if r.final or not report.forced]
    first = serious[0]
    more = f" (and {len(serious) - 1} more: see the report)" if len(serious) > 1 else ""
    overridden = "" if first.final else "; --force writes it nonetheless"
    return f"not recalibrated: {first.reason}{more}", f"{first.remedy}{overridden}"
