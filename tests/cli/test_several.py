"""Several models in one command, as pre-commit names them, and errors on GitHub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import MLP, RESNET, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Cli = Callable[..., Outcome]

HEALTHY, FOLDED, OTHER = RESNET / "dynamo.onnx", RESNET / "folded.onnx", MLP / "model.onnx"


def test_every_file_has_its_report(cli: Cli) -> None:
    outcome = cli("inspect", HEALTHY, OTHER)
    alone = [cli("inspect", path).out for path in (HEALTHY, OTHER)]
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "\n".join(alone)


def test_the_highest_code_counts_and_a_broken_file_stops_nothing(cli: Cli, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"hello, world")
    outcome = cli("inspect", broken, OTHER)
    assert outcome.code == 2
    assert outcome.lines[0].startswith(f"error: {broken}: ")
    assert outcome.out == cli("inspect", OTHER).out
    assert cli("inspect", FOLDED, broken, OTHER).code == 3
    assert cli("inspect", FOLDED, OTHER, "--allow-no-bn").code == 0


@pytest.mark.parametrize(
    ("option", "fact"),
    [
        (["-o", "report.json"], "--output "),
        (["--baseline", "report.json"], "--baseline "),
        (["--format", "json"], "--format json "),
        (["--format", "sarif"], "--format sarif "),
        (["--format", "junit"], "--format junit "),
    ],
)
def test_what_is_of_one_model_is_refused(cli: Cli, option: list[str], fact: str) -> None:
    outcome = cli("inspect", HEALTHY, OTHER, *option)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.lines[0].startswith(f"error: {fact}")
    assert "several are named" in outcome.lines[0]


def test_check_takes_several_too(cli: Cli) -> None:
    options = ("-m", "first_order", "--batches", 1, "--input-shape", "8x30", "--no-progress")
    outcome = cli("check", FOLDED, OTHER, *options)
    alone = [cli("check", path, *options).out for path in (FOLDED, OTHER)]
    assert (outcome.code, outcome.err) == (3, "")
    assert outcome.out == "\n".join(alone)


@pytest.mark.parametrize("command", ["check", "inspect"])
def test_a_file_without_report_is_an_annotation_too(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my net.onnx").write_bytes(b"hello, world")
    outcome = cli(command, "my net.onnx", "--format", "github", "--no-progress")
    assert outcome.code == 2
    assert outcome.out.count("\n") == 1
    assert outcome.out.startswith("::error file=my net.onnx,line=1,title=bnaudit failed::")
    assert "not a model file" in outcome.out
    assert summary.read_text(encoding="utf-8").startswith("### bnaudit: `my net.onnx`\n\n")
    assert "error: my net.onnx: not a model file" in outcome.err


@pytest.mark.parametrize("command", ["check", "inspect"])
def test_a_suppressed_rule_still_says_why_nothing_was_audited(cli: Cli, command: str) -> None:
    outcome = cli(command, FOLDED, "--ignore", "BN001", "--format", "github", "-q")
    assert outcome.code == 3
    assert "folded into the weights" in outcome.lines[0]
    assert "optimize=False" in outcome.lines[1]


@pytest.mark.parametrize("command", ["check", "inspect"])
def test_one_file_for_two_reports_is_refused(cli: Cli, tmp_path: Path, command: str) -> None:
    path = tmp_path / "report.json"
    outcome = cli(command, FOLDED, "-o", path, "-o", f"sarif={path}")
    assert outcome.code == 2
    assert outcome.lines[0] == f"error: --output names {path} twice"
    assert not path.exists()
