"""BN211: what must fire, and what must not."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import pytest

from bnaudit.judge.examples.report import matched, report
from bnaudit.judge.rules.unmatched_statistics import RULE
from bnaudit.judge.verdicts import judge

if TYPE_CHECKING:
    from bnaudit.records.report import Report


def told(subject: Report) -> list[tuple[str | None, tuple[int, ...]]]:
    return [(f.layer, f.channels) for f in judge(subject).findings if f.rule == RULE.id]


def test_the_layer_and_its_channels() -> None:
    assert told(matched(block1={3: 2.4, 7: 0.9})) == [("block1.bn", (3, 7))]


def test_neighbours_that_are_pulled_along_are_not_told_of() -> None:
    assert told(matched(stem={1: 0.8}, block1={3: 2.4})) == [("block1.bn", (3,))]


def test_two_layers_alike_are_both_told_of() -> None:
    assert [layer for layer, _ in told(matched(stem={1: 2.0}, head={3: 2.4}))] == [
        "stem.bn",
        "head.bn",
    ]


@pytest.mark.parametrize("left", [0.49, inf])
def test_what_is_near_or_no_statistics_is_quiet(left: float) -> None:
    assert told(matched(block1={3: left})) == []


def test_a_calls_layer_is_told_once() -> None:
    subject = matched(block1={3: 2.4})
    again = replace(subject.layers[1], call=2)
    subject = replace(subject, layers=(*subject.layers, again))
    assert told(subject) == [("block1.bn", (3,))]


def test_why_it_does_not_run() -> None:
    reasons = {r.rule: r.reason for r in judge(report()).not_run}
    assert "--data matched" in reasons[RULE.id]
    subject = matched()
    assert subject.run is not None
    assert subject.run.data.matching is not None
    matching = replace(subject.run.data.matching, kept=("mask: why",))
    run = replace(subject.run, data=replace(subject.run.data, matching=matching))
    reasons = {r.rule: r.reason for r in judge(replace(subject, run=run)).not_run}
    assert "mask: why" in reasons[RULE.id]


def test_rules_that_would_be_circular_say_so() -> None:
    reasons = {r.rule: r.reason for r in judge(matched()).not_run}
    assert "circular" in reasons["BN201"]
