"""Theil-Sen and Kendall against SciPy, which is there for tests alone; and what counts as a direction."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from bnaudit.records.training import Course
from bnaudit.records.values import Skipped
from bnaudit.summary import course as module
from bnaudit.summary.course import course, theil_sen, thinned


@pytest.mark.parametrize("count", [5, 12, 40])
@pytest.mark.parametrize("ties", [False, True])
def test_slope_interval_and_tau_are_scipys(
    monkeypatch: pytest.MonkeyPatch, count: int, ties: bool
) -> None:
    """SciPy takes the values as independent: so does this without its widening."""
    monkeypatch.setattr(module, "_inflation", lambda _: 1.0)
    rng = np.random.default_rng(count)
    x = np.cumsum(rng.integers(1, 5, count)).astype(float)
    y = rng.normal(size=count) - 0.1 * x
    y = y.round(0) if ties else y
    line = theil_sen(list(zip(x.tolist(), y.tolist(), strict=True)))
    expected = scipy.stats.theilslopes(y, x, 0.95)
    assert line.slope == pytest.approx(expected.slope)
    assert line.low == pytest.approx(expected.low_slope)
    assert line.high == pytest.approx(expected.high_slope)
    assert line.tau == pytest.approx(scipy.stats.kendalltau(x, y).statistic)


def made(values: list[float], places: list[float] | None = None) -> Course:
    found = course(places or list(map(float, range(len(values)))), values)
    assert isinstance(found, Course)
    return found


def test_directions_sizes_and_when() -> None:
    fall = made([exp(-0.1 * i) for i in range(21)])
    assert (fall.direction, fall.late, fall.tau) == ("fell", "fell", -1)
    assert fall.change == pytest.approx(exp(-2))
    assert fall.half_at == pytest.approx(10)
    early = made([8 * 0.5 ** min(i, 4) for i in range(20)])
    assert (early.direction, early.late, early.half_at) == ("fell", "none", 3)
    assert made([1.0, 2, 4, 8, 16, 32]).direction == "rose"
    assert made([1.0] * 10).direction == "none"
    assert made([1 + 1e-4 * i for i in range(10)]).direction == "none"
    assert made([1.0, 3, 2, 3, 1, 2, 3, 1]).direction == "none"


def test_too_few_values_have_no_interval() -> None:
    four = made([8.0, 4, 2, 1])
    assert (four.direction, four.lower, four.upper) == ("none", 0, float("inf"))
    assert made([16.0, 8, 4, 2, 1]).direction == "fell"
    assert course([0.0], [1.0]) == Skipped("one value only")
    assert course([0.0, 1.0], [0.0, float("nan")]) == Skipped("no value is positive and finite")
    assert course([], []) == Skipped("no value")


def test_values_that_are_none_are_left_out() -> None:
    whole = made([16.0, 8, 4, 2, 1, 0.5])
    holes = made(
        [16.0, float("nan"), 8, 0.0, 4, 2, 1, float("inf"), 0.5], [0, 0.5, 1, 1.5, 2, 3, 4, 4.5, 5]
    )
    assert holes == whole


def test_a_wandering_course_has_a_wider_interval() -> None:
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=60))
    shuffled = rng.permutation(walk)
    wide = [made([exp(v) for v in values.tolist()]) for values in (walk, shuffled)]
    assert module._inflation(walk.tolist()) > 3
    assert module._inflation(shuffled.tolist()) < 1.6
    assert all(c.lower <= c.change <= c.upper for c in wide)


def test_the_monotone_course_is_isotonic_regression() -> None:
    values = np.random.default_rng(1).normal(size=50) + 0.05 * np.arange(50)
    expected = scipy.optimize.isotonic_regression(values).x
    assert module._monotone(values.tolist()) == pytest.approx(expected.tolist())


def test_long_runs_are_thinned_without_losing_their_course() -> None:
    values = [exp(-i / 1000) for i in range(5000)]
    points = thinned([(float(i), log(v)) for i, v in enumerate(values)])
    assert len(points) <= module.MOST
    assert (points[0][0], points[-1][0]) == (0, 4999)
    found = made(values)
    assert found.change == pytest.approx(exp(-4.999), rel=1e-6)
    assert found.values == 5000
