"""`bnaudit landscape` in a shell: what it writes, says and returns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import bnaudit
from bnaudit.errors import NoBatchNormError, RunError, UsageError
from tests.cli.conftest import MLP, RESNET, Outcome
from tests.golden import documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DATA = ("--data", MLP / "batch.npz", "--batches", "1")


def test_a_page_and_files(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    before = (MLP / "model.onnx").read_bytes()
    ran = cli("landscape", MLP / "model.onnx", *DATA, "--steps", "2", "-o", tmp_path / "l.json")
    assert ran.code == 0
    assert ran.err == ""
    assert "SMOOTHER: " in ran.out or "ROUGHER: " in ran.out
    found = json.loads((tmp_path / "l.json").read_text())
    assert found["schema"] == "bnaudit.landscape/1"
    assert found["gradients"] == 2 + 2 * 2 * 2
    assert found["agreement"]["equal"] is True
    assert [p["step"] for p in found["walks"][0]["points"]] == [0.001, 1.0]
    assert (MLP / "model.onnx").read_bytes() == before
    written = (tmp_path / "l.json").read_text().replace(f"{MLP}/", "tabular_mlp/")
    documents.check("run_landscape", written, exact=False)


@pytest.mark.parametrize("model", ["traced.pt", "scripted.pt", "dynamo.onnx", "static.onnx"])
def test_formats(cli: Callable[..., Outcome], model: str) -> None:
    args = ("--steps", "1", "--form", "raw", "--eta", "0.05", "--format", "json")
    ran = cli("landscape", RESNET / model, "--data", RESNET / "batch.npz", "--batches", "1", *args)
    assert ran.code == 0
    found = json.loads(ran.out)
    assert (found["layers"], len(found["groups"]), found["moved"]) == (10, 21, 42938)
    assert found["agreement"]["equal"] is True


def test_code_with_a_checkpoint_and_an_exported_program(
    cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    args = ("--steps", "2", "--format", "json", "--batch-size", "16", "--trust", *DATA)
    ran = cli("landscape", "fixtures.nets:TabularMlp", "--weights", MLP / "state_dict.pt", *args)
    code = json.loads(ran.out)
    assert code["format"] == "module"
    from fixtures.nets import TabularMlp

    net = TabularMlp()
    net.load_state_dict(torch.load(MLP / "state_dict.pt", weights_only=True))
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(net.eval(), (torch.randn(4, 30),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    exported = json.loads(cli("landscape", tmp_path / "net.pt2", *args).out)
    assert exported["format"] == "exported"
    for one, two in zip(code["walks"], exported["walks"], strict=True):
        assert one["beta"]["median"] == pytest.approx(two["beta"]["median"], rel=1e-3)


def test_a_range_that_overflows_is_marked_and_the_rest_stands(cli: Callable[..., Outcome]) -> None:
    args = ("--form", "raw", "--steps", "3", "--eta", "0.01:1e30")
    ran = cli("landscape", MLP / "model.onnx", *DATA, *args, "--format", "json")
    assert ran.code == 0
    found = json.loads(ran.out)
    for walk in found["walks"]:
        first, *_, last = walk["points"]
        assert (first["failed"], last["failed"]) == (0, 1)
        assert first["loss"]["median"] > 0
        assert last["change"] is None
        assert walk["beta"]["median"] == max(
            p["beta"]["median"] for p in walk["points"] if p["beta"] is not None
        )
    reasons = {entry["metric"]: entry["reason"] for entry in found["skipped"]}
    assert reasons["walks.0.points.2.change"] == "not finite in 1 of 1 batches"
    assert found["comparisons"][0]["incomparable"] >= 1


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("--eta", "1:0.1"), "error: the steps of eta run from 1 to 0.1"),
        (("--eta", "0:1"), "error: the steps of eta run from 0 to 1"),
        (("--relative", "0.1:inf"), "error: the steps of relative run from 0.1 to inf"),
        (("--eta", "nan:1"), "error: the steps of eta run from nan to 1"),
        (("--eta", "small"), "'small' is no range of numbers such as 0.001:1"),
        (("--steps", "0"), "0 is not a whole number from 1 to 1000"),
        (("--form", "neither"), "'neither' is not one of"),
    ],
)
def test_bad_steps(
    cli: Callable[..., Outcome], tmp_path: Path, args: tuple[str, ...], line: str
) -> None:
    ran = cli("landscape", MLP / "model.onnx", *DATA, *args, "-o", tmp_path / "l.json")
    assert (ran.code, ran.out) == (2, "")
    assert line in ran.lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_limit_ends_it_with_nothing_written(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    target = tmp_path / "l.json"
    args = ("--steps", "1000", "--timeout", "2", "-q", "-o", target)
    ran = cli("landscape", RESNET / "model.onnx", "--data", RESNET / "batch.npz", *args)
    assert (ran.code, ran.out) == (4, "")
    assert ran.lines[0] == "error: not done within --timeout 2 (seconds)"
    assert not target.exists()


def test_no_batchnorm(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    ran = cli("landscape", MLP / "folded.onnx", *DATA, "-o", tmp_path / "l.json")
    assert (ran.code, ran.out) == (3, "")
    assert "there is no BatchNorm in it" in ran.lines[0]
    assert list(tmp_path.iterdir()) == []
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(NoBatchNormError, match="no BatchNorm was executed"):
        bnaudit.landscape(net, data=torch.randn(8, 3), labels=torch.arange(8) % 2)


def test_weights_that_are_not_finite(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    model = onnx.load(MLP / "model.onnx")
    weight = next(t for t in model.graph.initializer if t.name == "fc2.weight")
    broken = numpy_helper.to_array(weight).copy()
    broken[0, :2] = np.nan
    weight.CopyFrom(numpy_helper.from_array(broken, weight.name))
    onnx.save(model, tmp_path / "nan.onnx")
    ran = cli("landscape", tmp_path / "nan.onnx", *DATA, "-o", tmp_path / "l.json")
    assert (ran.code, ran.out) == (4, "")
    assert "fc2.weight has 2 of 1024 values that are not finite" in ran.lines[0]
    assert ran.lines[1].startswith("hint: ")
    assert not (tmp_path / "l.json").exists()


class Constant(nn.Module):
    """BatchNorm without parameters, and a layer whose weights are whole numbers."""

    def __init__(self, weights: torch.Tensor | None) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3, affine=False)
        if weights is not None:
            self.codes = nn.Parameter(weights, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z: torch.Tensor = self.bn(x)
        return z


@pytest.mark.parametrize(
    ("net", "line"),
    [
        (Constant(None), "the model has no parameters"),
        (Constant(torch.ones(4, dtype=torch.int8)), r"none of the 1 parameters .* \(int8\)"),
        (
            Constant(torch.ones(4)),
            "no parameter of the model is trainable: all 1 have requires_grad",
        ),
    ],
)
def test_nothing_to_move(net: nn.Module, line: str) -> None:
    with pytest.raises(RunError, match=line):
        bnaudit.landscape(net, data=torch.randn(8, 3))


def test_python_names_what_is_wrong() -> None:
    net: Any = Constant(torch.ones(4))
    with pytest.raises(
        UsageError, match="landscape has no option 'batchs', did you mean 'batches'"
    ):
        bnaudit.landscape(net, batchs=1)
    with pytest.raises(UsageError, match="the form is"):
        bnaudit.landscape(net, form="gauge")
    with pytest.raises(UsageError, match="0 steps"):
        bnaudit.landscape(net, steps=0)


def test_weights_of_zero_stay_in_the_relative_walk() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    for p in net[2].parameters():
        nn.init.zeros_(p)
    record = bnaudit.landscape(net, data=torch.randn(16, 3), labels=torch.arange(16) % 2, steps=2)
    assert "weights of 0 have no relative size and stay in the relative walk: 2" in record.notes
    # And nothing in front of the head gets a gradient: no step leads anywhere.
    for walk in (walk for walk in record.walks if walk.form == "relative"):
        assert [getattr(p.change, "median", None) for p in walk.points] == [0.0, 0.0]
