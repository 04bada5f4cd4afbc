"""Whether a quantity rose or fell over a run, by how much, and when.

The values y > 0 are compared in logarithms at their places x. Theil and Sen: the slope is the median of
(y_j - y_i)/(x_j - x_i) over all pairs, and its interval cuts the ordered slopes where Kendall's
S = sum sign(y_j - y_i) is at the edge of what chance gives: at (N -+ z sd(S))/2 of N pairs,

    Var(S) = (n(n-1)(2n+5) - sum_ties t(t-1)(2t+5)) / 18.

Source: P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, JASA 63 (1968).
Neighbouring checkpoints are alike whatever the trend, and the variance is that of independent values: it is
multiplied with n/n_eff of the residuals' first autocorrelation r (Yue and Wang, Water Resources Management
18, 2004), 1 + 2 sum_k (1 - k/n) r^k. The residuals are those of the best monotone course, not of the line:
a fall that levels off is no noise (docs/trend.md has how often that errs). Below five values no interval is
finite.
Nothing is said of what a longer run would do, and what wanders without a drift may seem to have one.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import ceil, exp, floor, isfinite, log, sqrt
from statistics import median
from typing import TYPE_CHECKING

from bnaudit.records.training import Course, Direction
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    Points = list[tuple[float, float]]

FEWEST = 5
"""Of four values the 95 % interval of a slope has no ends: 6 pairs, sd(S) = 2.9."""
MOST = 250
"""Values; of more, medians of neighbours are taken: the pairs grow with their square."""
SMALLEST = 0.01
"""A change by less, along the whole run, has no direction: bfloat16 rounds by 0.4 %."""
_Z = 1.96


def course(places: Sequence[float], values: Sequence[float]) -> Course | Skipped:
    """The course of some values; those that are not positive and finite are left out.

    Args:
        places: increasing.
        values: one for each.
    """
    found = [(x, y) for x, y in zip(places, values, strict=True) if isfinite(y) and y > 0]
    if len(found) < 2:
        return Skipped(
            "one value only"
            if found
            else "no value is positive and finite"
            if values
            else "no value"
        )
    points = thinned([(x, log(y)) for x, y in found])
    span = points[-1][0] - points[0][0]
    slope, low, high, tau = theil_sen(points)
    direction = _direction(low, high, slope * span)
    late = [p for p in points if p[0] >= (points[0][0] + points[-1][0]) / 2]
    behind: Direction = "none"
    if len(late) >= FEWEST:
        part, lower, upper, _ = theil_sen(late)
        behind = _direction(lower, upper, part * (late[-1][0] - late[0][0]))
    return Course(
        first=found[0][1],
        last=found[-1][1],
        change=_exp(slope * span),
        lower=_exp(low * span),
        upper=_exp(high * span),
        tau=tau,
        values=len(found),
        direction=direction,
        half_at=_half(points, direction),
        late=behind,
    )


def _exp(value: float) -> float:
    return exp(value) if value < 700 else float("inf")


def _direction(low: float, high: float, change: float) -> Direction:
    """The sign of a slope whose interval is clear of 0, where the change is worth the word."""
    if abs(change) < log(1 + SMALLEST):
        return "none"
    return "rose" if low > 0 else "fell" if high < 0 else "none"


def theil_sen(points: Points) -> tuple[float, float, float, float]:
    """The slope, the ends of its interval (infinite for want of values), and Kendall's tau-b."""
    slopes = sorted(
        (y2 - y1) / (x2 - x1) for i, (x1, y1) in enumerate(points) for x2, y2 in points[i + 1 :]
    )
    n, pairs, slope = len(points), len(slopes), median(slopes)
    ties = Counter(y for _, y in points).values()
    variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18
    rising, falling = sum(s > 0 for s in slopes), sum(s < 0 for s in slopes)
    tau = (rising - falling) / sqrt(pairs * max(rising + falling, 1))
    sign = 1 if rising >= falling else -1
    ys = [y for _, y in points]
    fitted = _monotone([sign * y for y in ys])
    residuals = [y - sign * z for y, z in zip(ys, fitted, strict=True)]
    width = _Z * sqrt(variance * _inflation(residuals))
    lower, upper = floor((pairs - width) / 2), ceil((pairs + width) / 2) + 1  # from 1
    if lower < 1 or upper > pairs:
        return slope, -float("inf"), float("inf"), tau
    return slope, slopes[lower - 1], slopes[upper - 1], tau


def _monotone(values: Sequence[float]) -> list[float]:
    """The rising values next to these in the sum of squares: neighbours that fall are averaged."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        blocks.append((value, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (right, m), (left, n) = blocks.pop(), blocks.pop()
            blocks.append(((left * n + right * m) / (n + m), n + m))
    return [mean for mean, count in blocks for _ in range(count)]


def _inflation(residuals: Sequence[float]) -> float:
    """How much larger the variance of S is for want of independence."""
    n, mean = len(residuals), sum(residuals) / len(residuals)
    off = [r - mean for r in residuals]
    power = sum(r * r for r in off)
    if n < FEWEST or power == 0:
        return 1.0
    r = max(0.0, sum(a * b for a, b in pairwise(off)) / power)
    return 1 + 2 * sum((1 - k / n) * r**k for k in range(1, n))


def _half(points: Points, direction: Direction) -> float | None:
    """The first place behind which all values are beyond half of the way from the first to the last."""
    sign = 1 if direction == "rose" else -1
    first, last = (median([y for _, y in part]) for part in (points[:3], points[-3:]))
    if direction == "none" or sign * (last - first) <= 0:  # it turned on the way
        return None
    middle = (first + last) / 2
    behind = points[-1][0]
    for x, y in reversed(points):
        if sign * (y - middle) < 0:
            break
        behind = x
    return behind


def thinned(points: Points) -> Points:
    """At most `MOST`: medians of as many neighbours as it takes; the ends stay where they are."""
    if len(points) <= MOST:
        return points
    step = ceil((len(points) - 2) / (MOST - 2))
    inner = points[1:-1]
    parts = [inner[i : i + step] for i in range(0, len(inner), step)]
    middles = [(median([x for x, _ in part]), median([y for _, y in part])) for part in parts]
    return [points[0], *middles, points[-1]]
