"""Several models in one command, as pre-commit names them, and errors on GitHub."""

from __future__ import annotations

import re
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
    assert outcome.out.startswith("\n".join([*alone, "bnaudit "]))
    assert outcome.verdict == "PASS: 2 of 2 models passed; exit code 0"


def test_the_highest_code_counts_and_a_broken_file_stops_nothing(cli: Cli, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"hello, world")
    outcome = cli("inspect", broken, OTHER)
    assert outcome.code == 2
    assert outcome.lines[0].startswith(f"error: {broken}: ")
    assert outcome.out.startswith(cli("inspect", OTHER).out + "\nbnaudit ")
    assert f"✗ {broken}: not a model file" in " ".join(outcome.out.split())
    assert outcome.verdict == "FAIL: 1 of 2 models passed; exit code 2"
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


def test_check_takes_several_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RESNET.parent)
    monkeypatch.setenv("COLUMNS", "140")
    folded, other = (str(path.relative_to(RESNET.parent)) for path in (FOLDED, OTHER))
    options = ("-m", "first_order", "--batches", 1, "--input-shape", "8x30", "--no-progress")
    outcome = cli("check", folded, other, *options)
    alone = [cli("check", path, *options) for path in (folded, other)]
    assert (outcome.code, outcome.err) == (3, "")
    assert outcome.out.startswith("\n".join([*(one.out for one in alone), "bnaudit "]))
    table = outcome.out.rpartition("models  2 models")[2].splitlines()
    lines = {
        line.split()[0]: line.split()[1:]
        for line in table
        if line.startswith(("digits", "tabular"))
    }
    assert lines[folded][:3] == ["NOTHING", "TO", "AUDIT"]
    report = cli("check", other, *options, "--format", "json").document
    word, layers, errors, warnings, _, reduction, *_ = lines[other]
    summary = report["summary"]
    counts = [summary["layers"], summary["findings"]["error"], summary["findings"]["warning"]]
    assert [int(layers), int(errors), int(warnings)] == counts
    assert float(reduction) == pytest.approx(summary["median"]["reduction"], rel=5e-3)
    assert word == alone[1].verdict.partition(":")[0]


def test_one_document_of_all(cli: Cli, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"hello, world")
    files = [tmp_path / f"x.{suffix}" for suffix in ("html", "md", "txt")]
    written = [word for file in files for word in ("-o", file)]
    outcome = cli("inspect", HEALTHY, FOLDED, broken, "--format", "none", *written)
    assert (outcome.code, outcome.out) == (3, "")
    page, markdown, text = (file.read_text() for file in files)
    assert page.count("<h1>") == 1
    assert page.count("<article ") == 2
    for n, path in enumerate((HEALTHY, FOLDED)):
        assert f'<a href="#m{n}">{path}</a>' in page
        assert f'<article id="m{n}"' in page
    assert f'<th scope="row">{broken}</th>' in page
    ids = re.findall(' id="([^"]*)"', page.replace("id={", ""))
    assert len(ids) == len(set(ids))
    for document in (markdown, text):
        for path in (HEALTHY, FOLDED, broken):
            assert document.count(str(path)) >= 1
    assert markdown.startswith("### bnaudit inspect: 3 models\n")
    assert markdown.count("### bnaudit: ") == 2
    assert cli("inspect", HEALTHY).out in text


def test_of_a_folder_all_models_are_meant(cli: Cli, tmp_path: Path) -> None:
    inner = tmp_path / "a" / "inner"
    inner.mkdir(parents=True)
    for name in ("b.ONNX", "a/inner/c.onnx"):
        (tmp_path / name).write_bytes(OTHER.read_bytes())
    (tmp_path / "notes.txt").write_text("not a model")
    outcome = cli("inspect", tmp_path)
    assert outcome.code == 0
    table = outcome.out.rpartition("models  2 models")[2]
    assert table.index("c.onnx") < table.index("b.ONNX")
    # A folder with one model is that model.
    assert cli("inspect", inner).out == cli("inspect", inner / "c.onnx").out
    (inner / "c.onnx").unlink()
    outcome = cli("check", inner)
    assert outcome.code == 2
    assert outcome.lines[0].startswith(f"error: {inner}: a folder without a model file (looked for")


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
