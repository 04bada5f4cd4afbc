"""How many batches: until every layer's median is known well enough, or the data end.

Of B independent values of a distribution with median M each lies below M with probability 1/2, whatever the
distribution: how many do is binomial, and with x_(1) <= ... <= x_(B) in order

    P(M outside [x_(k), x_(B+1-k)]) = 2 P(Bin(B, 1/2) < k).

The interval is that of the largest k for which this is at most 5 %/4. It is looked at 4 times at most, at 8,
16, 32 and 64 batches (earlier where the data end), and the run stops at the first look at which it is narrow
in every layer: by Bonferroni's inequality the interval of the last look misses M in at most 5 % of the runs,
however it was stopped. Of fewer than 8 batches there is no such interval (2/2^7 = 1.6 %): these say so. It
holds for each layer by itself, for |g|/|G| over batches like these, which are spread over the data.
"""

from __future__ import annotations

from dataclasses import replace
from math import comb, isfinite
from typing import TYPE_CHECKING

from bnaudit.data.digest import digest
from bnaudit.measure.collect import Selection, go_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.data.batch import Batch
    from bnaudit.measure.collect import Collected
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress

LOOKS = (8, 16, 32, 64)
"""Batches at which the medians are looked at."""

_MISS = 0.05 / len(LOOKS)

NARROW = 0.05
"""Of the median: how far its interval may reach from it."""

_BUDGET = 5e7
"""Values that further batches may send through BatchNorm layers, forward and backward: some seconds on one
core. A count and not a time, so that equal runs give equal numbers."""


def rank(count: int) -> int:
    """The k of the interval [x_(k), x_(count+1-k)] around a median; 0 where there is none."""
    below, k = 0, 0
    while 2 * (below + comb(count, k)) <= _MISS * 2**count:
        below, k = below + comb(count, k), k + 1
    return k


def reach(values: Sequence[float]) -> float | None:
    """How far the interval of the median reaches from it, as a share of it; None where there is none."""
    ordered, k = sorted(values), rank(len(values))
    if k == 0:
        return None
    median = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    far = max(ordered[-k] - median, median - ordered[k - 1])
    return 0.0 if far == 0 else far / abs(median) if median else None


def widest(collected: Collected) -> float | None:
    """Of all layers the largest reach of an interval, for |g|/|G|; None where no layer has one."""
    found: dict[tuple[str, int], list[float]] = {}
    for records in collected.batches:
        for r in records:
            if r.moments is not None and r.obstacle is None:
                out_sq = float(r.moments.grad_out_sq.sum())
                ratio = float(r.moments.grad_in_sq.sum()) / out_sq if out_sq > 0 else float("nan")
                found.setdefault(r.key, []).append(ratio**0.5)
    reaches = [reach(list(filter(isfinite, values))) for values in found.values()]
    known = [r for r in reaches if r is not None]
    return max(known) if known and len(known) == len(reaches) else None


def affordable(batches: Sequence[Batch], collected: Collected, budget: float) -> int:
    """How many batches send no more than so many values through BatchNorm layers.

    Args:
        batches: those that there are.
        collected: the batches before, of the same size.
        budget: values.
    """
    values = sum(r.m * r.channels for r in collected.batches[0])
    return min(len(batches), int(budget // max(values, 1)))


def until_sure(
    session: Session, collected: Collected, options: AuditOptions, progress: Progress
) -> Session:
    """Runs further batches where nobody said how many, and says why no more.

    Args:
        session: the model and its batches.
        collected: the first-order pass, which goes on.
        options: how many, in which mode, for which layers.
        progress: told of each batch.

    Returns:
        The session with the batches that were run.
    """
    batches = session.batches
    if batches.info.made_up or not collected.batches:
        return session
    affords = affordable(batches.further, collected, _BUDGET)
    looks, within = iter(LOOKS[1:]), widest(collected)
    stopped = "asked" if options.batches is not None else ""
    while not stopped:
        look = next(looks, 0)
        count = min(look - len(batches.items), len(batches.further), affords)
        if within is not None and within <= NARROW:
            stopped = "medians"
        elif count > 0:
            more, rest = tuple(batches.further[:count]), batches.further[count:]
            runs = session.execution, session.placed.namer, more
            go_on(collected, *runs, options.mode, Selection(options.layers), progress)
            batches = replace(batches, items=(*batches.items, *more), further=rest)
            affords, within = affords - count, widest(collected)
        elif batches.further:
            stopped = "cost" if look else "most"
        else:
            stopped = "stream" if batches.info.order == "given" else "data"
    info = replace(batches.info, batches=len(batches.items), stopped=stopped, within=within)
    if info.digest is not None and len(batches.items) > len(session.batches.items):
        drawn = (batches.labels_from or "").startswith("drawn")  # made here, and not read
        read = (replace(b, labels=None) if drawn else b for b in batches.items)
        info = replace(info, digest=digest(batches.names, read))
    return replace(session, batches=replace(batches, info=info))
