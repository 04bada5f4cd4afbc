"""Several formats from one run: suffixes, FORMAT=FILE, and the step summary of GitHub Actions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from bnaudit.render.formats import FORMATS, split_output
from tests.cli.conftest import MLP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

AUDIT = ("check", MLP / "model.onnx", "--data", MLP / "batch.npz", "--batches", 2, "-q")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("report.json", "json"),
        ("report.sarif", "sarif"),
        ("report.SARIF.json", "sarif"),
        ("junit.xml", "junit"),
        ("comment.md", "markdown"),
        ("log.txt", "table"),
        ("report.pdf", None),
        ("json", None),
    ],
)
def test_suffixes_say_the_format(name: str, expected: str | None) -> None:
    assert split_output(name) == (expected, name)


def test_one_run_writes_every_format(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    formats = {name: f for name, f in FORMATS.items() if "report" in f.documents}
    named = {name: tmp_path / f"{name}.out" for name in formats}
    by_suffix = [tmp_path / f"r{f.suffix}" for f in formats.values() if f.suffix]
    targets = [f"{name}={path}" for name, path in named.items()]
    outcome = cli(
        *AUDIT, "--format", "none", *(a for t in (*targets, *by_suffix) for a in ("-o", t))
    )
    assert (outcome.code, outcome.out) == (0, "")
    assert json.loads(named["json"].read_text())["schema"] == "bnaudit.report/1"
    assert json.loads(named["sarif"].read_text())["version"] == "2.1.0"
    assert ET.fromstring(named["junit"].read_text()).tag == "testsuites"
    assert named["markdown"].read_text().startswith("### bnaudit")
    assert "PASS" in named["github"].read_text()
    for name, entry in formats.items():
        if entry.suffix:
            assert (tmp_path / f"r{entry.suffix}").read_bytes() == named[name].read_bytes()


def test_an_unknown_suffix_names_what_is_known(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = cli(*AUDIT, "-o", tmp_path / "report.pdf")
    assert outcome.code == 2
    assert ".sarif" in outcome.err
    assert "FORMAT=FILE" in outcome.err


def test_the_step_summary_is_added_to(
    cli: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert cli(*AUDIT, "--format", "json").code == 0
    assert summary.read_text() == "before\n"
    assert cli(*AUDIT, "--format", "github").code == 0
    assert summary.read_text().startswith("before\n### bnaudit")


def test_a_summary_that_cannot_be_written_fails_nothing(
    cli: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    outcome = cli(*AUDIT, "--format", "github")
    assert outcome.code == 0
    assert "note: the step summary cannot be written" in outcome.err


def test_a_full_summary_is_left_alone(
    cli: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_bytes(b"x" * (2**20 - 10))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert cli(*AUDIT, "--format", "github").code == 0
    assert summary.stat().st_size == 2**20 - 10


@pytest.mark.parametrize("name", ["sarif", "junit", "markdown", "github"])
def test_a_model_without_batchnorm_is_told_in_every_format(
    cli: Callable[..., Outcome], name: str
) -> None:
    outcome = cli("check", MLP / "folded.onnx", "--format", name)
    assert outcome.code == 3
    assert "BN001" in outcome.out
    assert "optimize=False" in outcome.out
