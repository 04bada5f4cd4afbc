"""What only a process of its own shows: file descriptors, pipes, encodings, noise of libraries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from torch import nn

from tests.cli.conftest import MLP, shell
from tests.load.files import script

if TYPE_CHECKING:
    from pathlib import Path

MODEL, DATA = MLP / "model.onnx", MLP / "batch.npz"


class Talking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print("HELLO from the model")  # noqa: T201
        return self.bn(x)


def test_a_model_that_prints_does_not_spoil_stdout(tmp_path: Path) -> None:
    path = script(Talking().eval(), tmp_path / "m.pt")
    outcome = shell(f"$BN check {path} --input-shape 16x4 --format json")
    assert outcome.code == 0
    assert outcome.document["summary"]["measured"] == 1
    assert "HELLO from the model" in outcome.err


def test_c_code_that_prints_does_not_spoil_stdout(tmp_path: Path) -> None:
    """Written past Python, to the file descriptor, as libtorch's own prints are."""
    (tmp_path / "own.py").write_text(
        "import os, torch, warnings\n"
        "def data():\n"
        "    print('PYTHON')\n"
        "    os.write(1, b'FD\\n')\n"
        "    yield torch.randn(32, 30)\n"
        "def loss(output, labels):\n"
        "    os.write(1, b'LOSS\\n')\n"
        "    warnings.warn('DEPRECATED')\n"
        "    return output.square().sum()\n"
    )
    own = tmp_path / "own.py"
    outcome = shell(f"$BN check {MODEL} --data {own}:data --loss {own}:loss --format json")
    assert outcome.document["run"]["loss"]["name"] == "loss"
    assert set(outcome.lines) == {"PYTHON", "FD", "LOSS"}  # but no warning


def test_a_reader_that_leaves_is_no_error() -> None:
    for command in (f"$BN check {MODEL} --format json", "$BN schema"):
        outcome = shell(f"{command} | head -1; exit ${{PIPESTATUS[0]}}")
        assert (outcome.code, outcome.out, outcome.err) == (0, "{\n", "")
    gone = shell(f"$BN check {MODEL} --format json | true; exit ${{PIPESTATUS[0]}}")
    assert (gone.code, gone.err) == (0, "")


def test_a_full_disk_is_an_error() -> None:
    outcome = shell(f"$BN check {MODEL} > /dev/full")
    assert outcome.code == 2
    assert outcome.lines[0] == "error: stdout: cannot be written (No space left on device)"
    assert "Exception ignored" not in outcome.err


def test_closed_streams_are_no_error() -> None:
    assert shell(f"$BN check {MODEL} >&- 2>&-").code == 0
    silent = shell(f"$BN check {MODEL} --format json 2>&-")
    assert json.loads(silent.out)["summary"]["measured"] == 3


def test_a_narrow_encoding_gets_ascii_and_libraries_stay_quiet(tmp_path: Path) -> None:
    path = tmp_path / "modèle.onnx"
    path.write_bytes(MODEL.read_bytes())
    env = {"PYTHONIOENCODING": "ascii", "PYTHONWARNINGS": "always", "TERM": "dumb"}
    outcome = shell(f"$BN check {path} --data {DATA}", **env)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.isascii()
    assert "PASS" in outcome.out
