"""Two ways to new statistics.

One pass: every layer normalises with the statistics of its batch, and what went in is pooled. Behind the
first layers the result depends on how the rows were cut into batches, and is not quite what the deployed
network will send there.

Front to back: each layer's statistics are of what the mended layers in front of it send. A layer's input
depends on those in front alone, so that with

    s_(j+1) = the statistics of what every layer gets while all normalise with s_j

the first j layers have their final statistics after j passes, whatever s_0 was. It ends when nothing moves
any more, at most after as many passes as there are layers, and depends neither on the order of the rows nor
on the batch size. It begins with one pass over large batches, in which each layer normalises with what it
would store of its batch: where that is all of the data, nothing moves in the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnaudit.recalibration.passes import Passes, Seen, Statistics

_SETTLED = 1e-4
"""Of sigma, and relative to the variance: a thousand rows know neither to better than 0.03."""


def one_pass(
    seen: Seen, names: Sequence[str], rounded: Callable[[str, Statistics], Statistics]
) -> dict[str, Statistics]:
    """The statistics of what each layer got.

    Args:
        seen: a pass.
        names: of the layers.
        rounded: a layer's statistics, as its file can hold them.
    """
    found = {}
    for name in names:
        pool = seen.layer(name)
        found[name] = rounded(name, (pool.mean, pool.unbiased))
    return found


def front_to_back(
    passes: Passes,
    start: Mapping[str, Statistics],
    rounded: Callable[[str, Statistics], Statistics],
) -> tuple[dict[str, Statistics], Seen, int]:
    """The statistics behind the mended layers; the pass that ran with them; and how many passes it took.

    Args:
        passes: runs the data.
        start: of a pass.
        rounded: a layer's statistics, as its file can hold them.
    """
    current = dict(start)
    seen = passes.run("running", current)
    taken = 1
    for _ in range(len(passes.layers)):
        following = one_pass(seen, list(current), rounded)
        if all(_close(passes, name, current[name], following[name]) for name in current):
            break
        current = following
        seen = passes.run("running", current)
        taken += 1
    return current, seen, taken


def _close(passes: Passes, name: str, a: Statistics, b: Statistics) -> bool:
    scale = b[1] + passes.layers[name].eps
    mean = (a[0] - b[0]).abs() / scale.sqrt()
    variance = (a[1] - b[1]).abs() / scale
    settled = (mean <= _SETTLED) & (variance <= _SETTLED)
    # What is not finite never settles, and is refused.
    return bool((settled | ~scale.isfinite()).all())
