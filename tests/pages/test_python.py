"""Reports in a notebook, at a prompt, and as a data frame; the signature of `bnaudit.audit`."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import pandas as pd
import polars as pl
import pytest

import bnaudit
from bnaudit.config.options import BY_PARAMETER
from bnaudit.errors import UsageError
from tests.unit.render import samples
from tests.unit.render.sick import sick

LIVE = (
    samples.everything,
    sick,
    samples.not_run,
    samples.hostile,
    samples.no_batchnorm,
)


def test_the_signature_has_every_option_with_its_default() -> None:
    parameters = dict(inspect.signature(bnaudit.audit).parameters)
    assert parameters.pop("model").kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    wanted = {field.name for field in fields(bnaudit.AuditOptions)}
    assert set(parameters) == wanted
    for name in wanted & BY_PARAMETER.keys() - {"data"}:  # a list of files, where it is typed
        default = BY_PARAMETER[name].default
        assert parameters[name].default == (None if default == {} else default), name
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters.values())


def test_what_is_misspelt_is_told_before_anything_runs() -> None:
    misspelt: dict[str, Any] = {"lable": 1}
    with pytest.raises(UsageError, match="audit has no option 'lable', did you mean 'labels'"):
        bnaudit.audit("nosuch.onnx", **misspelt)


def test_options_reach_the_audit() -> None:
    with pytest.raises(UsageError, match="unknown mode 'train'"):
        bnaudit.audit("nosuch.onnx", mode="train")
    with pytest.raises(bnaudit.BnauditError, match="nosuch"):
        bnaudit.audit("nosuch.onnx", kwargs=None, policy=None, input_shapes=None)


def test_a_report_is_one_line_at_a_prompt() -> None:
    assert repr(samples.everything()).startswith("<bnaudit.Report ")
    for make in LIVE:
        line = repr(make())
        assert "\n" not in line
        assert line.isprintable()
        assert len(line) < 300
    report = sick()
    assert f"FAIL, {len(report.layers)} layers, {len(report.findings)} findings" in repr(report)


def test_the_other_documents_too() -> None:
    inspected = bnaudit.inspect("fixtures/tabular_mlp/model.onnx")
    assert repr(inspected) == (
        "<bnaudit.InspectionReport fixtures/tabular_mlp/model.onnx: PASS, "
        f"{len(inspected.inspection.batchnorms)} layers, 1 finding>"
    )
    assert "<iframe" in inspected._repr_html_()
    assert list(inspected.to_frame()["name"]) == [bn.name for bn in inspected.inspection.batchnorms]
    assert inspected.to_html().startswith("<!DOCTYPE html>")
    assert inspected.to_svg().startswith("<svg")


def test_a_frame_has_a_row_a_layer_and_a_column_a_number() -> None:
    report = samples.everything()
    frame = report.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == len(report.layers)
    assert list(frame["name"]) == [layer.name for layer in report.layers]
    found = frame["first_order.measured.median"]
    assert found.dtype == "float64"
    assert list(found) == [
        layer.first_order.measured.median  # type: ignore[union-attr]
        for layer in report.layers
    ]
    assert frame["channels"].dtype == "int64"
    # Where a group is missing as a whole its columns are empty, and no column is called like it.
    odd = sick().to_frame()
    assert odd["first_order.measured.median"].isna().any()
    assert "first_order.measured" not in odd
    assert "first_order" not in odd


def test_a_frame_of_polars_where_there_is_no_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    only = {"polars"}
    monkeypatch.setattr("bnaudit.render.frame.find_spec", lambda name: name in only or None)
    report = sick()
    frame = report.to_frame()
    assert isinstance(frame, pl.DataFrame)
    assert frame["name"].to_list() == [layer.name for layer in report.layers]
    assert frame["first_order.measured.median"].null_count() > 0
    only.clear()
    with pytest.raises(UsageError, match="to_frame needs pandas or polars") as caught:
        report.to_frame()
    assert caught.value.hint == "pip install pandas"
