"""BN209 on two losses side by side: what counts, what it names, and what it recommends."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bnaudit.judge.examples.deployment import deployment, estimate
from bnaudit.judge.examples.report import report
from bnaudit.judge.verdicts import judge
from bnaudit.records.deployment import Evidence, LayerGap, Located, Outcome
from bnaudit.records.finding import Severity
from bnaudit.records.values import Estimate, Skipped

if TYPE_CHECKING:
    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report


def found(subject: Report) -> list[Finding]:
    return [f for f in judge(subject).findings if f.rule == "BN209"]


def with_losses(running: float, batch: float, margin: float = 0.02, **loss: Any) -> Report:
    subject = report()
    assert subject.run is not None
    compared = replace(deployment(running, batch), gap=estimate(running - batch, margin))
    run = replace(subject.run, loss=replace(subject.run.loss, **loss))
    return replace(subject, run=run, deployment=compared)


@pytest.mark.parametrize(
    ("running", "batch", "margin", "severity"),
    [
        (1.02, 0.105, 0.1, Severity.ERROR),
        (1.3, 1.0, 0.04, Severity.ERROR),
        (1.2, 1.0, 0.04, Severity.WARNING),
        (1.3, 1.0, 0.2, None),  # not sure
        (1.1, 1.0, 0.01, None),  # healthy networks are that far apart
        (0.04, 0.01, 0.001, None),  # a tenth of a guess, 0.23, stands for so small a loss
        (0.08, 0.01, 0.001, Severity.ERROR),
        (0.5, 1.0, 0.01, None),
    ],
)
def test_how_much_worse(
    running: float, batch: float, margin: float, severity: Severity | None
) -> None:
    assert [f.severity for f in found(with_losses(running, batch, margin))] == (
        [] if severity is None else [severity]
    )


def test_a_loss_that_nobody_can_guess_is_held_against_itself() -> None:
    assert not found(with_losses(0.08, 0.05, 0.001, guess=None))
    assert found(with_losses(0.2, 0.05, 0.001, guess=None))


def test_one_batch_has_to_be_far_off() -> None:
    alone = Skipped("one batch has no spread")
    for running, fires in ((2.0, False), (4.5, True)):
        subject = with_losses(running, 1.0)
        single = Estimate(running - 1.0, alone, alone, 1)
        compared = replace(deployment(running, 1.0), gap=single)
        assert bool(found(replace(subject, deployment=compared))) == fires


def test_without_labels_the_outputs_count() -> None:
    subject = with_losses(9.0, 1.0, label_free=True, guess=None)
    near = replace(deployment(), distance=estimate(0.45))
    far = replace(deployment(), distance=estimate(0.8))
    assert not found(replace(subject, deployment=near))
    (finding,) = found(replace(subject, deployment=far))
    assert "0.8" in finding.message
    assert "--labels" in finding.fix


def test_a_loss_that_is_not_finite_as_deployed() -> None:
    reason = Skipped("the loss is not finite in 3 of 8 batches")
    compared = replace(deployment(), running=Outcome(reason, reason), gap=reason)
    (finding,) = found(replace(report(), deployment=compared))
    assert finding.severity is Severity.ERROR
    assert "not finite in 3 of 8" in finding.message


def located(recomputed: float = 0.2, *evidence: Evidence) -> Report:
    subject = with_losses(1.1, 0.1)
    where = Located(3, 1.1, 1.0, 0.01, recomputed, evidence)
    shares = (LayerGap(0.1, Skipped("small")), LayerGap(0.6, 0.5), LayerGap(0.29, 0.9))
    layers = [
        replace(layer, gap=share)
        for layer, share in zip(
            subject.layers, (*shares, LayerGap(0.0, Skipped("small"))), strict=True
        )
    ]
    compared = replace(deployment(1.1, 0.1), gap=estimate(1.0, 0.05), located=where)
    return replace(subject, layers=tuple(layers), deployment=compared)


def test_the_layer_whose_mending_helps_most_is_named() -> None:
    subject = located()
    (finding,) = found(subject)
    assert finding.layer == subject.layers[2].label
    shares = [f"0.6 from {subject.layers[1].label}", f"0.29 from {subject.layers[2].label}"]
    assert all(share in finding.message for share in shares)
    assert subject.layers[3].label not in finding.message
    assert "recalibrate" in finding.fix


def test_recomputing_is_no_remedy_where_it_does_not_reach() -> None:
    assert "recalibrate" not in found(located(0.9))[0].fix


@pytest.mark.parametrize(
    ("evidence", "said", "fix"),
    [
        (Evidence("inputs-scaled", 255.0, 0.99), "255 times", "divide"),
        (Evidence("inputs-shifted", 0.5, 0.99), "0.5 was added", "subtract"),
        (Evidence("channels-reversed", None, 0.97), "RGB", "order of training"),
        (Evidence("other-resolution", 2.0, 0.7), "2 times the resolution", "resize"),
        (Evidence("initial-statistics", 0.12, 0.99), "12%", "recalibrate"),
        (Evidence("inputs-not-normalised", 255.0, 0.99), "division by 255", "normalise"),
        (Evidence("single-row-statistics", None, 0.98), "single row", "larger batches"),
        (
            Evidence("edited-layers", 1.0, 0.98),
            "statistics of 1 layer fit nothing",
            "compute the running statistics again",
        ),
        (
            Evidence("other-weights", 9.0, 0.96),
            "statistics of 9 layers do not fit",
            "compute the running statistics again",
        ),
    ],
)
def test_a_cause_comes_with_its_number_and_its_remedy(
    evidence: Evidence, said: str, fix: str
) -> None:
    (finding,) = found(located(0.2, evidence))
    assert said in finding.message
    assert f"{evidence.explains:.0%}" in finding.message
    assert fix in finding.fix
    assert "no known cause" not in finding.message
    of_inputs = evidence.cause.startswith(("inputs", "channels", "other-resolution"))
    assert finding.layer == located().layers[1 if of_inputs else 2].label


def test_what_is_not_there_is_said() -> None:
    subject = replace(report(), deployment=Skipped("no layer keeps running statistics"))
    reasons = {r.rule: r.reason for r in judge(subject).not_run}
    assert reasons["BN209"] == "no layer keeps running statistics"
