"""Batches that normalise otherwise than training did: what they do not support is not claimed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bnaudit.judge.examples.channels import spread, uniform
from bnaudit.judge.examples.report import report, with_channels
from bnaudit.judge.verdicts import judge
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from bnaudit.records.report import Report

ODD: list[dict[str, Any]] = [{"batch_size": 1}, {"batch_size": 3}, {"sorted_by_label": True}]


def on(subject: Report, mode: str = "batch", **data: Any) -> Report:
    assert subject.run is not None
    run = subject.run
    return replace(subject, run=replace(run, mode=mode, data=replace(run.data, **data)))


def drifting(place: int) -> Report:
    return with_channels(**{f"l{place}": {"mean_drift": uniform(2.0)}})


def severities(subject: Report) -> list[tuple[str, Severity]]:
    return [(finding.rule, finding.severity) for finding in judge(subject).findings]


@pytest.mark.parametrize("data", ODD, ids=str)
def test_a_later_layer_is_not_accused(data: dict[str, Any]) -> None:
    (finding,) = judge(on(drifting(2), **data)).findings
    assert (finding.rule, finding.severity) == ("BN201", Severity.INFO)
    assert "normalises otherwise than training did" in finding.confidence


@pytest.mark.parametrize("data", ODD, ids=str)
def test_the_first_layer_is_judged_all_the_same(data: dict[str, Any]) -> None:
    assert severities(on(drifting(0), **data)) == [("BN201", Severity.ERROR)]


@pytest.mark.parametrize("data", [*ODD, {}], ids=str)
def test_running_statistics_are_the_same_in_any_batch(data: dict[str, Any]) -> None:
    assert severities(on(drifting(2), "running", **data)) == [("BN201", Severity.ERROR)]


def test_four_mixed_rows_are_enough() -> None:
    assert severities(on(drifting(2), batch_size=4)) == [("BN201", Severity.ERROR)]


@pytest.mark.parametrize("data", ODD, ids=str)
def test_the_loss_of_such_batches_is_not_that_of_inference(data: dict[str, Any]) -> None:
    healthy = report()
    assert healthy.run is not None
    lost = replace(healthy.run, loss=replace(healthy.run.loss, value=spread(2.9)))
    subject = replace(healthy, run=lost)
    assert severities(subject) == [("BN208", Severity.WARNING)]
    assert severities(on(subject, **data)) == []
    assert severities(on(subject, "running", **data)) == [("BN208", Severity.WARNING)]
