"""Ranges of healthy layers: those of the docs, and who is outside."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bnaudit.records.values import Spread
from bnaudit.summary.audit import summarize
from bnaudit.summary.normal import NORMAL, limits, outside
from tests.unit.render import samples
from tests.unit.render.builders import first_order, gain

PAGE = Path(__file__).parents[3] / "docs" / "defects.md"


def test_the_ranges_are_those_of_the_docs() -> None:
    """The bench writes the table in the order of the quantities."""
    found = re.search(r"begin normal -->\n(.*?)<!--", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    rows = found[1].strip().splitlines()[2:]
    assert len(rows) == len(NORMAL)
    for row, normal in zip(rows, NORMAL.values(), strict=True):
        ends = re.search(r"\| ([\d.e-]+) to ([\d.e-]+) \|", row)
        assert ends is not None
        assert (float(ends[1]), float(ends[2])) == (normal.low, normal.high)
        assert normal.gauge == ("(gauge)" in row)


def test_a_random_gradient_is_normal_whatever_m_is() -> None:
    for m in (3, 4, 8, 64, 4096):
        low, high = limits("removed", m, 1e-5)
        assert low == 0
        assert 2 / m < high <= 1
    assert limits("removed", 4, 1e-5)[1] == pytest.approx(0.5 + 0.5 * NORMAL["removed"].high)


def test_leak_goes_with_eps() -> None:
    assert limits("leak", 64, 1e-3)[1] == pytest.approx(100 * limits("leak", 64, 1e-5)[1])
    assert limits("leak", 64, 1.0) == (0.0, 1.0)


def test_layers_outside_are_named_with_value_and_range() -> None:
    report = samples.healthy()
    first, second, *rest = (replace(entry, first_order=first_order(1.2)) for entry in report.layers)
    first = replace(first, gain_batch=gain(10, 72.5, 90, 0))
    second = replace(second, first_order=first_order(1.2, mean=0.3, xhat=0.4))
    report = replace(report, layers=(first, second, *rest))
    found = outside(report)
    assert [(e.layer, e.quantity) for e in found] == [
        (first.label, "gain"),
        (second.label, "removed"),
    ]
    assert found[0].value == 72.5
    assert (found[0].low, found[0].high) == (NORMAL["gain"].low, NORMAL["gain"].high)
    assert found[0].distance == pytest.approx(2.302, abs=1e-3)
    assert summarize(report).outside == found


def test_nothing_is_outside_on_made_up_inputs_running_statistics_or_without_labels() -> None:
    report = samples.healthy()
    odd = replace(report.layers[0], first_order=first_order(99.0))
    report = replace(report, layers=(odd,))
    assert [e.quantity for e in outside(report)] == ["reduction"]
    run = report.run
    assert run is not None
    for other in (
        replace(run, mode="running"),
        replace(run, data=replace(run.data, source="synthetic")),
        replace(run, loss=replace(run.loss, label_free=True)),
    ):
        assert outside(replace(report, run=other)) == ()
    assert outside(replace(report, run=None)) == ()


def test_what_is_not_a_number_is_not_outside() -> None:
    report = samples.healthy()
    nan = float("nan")
    entry = replace(
        report.layers[0],
        gain_batch=replace(gain(1, 1, 1, 0), median=Spread(nan, nan, nan, 4)),
        first_order=first_order(1.2),
    )
    assert outside(replace(report, layers=(entry,))) == ()
