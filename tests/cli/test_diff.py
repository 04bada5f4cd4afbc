"""`bnaudit diff` on reports and on models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import MLP, RESNET, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

QUICK = ("--data", MLP / "batch.npz", "--batches", 2, "-m", "first_order,statistics")


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def reports(cli: Callable[..., Outcome]) -> tuple[str, str]:
    """A clean report, and one with a finding more (a warning)."""
    check = ("check", MLP / "model.onnx", *QUICK, "--format", "none")
    assert cli(*check, "-o", "good.json").code == 0
    assert cli(*check, "--batch-size", 8, "-o", "few.json").code == 0
    return "good.json", "few.json"


def test_two_reports(cli: Callable[..., Outcome], reports: tuple[str, str]) -> None:
    good, few = reports
    assert cli("diff", good, good).code == 0
    worse = cli("diff", good, few, "--fail-on", "warning")
    assert (worse.code, worse.err) == (1, "")
    assert worse.verdict.startswith("FAIL: 1 regression; findings: 1 appeared")
    assert cli("diff", good, few).code == 0
    mended = cli("diff", few, good, "--fail-on", "info", "--format", "json", "-o", "d.txt")
    assert (mended.code, mended.document["summary"]["gone"]) == (0, 1)
    assert mended.document["settings"][0]["name"] == "batches"
    assert Path("d.txt").read_text().startswith("bnaudit ")


def test_fail_on_comes_from_the_configuration_and_formats_do_not(
    cli: Callable[..., Outcome], reports: tuple[str, str]
) -> None:
    Path("bnaudit.yaml").write_text("fail-on: warning\nformat: sarif\noutput: x.sarif")
    assert cli("diff", *reports).code == 1
    assert cli("diff", *reports, "--fail-on", "never").code == 0
    assert not Path("x.sarif").exists()


def test_a_report_and_a_model(cli: Callable[..., Outcome], reports: tuple[str, str]) -> None:
    outcome = cli("diff", reports[0], MLP / "scripted.pt", *QUICK, "--format", "json")
    assert (outcome.code, outcome.err) == (0, "")
    document = outcome.document
    assert (document["kind"], document["settings"], document["movements"]) == ("audit", [], None)
    assert document["summary"]["numbers"] == 0


def test_a_baseline_is_a_report(cli: Callable[..., Outcome], reports: tuple[str, str]) -> None:
    good, few = reports
    check = ("check", MLP / "model.onnx", *QUICK, "--batch-size", 8, "--fail-on", "warning")
    assert cli(*check).code == 1
    known = cli(*check, "--baseline", few, "--format", "json")
    assert known.code == 0
    assert {f["status"] for f in known.document["findings"]} == {"known"}
    assert known.document["baseline"] == {
        "path": "few.json", "known": 2, "new": 0, "worse": 0, "gone": 0, "notes": [],
    }  # fmt: skip
    new = cli(*check, "--baseline", good)
    assert new.code == 1
    assert "1 new, 0 worse, 1" in new.out
    Path("bnaudit.yaml").write_text("baseline: few.json")
    assert cli(*check).verdict.startswith("PASS (--baseline): ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["good.json"], "Missing argument 'NEW'"),
        (["good.json", "no.json"], "no.json: no such file"),
        (["good.json", "."], ".: cannot be read"),
        (["good.json", "bad.json"], "bad.json:1: not valid JSON"),
        (["good.json", "other.json"], "other.json: JSON, but not a report of bnaudit"),
        (["good.json", MLP / "batch.npz"], "numpy arrays (.npz), not a model"),
        (["good.json", "good.json", "--frozen", "x"], "--frozen needs two model files"),
        (
            ["good.json", "good.json", "-o", "x.sarif"],
            "no format of this command (there are: table, json, html, svg, png)",
        ),
        (["good.json", "good.json", "--fail-on", "bad"], "'bad' is not one of"),
    ],
)
def test_what_cannot_be_compared_is_2(
    cli: Callable[..., Outcome], reports: tuple[str, str], args: list[object], message: str
) -> None:
    Path("bad.json").write_text("{")
    Path("other.json").write_text("{}")
    outcome = cli("diff", *args)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.lines[0]
    assert [line.split(":")[0] for line in outcome.lines[1:]] in ([], ["hint"])
    if args[-1] in {"no.json", "."}:
        assert outcome.lines[1].startswith("hint: diff takes two reports")


def test_other_networks_share_no_layer_by_accident(cli: Callable[..., Outcome]) -> None:
    outcome = cli(
        "diff", MLP / "model.onnx", RESNET / "model.onnx", "--run", "--batches", 1,
        "-m", "first_order", "--format", "json", "--fail-on", "never",
    )  # fmt: skip
    layers = outcome.document["layers"]
    assert len(layers["removed"]) >= 1
    assert len(layers["added"]) >= 7


def test_two_models_are_read_without_being_run(cli: Callable[..., Outcome]) -> None:
    outcome = cli("diff", MLP / "model.onnx", MLP / "dynamo.onnx", "--format", "json")
    assert (outcome.code, outcome.err) == (0, "")
    document = outcome.document
    assert document["kind"] == "inspection"
    assert [m["statistics_moved"] for m in document["movements"]] == [False] * 3
    table = cli("diff", MLP / "model.onnx", MLP / "dynamo.onnx")
    assert "3 layers with the same stored values in both" in table.out


def test_batchnorm_that_was_folded_away_is_a_regression(cli: Callable[..., Outcome]) -> None:
    outcome = cli("diff", MLP / "model.onnx", MLP / "folded.onnx", "--format", "json")
    assert outcome.code == 1
    assert len(outcome.document["layers"]["removed"]) == 3
    assert [f["rule"] for f in outcome.document["findings"]["appeared"]] == ["BN001"]
    nothing = cli("diff", MLP / "folded.onnx", MLP / "folded.onnx")
    assert (nothing.code, "NOTHING TO COMPARE" in nothing.out) == (3, True)


def test_training_moves_everything_and_frozen_layers_tell(cli: Callable[..., Outcome]) -> None:
    models = (MLP / "start.pt", MLP / "state_dict.pt")
    free = cli("diff", *models, "--format", "json", "--fail-on", "never").document
    assert all(m["statistics_moved"] and m["parameters_moved"] for m in free["movements"])
    frozen = cli("diff", *models, "--frozen", "bn1", "--select", "BN001")
    assert frozen.code == 1
    assert "1 frozen layer moved" in frozen.verdict
    typing_error = cli("diff", *models, "--frozen", "bn9")
    assert (typing_error.code, "matches none of the 3 layers" in typing_error.lines[0]) == (2, True)


def test_an_inspection_has_a_baseline_and_a_policy(cli: Callable[..., Outcome]) -> None:
    inspect = ("inspect", MLP / "folded.onnx", "--format", "json")
    first = cli(*inspect, "-o", "i.json", "--allow-no-bn")
    assert first.document["baseline"] is None
    known = cli(*inspect, "--baseline", "i.json", "--allow-no-bn").document
    assert known["baseline"]["known"] == len(first.document["findings"]) == 1
    assert known["findings"][0]["status"] == "known"
    silent = cli(*inspect, "--ignore", "no-batchnorm")
    assert (silent.code, len(silent.document["suppressed"])) == (3, 1)
    assert (
        "1 finding suppressed: BN001" in cli("inspect", MLP / "folded.onnx", "--ignore", "BN0").out
    )
    wrong = cli("inspect", MLP / "model.onnx", "--select", "BN001x")
    assert (wrong.code, "no rule 'BN001x', did you mean 'BN001'?" in wrong.lines[0]) == (2, True)


def test_a_report_of_an_inspection_and_a_model(cli: Callable[..., Outcome]) -> None:
    assert cli("inspect", MLP / "model.onnx", "-o", "i.json", "--format", "none").code == 0
    outcome = cli("diff", "i.json", MLP / "dynamo.onnx", "--format", "json")
    assert (outcome.code, outcome.document["kind"]) == (0, "inspection")
    mixed = cli("diff", "i.json", MLP / "dynamo.onnx", "--run", "-m", "first_order")
    assert (mixed.code, "they cannot be compared" in mixed.lines[0]) == (2, True)
