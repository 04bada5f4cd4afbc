"""What an earlier report knows fails nothing, and is told all the same."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from jsonschema import Draft202012Validator

from bnaudit.compare.baseline import held_against
from bnaudit.compare.snapshot import snapshot_of
from bnaudit.documents import read_snapshot
from bnaudit.errors import UsageError
from bnaudit.records.finding import Finding, RuleNotRun, Severity, Suppressed
from bnaudit.records.inspection import BatchNormStatics, Inspection, InspectionReport
from bnaudit.render.formats import Style, formats_of, render
from bnaudit.render.json_v1 import schema_text
from tests.unit.render import samples

from .makers import finding, layers, snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.documents import Report
    from bnaudit.records.snapshot import Snapshot

FIRST = samples.healthy().layers[0].label


def report(*findings: Finding) -> Report:
    return replace(samples.healthy(), findings=findings, fail_on=Severity.WARNING)


def written(done: Report) -> Snapshot:
    return snapshot_of(done, "old.json")


def test_the_same_report_has_nothing_new() -> None:
    one = report(finding(layer=FIRST), finding("BN301", None, severity=Severity.ERROR))
    assert one.exit_code == 1
    against = held_against(one, written(one))
    assert against.exit_code == 0
    assert {f.status for f in against.findings} == {"known"}
    assert against.baseline is not None
    counts = against.baseline
    assert (counts.known, counts.new, counts.worse, counts.gone, counts.notes) == (2, 0, 0, 0, ())


def test_a_path_is_read(tmp_path: Path) -> None:
    one = report(finding(layer=FIRST))
    (tmp_path / "old.json").write_text(one.to_json())
    against = held_against(one, read_snapshot(tmp_path / "old.json"))
    assert against.baseline is not None
    assert (against.exit_code, against.baseline.known) == (0, 1)


def test_new_and_worse_findings_fail() -> None:
    mild = finding(layer=FIRST, observed=0.6, threshold=0.5)
    old = written(report(mild))
    grave = report(replace(mild, observed=0.9))
    assert held_against(grave, old).exit_code == 1
    assert [f.status for f in held_against(grave, old).findings] == ["worse"]
    new = held_against(report(mild, finding("BN202", FIRST)), old)
    assert ([f.status for f in new.findings], new.exit_code) == (["known", "new"], 1)
    assert held_against(replace(grave, fail_on=Severity.ERROR), old).exit_code == 0


def test_gone_is_what_was_mended_not_what_nobody_looked_at() -> None:
    old = written(report(finding(layer=FIRST), finding("BN202", FIRST), finding("BN203", FIRST)))
    now = replace(
        report(),
        rules_not_run=(RuleNotRun("BN202", "x", "no data"),),
        suppressed=(Suppressed(finding("BN203", FIRST), "ignore: BN203"),),
    )
    baseline = held_against(now, old).baseline
    assert baseline is not None
    assert baseline.gone == 1


def test_renamed_layers_are_known() -> None:
    one = report(finding(layer=FIRST))
    old = replace(
        written(one),
        layers=tuple(replace(e, label=f"old.{e.label}") for e in written(one).layers),
        findings=(finding(layer=f"old.{FIRST}"),),
    )
    assert held_against(one, old).exit_code == 0


def test_other_settings_are_told() -> None:
    one = report()
    assert one.run is not None
    other = replace(one, run=replace(one.run, dtype="float64"))
    baseline = held_against(one, written(other)).baseline
    assert baseline is not None
    assert baseline.notes == (
        "made with other settings (dtype float64, now float32): the comparison is limited",
    )
    text = held_against(one, written(other)).to_table()
    assert "note: made with other settings (dtype float64, now float32)" in " ".join(text.split())


def test_no_batchnorm_stays_3() -> None:
    one = samples.no_batchnorm()
    assert held_against(one, written(one)).exit_code == 3


def test_an_inspection_has_a_baseline_too() -> None:
    inspection = Inspection("m.onnx", "onnx", batchnorms=(BatchNormStatics("a", "node 1", 8),))
    now = InspectionReport(inspection, (finding(),), fail_on=Severity.WARNING)
    old = snapshot(finding(), kind="inspection", layers=layers("a"))
    assert (now.exit_code, held_against(now, old).exit_code) == (1, 0)
    with pytest.raises(
        UsageError, match=r"old\.json: the report of an inspection, not of an audit"
    ):
        held_against(report(), old)
    with pytest.raises(
        UsageError, match=r"old\.json: the report of an audit, not of an inspection"
    ):
        held_against(now, snapshot())


def test_every_format_marks_them() -> None:
    mild = finding(layer=FIRST, observed=0.6, threshold=0.5)
    old = written(report(mild, finding("BN202", FIRST)))
    now = held_against(
        report(replace(mild, observed=0.9), finding("BN202", FIRST), finding("BN203", FIRST)), old
    )
    words = [name for name in formats_of("report") if name not in {"svg", "png"}]
    texts = {name: str(render(name, now, Style())) for name in words}
    Draft202012Validator(json.loads(schema_text())).validate(json.loads(texts["json"]))
    for name in set(texts) - {"json", "sarif"}:
        assert all(word in texts[name] for word in ("known", "worse", "new")), name
    states = [r["baselineState"] for r in json.loads(texts["sarif"])["runs"][0]["results"]]
    assert states == ["updated", "unchanged", "new"]
    assert texts["github"].count("::warning") == 2
    assert texts["junit"].count("<failure") == 2
    table = texts["table"]
    assert table.index("worse]") < table.index("new]") < table.index("known]")
    known = held_against(report(finding("BN202", FIRST)), old)
    assert "\nPASS (--baseline): " in known.to_table()
