"""`--data matched` on the command line: what the page says, and where the word is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import bnaudit
from bnaudit.cli import run
from bnaudit.config import relocate
from bnaudit.data.synthetic import is_matched
from bnaudit.errors import UsageError

FIXTURES = Path(__file__).parents[2] / "fixtures" / "tabular_mlp"
MODEL = str(FIXTURES / "model.onnx")
Capture = pytest.CaptureFixture[str]
SHORT = ("--batches", "1", "--match-steps", "20", "-m", "first_order")


def called(capsys: Capture, *args: str) -> tuple[int, str, str]:
    code = run(list(args))
    return (code, *capsys.readouterr())


def test_the_page_says_how_near_the_batches_are(capsys: Capture) -> None:
    done = called(capsys, "check", MODEL, "--data", "matched", *SHORT)
    assert done[0] == 0, done[2]
    assert "MATCHED to the running statistics in 20 steps" in " ".join(done[1].split())
    assert "mismatch" in done[1]


def test_the_document_has_it_all(capsys: Capture) -> None:
    done = called(capsys, "check", MODEL, "--data", "matched", *SHORT, "--format", "json")
    document = json.loads(done[1])
    data = document["run"]["data"]
    assert data["source"] == "matched"
    assert data["matching"]["steps"] == [20]
    assert data["matching"]["end"] < 1e-3 < data["matching"]["start"]
    assert all(layer["mismatch"]["mean"] < 0.05 for layer in document["layers"])
    again = called(capsys, "check", MODEL, "--data", "matched", *SHORT, "--format", "json")
    other = json.loads(again[1])
    for found in (document, other):
        del found["run"]["seconds"]
    assert document == other


def test_the_default_run_says_that_it_exists(capsys: Capture) -> None:
    done = called(capsys, "check", MODEL, "--batches", "1", "-m", "first_order")
    assert "--data matched comes nearer" in " ".join(done[1].split())


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (("check", MODEL, "-d", "matched", "-d", "more.npz"), "beside other data"),
        (
            ("check", MODEL, "-d", "matched", "--labels", "y"),
            "labels do not go with --data matched",
        ),
        (("recalibrate", MODEL, "-d", "matched", "--dry-run"), "nothing new can be computed"),
        (("init", str(FIXTURES / "start.pt"), MODEL, "-d", "matched"), "init makes no matched"),
    ],
)
def test_where_the_word_is_refused(capsys: Capture, command: tuple[str, ...], error: str) -> None:
    done = called(capsys, *command)
    assert done[0] == 2
    assert error in done[2]


def test_a_file_of_that_name(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with np.load(FIXTURES / "batch.npz") as batch, (tmp_path / "matched").open("wb") as file:
        np.savez(file, x=batch["x"][:32])
    done = called(capsys, "check", MODEL, "-d", "./matched", *SHORT, "--format", "json")
    assert json.loads(done[1])["run"]["data"]["source"] == "file"


def test_the_word_in_a_configuration_is_no_path() -> None:
    assert relocate.data(("matched",), "below") == ("matched",)
    assert relocate.data(("./matched",), "below") == (str(Path("below", "matched")),)
    assert relocate.data(("./matched",), ".") == (f".{os.sep}matched",)


def test_the_word_from_python() -> None:
    assert is_matched("matched")
    assert is_matched(["matched"])
    assert not is_matched(["./matched"])
    assert not is_matched(None)
    with pytest.raises(UsageError, match="beside other data"):
        is_matched(["matched", "x.npz"])
    report = bnaudit.audit(
        MODEL, data="matched", batches=1, match_steps=3, metrics=("first_order",)
    )
    assert report.run is not None
    assert report.run.data.matching is not None
