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
    assert known.document["findings"][0]["status"] == "known"
    assert known.document["baseline"] == {
        "path": "few.json", "known": 1, "new": 0, "worse": 0, "gone": 0, "notes": [],
    }  # fmt: skip
    new = cli(*check, "--baseline", good)
    assert new.code == 1
    assert "against good.json: 1 new, 0 worse, 0 known, 0 gone" in new.out
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
        (["good.json", "good.json", "-o", "x.sarif"], "diff writes .json and .txt only"),
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


def test_other_networks_share_no_layer_by_accident(cli: Callable[..., Outcome]) -> None:
    outcome = cli(
        "diff", MLP / "model.onnx", RESNET / "model.onnx", "--run", "--batches", 1,
        "-m", "first_order", "--format", "json", "--fail-on", "never",
    )  # fmt: skip
    layers = outcome.document["layers"]
    assert len(layers["removed"]) >= 1
    assert len(layers["added"]) >= 7
