"""Every sample as the JSON that users parse: key by key, in order, with the reasons for what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bnaudit.judge.catalogue import catalogue
from bnaudit.judge.rule import RuleList
from bnaudit.render.json_v1 import document_text
from tests.golden import documents
from tests.unit.compare import test_diff as differences
from tests.unit.initialisation import samples as starts

from . import inspect_samples, samples

SHOWN = 3  # layers: enough to see each kind


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("name", samples.ALL)
def test_report(name: str, channels: bool) -> None:
    report = samples.ALL[name]()
    report = replace(report, layers=report.layers[:SHOWN] if name != "sick" else report.layers)
    text = report.to_json(channels=channels)
    documents.check(f"report_{name}{'_channels' if channels else ''}", text)


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("name", inspect_samples.ALL)
def test_inspection(name: str, channels: bool) -> None:
    report = inspect_samples.ALL[name]()
    layers = report.inspection.batchnorms[:SHOWN] if name == "healthy" else None
    if layers is not None:
        report = replace(report, inspection=replace(report.inspection, batchnorms=layers))
    text = report.to_json(channels=channels)
    documents.check(f"inspect_{name}{'_channels' if channels else ''}", text)


@pytest.mark.parametrize("name", starts.ALL)
def test_comparison_with_the_start(name: str) -> None:
    documents.check(f"init_{name}", document_text(starts.ALL[name]()))


def test_difference() -> None:
    documents.check("diff_everything", document_text(differences.everything()))


def test_rules() -> None:
    documents.check("rules", document_text(RuleList(catalogue().rules[:4])))
