"""`bnaudit init` as users call it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from jsonschema import Draft202012Validator

from bnaudit.cli import run
from bnaudit.render.json_v1 import schema_text
from tests.unit.initialisation import files

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

DIGITS = files.FIXTURES / "digits_resnet"
BATCH = str(DIGITS / "batch.npz")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return files.save_state(tmp_path / "start.pt", files.start_of("digits_resnet").state_dict())


def called(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = run(["init", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out, err


def test_two_checkpoints(capsys: pytest.CaptureFixture[str], start: Path) -> None:
    code, out, err = called(capsys, start, DIGITS / "state_dict.pt")
    assert (code, err) == (0, "")
    told = " ".join(out.split())  # where lines end depends on how long the paths are
    assert "RESULT: k > 0 in 10 of 10 weights before a BatchNorm" in told
    assert "scale invariance not tested" in told
    assert max(map(len, out.splitlines())) <= 100


def test_json_and_files(capsys: pytest.CaptureFixture[str], start: Path, tmp_path: Path) -> None:
    args = (start, DIGITS / "model.onnx", "--data", BATCH, "--format", "json")
    code, out, _ = called(capsys, *args, "-o", tmp_path / "r.json", "-o", tmp_path / "r.txt")
    assert code == 0
    document = json.loads(out)
    Draft202012Validator(json.loads(schema_text("init"))).validate(document)
    assert document["summary"]["scale_tested"] == 10
    assert (tmp_path / "r.json").read_text() == out
    assert "identity" in (tmp_path / "r.txt").read_text(encoding="utf-8")
    code, out, _ = called(capsys, start, DIGITS / "state_dict.pt", "--format", "none")
    assert (code, out) == (0, "")


def test_no_run_all_and_layers(capsys: pytest.CaptureFixture[str], start: Path) -> None:
    code, out, _ = called(
        capsys,
        start,
        DIGITS / "model.onnx",
        "--no-run",
        "--all",
        "--layers",
        "bn1.*",
        "--format",
        "json",
    )
    assert code == 0
    document = json.loads(out)
    assert [w["name"] for w in document["weights"]] == ["bn1.weight", "bn1.bias"]
    assert document["skipped"] == [{"metric": "run", "reason": "not requested"}]


def test_safetensors_against_a_wrapped_checkpoint(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    state: dict[str, Tensor] = files.start_of("digits_resnet").state_dict()
    start = files.save_safetensors(tmp_path / "s.safetensors", state)
    wrapped = {f"module.{n}": t for n, t in files.trained_state("digits_resnet").items()}
    trained = files.save_state(tmp_path / "t.pth", {"epoch": 3, "model": wrapped})
    code, out, _ = called(capsys, start, trained)
    assert code == 0
    assert "names without 'module.'" in out
    assert "10 of 10 weights" in out


def test_identical_files(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = called(capsys, DIGITS / "state_dict.pt", DIGITS / "scripted.pt", "--no-run")
    assert code == 0
    assert "IDENTICAL: every compared weight is the same in both files (k = 1)" in out


def test_a_network_that_cannot_be_run_is_still_compared(
    capsys: pytest.CaptureFixture[str], start: Path
) -> None:
    code, out, err = called(capsys, start, DIGITS / "scripted.pt")
    assert (code, err) == (0, "")
    assert "not run:" in out
    assert "--input-shape" in out


def test_synthetic_batch(capsys: pytest.CaptureFixture[str], start: Path) -> None:
    code, out, _ = called(capsys, start, DIGITS / "scripted.pt", "--input-shape", "8x1x8x8")
    assert code == 0
    assert "SYNTHETIC" in out
    assert "scale invariance in 10 weights" in " ".join(out.split())


def test_bad_input(capsys: pytest.CaptureFixture[str], start: Path, tmp_path: Path) -> None:
    whole = files.save_state(tmp_path / "whole.pt", torch.nn.Linear(2, 2))
    empty = tmp_path / "empty.pt"
    empty.write_bytes(b"")
    mlp = files.FIXTURES / "tabular_mlp"
    cases: list[tuple[tuple[object, ...], str]] = [
        ((start, mlp / "state_dict.pt"), "different architectures"),
        ((start, tmp_path / "none.pt"), "no such file"),
        ((whole, start), "different architectures"),
        ((empty, start), "empty"),
        ((start, DIGITS / "folded.onnx"), "folded"),
        ((start, DIGITS / "model.onnx", "--data", tmp_path / "none.npz"), "none.npz"),
        ((start, DIGITS / "model.onnx", "--data", mlp / "batch.npz"), "x"),
        (
            (start, DIGITS / "state_dict.pt", "-o", tmp_path / "r.xml"),
            "no format of this command (there are: table, json, html, svg, png)",
        ),
        ((start,), "TRAINED"),
    ]
    for args, expected in cases:
        code, out, err = called(capsys, *args)
        assert (code, out) == (2, ""), args
        lines = err.splitlines()
        assert lines[0].startswith("error: ")
        assert expected in lines[0]
        assert all(line.startswith("hint: ") for line in lines[1:])
        assert len(lines) <= 2


def test_missing_parameters_are_named_on_each_side(
    capsys: pytest.CaptureFixture[str], start: Path
) -> None:
    _, _, err = called(capsys, start, files.FIXTURES / "tabular_mlp" / "state_dict.pt")
    assert "conv1.weight, layer1.0.conv1.weight, layer1.0.conv2.weight and 8 more" in err
    assert "fc1.weight, fc2.weight, fc3.weight and 1 more" in err


@pytest.mark.parametrize(
    ("args", "schema"), [((), "report/1"), (("report",), "report/1"), (("init",), "init/1")]
)
def test_schema_command(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], schema: str
) -> None:
    assert run(["schema", *args]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == f"bnaudit.{schema}"
