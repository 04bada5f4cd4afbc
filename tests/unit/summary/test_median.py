"""The median that summaries and rules share."""

from __future__ import annotations

from math import inf, nan

from bnaudit.summary.gain import median_of, middle


def test_the_median_is_that_of_the_finite_values() -> None:
    assert median_of([nan, 3.0, inf, 1.0, -inf]) == middle([nan, 3.0, inf, 1.0, -inf]) == 2.0
    assert median_of([nan, inf]) is None
    assert middle([nan, inf]) == 0.0
