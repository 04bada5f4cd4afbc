"""What was written is read back: the same document comes out again, and what it cannot hold is known."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf, isnan, nan
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from bnaudit.documents import InspectionReport, Report
from bnaudit.errors import InputError
from bnaudit.records.finding import Severity
from bnaudit.records.values import Skipped
from bnaudit.render.json_v1 import document_text, read_document
from tests.unit.render.strategies import REPORT

from . import inspect_samples, samples
from .builders import first_order, layer

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("name", samples.ALL)
def test_reports(name: str, channels: bool) -> None:
    text = samples.ALL[name]().to_json(channels=channels)
    assert Report.from_json(text).to_json(channels=channels) == text


@pytest.mark.parametrize("name", samples.ALL)
def test_the_table_of_a_report_that_was_read_is_that_of_the_report(name: str) -> None:
    report = samples.ALL[name]()
    if name in {"not_finite", "sick", "hostile"}:
        return  # a number that is not finite, or a flag of the data, is not in the document
    again = Report.from_json(report.to_json(channels=True))
    assert again.to_table(width=140) == replace(report, inspection=None).to_table(width=140)


@settings(max_examples=80, deadline=None, suppress_health_check=SLOW)
@given(REPORT)
def test_any_report(report: Report) -> None:
    for channels in (False, True):
        text = report.to_json(channels=channels)
        assert Report.from_json(text).to_json(channels=channels) == text


def test_what_was_read_is_what_was_written() -> None:
    report = samples.everything()
    again = Report.from_json(report.to_json(channels=True))
    assert again.model == report.model
    assert again.run == report.run
    assert again.twins == report.twins
    assert (again.fail_on, again.gradient_scale) == (Severity.ERROR, report.gradient_scale)
    for read, was in zip(again.layers, report.layers, strict=True):
        assert read.first_order == was.first_order
        assert read.second_order == was.second_order
        assert read.weight_space == was.weight_space
        assert (read.label, read.gain_batch, read.sigma) == (was.label, was.gain_batch, was.sigma)


def test_numbers_that_are_not_finite_are_read_as_such() -> None:
    odd = layer("bn", order=replace(first_order(1.0), residual=nan, tolerance=inf))
    report = replace(samples.healthy(), layers=(odd,))
    order = Report.from_json(report.to_json()).layers[0].first_order
    assert not isinstance(order, Skipped)
    assert isinstance(order.residual, float)
    assert isnan(order.residual)
    assert order.tolerance == inf


@pytest.mark.parametrize("name", inspect_samples.ALL)
def test_inspections_are_read_but_for_their_vectors(name: str) -> None:
    report = inspect_samples.ALL[name]()
    document = json.loads(report.to_json())
    again, version = read_document(InspectionReport, document)
    assert version == document["tool"]["version"]
    assert again.findings == report.findings
    assert again.inspection == replace(
        report.inspection,
        batchnorms=tuple(
            replace(entry, gamma=None, beta=None, running_mean=None, running_var=None)
            for entry in report.inspection.batchnorms
        ),
    )


@pytest.mark.parametrize(
    ("break_it", "complaint"),
    [
        (lambda d: d["layers"][0].pop("m"), "layers[0].m is missing"),
        (lambda d: d["layers"][1].update(m="64"), "layers[1].m has to be a whole number"),
        (lambda d: d["layers"][0].update(m=True), "layers[0].m has to be a whole number"),
        (lambda d: d["model"].update(path=None), "model.path has to be text"),
        (lambda d: d["model"].update(facts=[]), "model.facts has to be a mapping"),
        (lambda d: d.update(findings={}), "findings has to be a list"),
        (lambda d: d["layers"][0].update(affine=1), "layers[0].affine has to be true or false"),
        (
            lambda d: d["layers"][0]["gain"]["batch"]["median"].update(q25=1e400),
            "layers[0].gain.batch.median.q25 has to be a finite number",
        ),
        (
            lambda d: d["layers"][0]["first_order"].update(statistics="both"),
            "layers[0].first_order.statistics has to be one of batch, running",
        ),
        (
            lambda d: d["findings"].append({"rule": "BN001", "name": "x", "severity": "grave"}),
            "findings[0].severity has to be one of info, warning, error",
        ),
        (lambda d: d["summary"].pop("fail_on"), "fail_on is missing"),
    ],
)
def test_complaints_have_the_path(break_it: Any, complaint: str) -> None:
    document = json.loads(document_text(samples.healthy()))
    break_it(document)
    with pytest.raises(InputError) as caught:
        Report.from_json(json.dumps(document).replace("Infinity", "1e400"))
    assert caught.value.message == f"the report: not a whole report: {complaint}"


def test_a_report_of_an_older_or_a_newer_version_is_read() -> None:
    document = json.loads(document_text(samples.healthy()))
    document["layers"][0]["deployment"] = {"loss": 1.0}  # a key that came later
    del document["layers"][0]["second_order"]  # a group that was not there yet
    read = Report.from_json(json.dumps(document)).layers[0]
    assert read.second_order == Skipped("not requested")
