"""The last sentences of a page: what they say, in which order, and nothing twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bnaudit.judge.examples.deployment import deployment
from bnaudit.records.finding import Finding, Severity, Suppressed
from bnaudit.records.twins import Upstream
from bnaudit.records.values import Skipped
from bnaudit.render.markdown import document_to_markdown
from bnaudit.render.text.ending import ending

from . import samples
from .sick import sick

if TYPE_CHECKING:
    from bnaudit.documents import Report

WORSE = Finding("BN209", "worse-as-deployed", Severity.ERROR, None, "it is 1.02", "recompute")


def normal() -> Report:
    """Without the layer of `everything` whose |g|/|G| is unusual."""
    report = samples.everything()
    return replace(report, layers=report.layers[:6])


def test_the_order() -> None:
    deployed, does, stands_out = ending(normal())
    assert deployed.startswith(
        "As deployed the network does what it was trained to do: loss 0.0600"
    )
    assert "accuracy 97.5% and 98.0%" in deployed
    assert "1.82 times larger, end to end" in does
    assert stands_out == "No layer stands out against 1,026 layers of healthy networks."


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_the_page_says_each_loss_with_its_interval_and_in_the_verdict(width: int) -> None:
    page = " ".join(normal().to_table(width=width).split())
    assert page.count("0.0600 [") == 1
    assert page.count("PASS: deployed loss 0.0600") == 1
    assert page.count("0.0600") == 2
    places = [page.index(s) for s in ("As deployed", "What BatchNorm does", "PASS: ")]
    assert places == sorted(places)
    assert page.index("theory and autograd agree") > places[-1]
    assert all(len(line) <= width for line in normal().to_table(width=width).splitlines())


def test_a_finding_that_has_the_losses_is_not_repeated() -> None:
    report = replace(normal(), findings=(WORSE,), deployment=deployment(1.02))
    assert ending(report)[0] == (
        "As deployed the network does not do what it was trained to do (BN209)."
    )


def test_a_warning_is_told_as_one() -> None:
    mild = replace(WORSE, severity=Severity.WARNING)
    report = replace(normal(), findings=(mild,))
    assert ending(report)[0] == "As deployed the network does worse than in training (BN209)."


def test_a_finding_that_is_silenced_is_a_conclusion_all_the_same() -> None:
    silenced = (Suppressed(WORSE, "ignore: BN209"),)
    told = ending(replace(normal(), suppressed=silenced, deployment=deployment(1.02)))[0]
    assert told.startswith(
        "As deployed the network does not do what it was trained to do (BN209): loss 1.02"
    )


def test_a_smaller_gradient_and_none_measured() -> None:
    smaller = ending(replace(normal(), upstream=Upstream(1.0, 4.0, 3)))[1]
    assert "4.00 times smaller, end to end" in smaller
    skipped = ending(replace(normal(), upstream=Skipped("the model has no parameters")))[1]
    assert "layer by layer" in skipped
    assert "not measured: the model has no parameters" in skipped
    assert "end to end (" not in skipped


def test_without_labels_the_outputs_distance() -> None:
    report = normal()
    assert report.run is not None
    free = replace(report.run, loss=replace(report.run.loss, label_free=True))
    text = ending(replace(report, run=free))[0]
    assert "gives the answers that it gives in training" in text
    assert "loss" not in text


def test_made_up_inputs_say_nothing_of_the_task_or_of_what_is_normal() -> None:
    said = " ".join(ending(sick()))
    assert "deployed" not in said
    assert "healthy networks" not in said


def test_drift_is_told_where_the_finding_is() -> None:
    report = samples.drifted()
    assert "mean drift" in " ".join(ending(report))
    drift = replace(WORSE, rule="BN201", name="mean-drift", layer="stem.bn")
    assert "mean drift" not in " ".join(ending(replace(report, findings=(drift,))))


def test_markdown_has_the_same_sentences() -> None:
    text = document_to_markdown(normal())
    assert "As deployed the network does what it was trained to do" in text
    assert text.count("0.0600") == 2
    assert text.index("As deployed") < text.index("What BatchNorm does")
