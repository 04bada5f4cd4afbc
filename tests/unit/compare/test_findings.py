"""Which finding is which, and when one got worse."""

from __future__ import annotations

from typing import Any

import pytest

from bnaudit.compare.match import (
    BETTER,
    ONE_BATCH,
    ROUNDING,
    SAME,
    WORSE,
    beyond,
    graded,
    match_findings,
)
from bnaudit.records.finding import Severity
from bnaudit.records.snapshot import Quantity

from .makers import finding

ABOVE = {"threshold": 0.5}
BELOW = {"threshold": 16.0}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, SAME),
        ({"severity": Severity.ERROR}, {}, BETTER),
        ({}, {"severity": Severity.ERROR}, WORSE),
        ({"observed": 1.0, **ABOVE}, {"observed": 1.1, **ABOVE}, WORSE),
        ({"observed": 1.1, **ABOVE}, {"observed": 1.0, **ABOVE}, BETTER),
        ({"observed": 8.0, **BELOW}, {"observed": 4.0, **BELOW}, WORSE),
        ({"observed": 4.0, **BELOW}, {"observed": 8.0, **BELOW}, BETTER),
        ({"observed": 1.0, **ABOVE}, {"observed": 1 + ROUNDING / 2, **ABOVE}, SAME),
        (
            {"observed": 1.0, "interval": (0.9, 1.1), **ABOVE},
            {"observed": 1.2, "interval": (1.05, 1.3), **ABOVE},
            SAME,
        ),
        (
            {"observed": 1.0, "interval": (0.9, 1.1), **ABOVE},
            {"observed": 1.3, "interval": (1.2, 1.4), **ABOVE},
            WORSE,
        ),
        ({"observed": 1.0, "interval": (0.9, 1.1), **ABOVE}, {"observed": 1.05, **ABOVE}, SAME),
        ({"observed": 1.0, **ABOVE}, {"observed": 1.2, "interval": (0.9, 1.5), **ABOVE}, SAME),
        ({"observed": 1.0}, {"observed": 9.0}, SAME),
        ({"observed": 1.0, **ABOVE}, {"observed": None, **ABOVE}, WORSE),
        ({"observed": None, **ABOVE}, {"observed": 1.0, **ABOVE}, BETTER),
        ({"channels": (1, 2)}, {"channels": (1, 2, 5)}, WORSE),
        ({"channels": (1, 2)}, {"channels": (1,)}, BETTER),
        ({"channels": (1, 2)}, {"channels": ()}, SAME),
        ({"channels": (1,), "observed": 1.0, **ABOVE}, {"channels": (1, 2), "observed": 1.0, **ABOVE}, SAME),
        ({}, {"layer": None}, WORSE),
        ({"layer": None}, {}, SAME),
        ({"observed": 1.0, "severity": Severity.ERROR, **ABOVE}, {"observed": 9.0, **ABOVE}, BETTER),
    ],
)  # fmt: skip
def test_grades(old: dict[str, Any], new: dict[str, Any], expected: int) -> None:
    change, why = graded(finding(**old), finding(**new))
    assert change == expected
    assert bool(why) == (expected != SAME)


def test_the_other_way_round_is_the_opposite() -> None:
    numbers = [Quantity(v, v - w, v + w) for v in (1.0, 1.2, 2.0, -1.0) for w in (0.0, 0.05, 0.5)]
    numbers += [Quantity(v, v, v, spread_known=False) for v in (1.0, 30.0, -1.0, 0.0)]
    for one in numbers:
        assert beyond(one, one) == 0
        for other in numbers:
            assert beyond(one, other) == -beyond(other, one)


def test_one_batch_has_no_spread_of_its_own() -> None:
    old = Quantity(1.0, 1.0, 1.0, spread_known=False)
    assert beyond(old, Quantity(ONE_BATCH * 0.9, 0, 0)) == 0
    assert beyond(old, Quantity(ONE_BATCH * 1.1, 0, 0)) == 1
    assert beyond(old, Quantity(0.9 / ONE_BATCH, 0, 0)) == -1
    assert beyond(old, Quantity(-1.0, 0, 0)) == -1


def test_rule_and_layer_are_the_identity() -> None:
    old = [finding(), finding("BN202"), finding(layer="b")]
    new = [finding(layer="b", message="other words 3"), finding(message="x"), finding("BN203")]
    match = match_findings(old, new, {})
    assert [(a.rule, a.layer) for a, _ in match.pairs] == [("BN201", "b"), ("BN201", "a")]
    assert match.new == (new[2],)
    assert match.gone == (old[1],)


def test_two_facts_of_one_rule_are_told_apart_by_their_words() -> None:
    gradient = finding("BN101", message="the gradient differs by 1.1e-02")
    curvature = finding("BN101", message="the curvature differs by 0.3")
    match = match_findings(
        [gradient, curvature], [finding("BN101", message="the curvature differs by 5e-3")], {}
    )
    assert [a for a, _ in match.pairs] == [curvature]
    assert match.gone == (gradient,)


def test_a_renamed_layer_keeps_its_findings() -> None:
    match = match_findings([finding(layer="bn")], [finding(layer="norm")], {"bn": "norm"})
    assert len(match.pairs) == 1
    assert not match_findings([finding(layer="bn")], [finding(layer="norm")], {}).pairs


def test_a_finding_of_the_whole_model_stands_for_those_of_its_layers() -> None:
    parts = [finding(layer="a"), finding(layer="b")]
    whole = finding(layer=None)
    split = match_findings([whole], parts, {})
    assert (len(split.pairs), split.new, split.gone) == (2, (), ())
    joined = match_findings(parts, [whole], {})
    assert (len(joined.pairs), joined.new, joined.gone) == (1, (), ())
    assert match_findings([finding("BN202", None)], parts, {}).new == tuple(parts)


def test_nothing_is_matched_twice() -> None:
    match = match_findings([finding()], [finding(), finding()], {})
    assert (len(match.pairs), len(match.new)) == (1, 1)
