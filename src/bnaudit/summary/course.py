"""Whether a quantity rose or fell over a run, by how much, and when.

The values y > 0 are compared in logarithms at their places x. Theil and Sen: the slope is the median of
(y_j - y_i)/(x_j - x_i) over all pairs, and its interval cuts the ordered slopes where Kendall's
S = sum sign(y_j - y_i) is at the edge of what chance gives, z sd(S): at (N -+ z sd(S))/2 of N pairs,

    Var(S) = (n(n-1)(2n+5) - sum_ties t(t-1)(2t+5)) / 18.

Source: P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, JASA 63 (1968).
Neighbouring checkpoints are alike whatever the trend, and the variance is that of independent values: it is
multiplied with n/n_eff of the residuals' first autocorrelation r (Yue and Wang, Water Resources Management
18, 2004), 1 + 2 sum_k (1 - k/n) r^k. The residuals are those of the best monotone course, not of the line:
a fall that levels off is no noise (docs/trend.md has how often that errs). Below five values there is no
interval.
Nothing is said of what a longer run would do, and what wanders without a drift may seem to have one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, exp, isfinite, log, sqrt
from statistics import median
from typing import TYPE_CHECKING

from bnaudit.records.training import Course, Direction
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    Points = list[tuple[float, float]]

FEWEST = 5
"""Four values that all rise do so by chance one time in twelve, both directions taken together."""
MOST = 250
"""Values; of more, medians of neighbours are taken: the pairs grow with their square."""
SMALLEST = 0.01
"""Ends that differ by less give no direction: bfloat16 rounds by 0.4 %."""
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
    line = theil_sen(points)
    direction = _direction(points, line)
    late = [p for p in points if p[0] >= (points[0][0] + points[-1][0]) / 2]
    return Course(
        first=found[0][1],
        last=found[-1][1],
        change=_exp(line.slope * span),
        lower=_exp(line.low * span),
        upper=_exp(line.high * span),
        tau=line.tau,
        values=len(found),
        direction=direction,
        half_at=None if direction == "none" else _half(points, direction),
        late=_direction(late, theil_sen(late)) if len(late) >= FEWEST else "none",
    )


def _exp(value: float) -> float:
    return exp(value) if value < 700 else float("inf")


@dataclass(frozen=True, slots=True)
class Line:
    """A slope and what it rests on.

    Attributes:
        slope: the middle one of all pairs.
        low, high: ends of its interval, infinite for want of values.
        tau: Kendall's tau-b.
        excess: Kendall's S over what chance gives it: beyond -1 or 1 there is a trend.
    """

    slope: float
    low: float
    high: float
    tau: float
    excess: float


def _direction(points: Points, line: Line) -> Direction:
    """The sign of S where it is beyond chance, and the ends say the same and differ by enough."""
    first, last = _ends(points)
    if len(points) < FEWEST or abs(last - first) < log(1 + SMALLEST):
        return "none"
    if line.excess > 1 and last > first:
        return "rose"
    return "fell" if line.excess < -1 and last < first else "none"


def _ends(points: Points) -> tuple[float, float]:
    """The middle of the first three values and of the last three."""
    return median([y for _, y in points[:3]]), median([y for _, y in points[-3:]])


def theil_sen(points: Points) -> Line:
    """The line through some points."""
    slopes = sorted(
        (y2 - y1) / (x2 - x1) for i, (x1, y1) in enumerate(points) for x2, y2 in points[i + 1 :]
    )
    n, pairs, slope = len(points), len(slopes), median(slopes)
    ties = Counter(y for _, y in points).values()
    variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18
    rising, falling = sum(s > 0 for s in slopes), sum(s < 0 for s in slopes)
    sign = 1 if rising >= falling else -1
    ys = [y for _, y in points]
    fitted = _monotone([sign * y for y in ys])
    residuals = [y - sign * z for y, z in zip(ys, fitted, strict=True)]
    width = _Z * sqrt(variance * _inflation(residuals))
    lower, upper = round((pairs - width) / 2), round((pairs + width) / 2) + 1  # from 1
    whole = n >= FEWEST and lower >= 1 and upper <= pairs
    return Line(
        slope,
        slopes[lower - 1] if whole else -float("inf"),
        slopes[upper - 1] if whole else float("inf"),
        (rising - falling) / sqrt(pairs * max(rising + falling, 1)),
        (rising - falling) / width if width else 0.0,
    )


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


def _half(points: Points, direction: Direction) -> float:
    """The first place behind which all values are beyond half of the way from the first to the last."""
    sign = 1 if direction == "rose" else -1
    middle = sum(_ends(points)) / 2
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
