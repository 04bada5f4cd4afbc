"""--verify: a converted model against a runtime that reads the file."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import bnaudit
from bnaudit.measure import conversion, reference
from bnaudit.records.values import Skipped
from bnaudit.records.verification import Verification
from tests.cli.conftest import MLP, RESNET
from tests.load.onnx import models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

FAST = ("--metrics", "first_order", "--batches", "1")


def verified(path: Path, **options: Any) -> Verification:
    report = bnaudit.audit(path, verify=True, metrics=("first_order",), **options)
    assert report.run is not None
    assert isinstance(report.run.verification, Verification)
    return report.run.verification


@pytest.mark.parametrize("file", ["model.onnx", "dynamo.onnx", "static.onnx"])
@pytest.mark.parametrize("folder", [MLP, RESNET])
def test_a_right_conversion_agrees(folder: Path, file: str) -> None:
    found = verified(folder / file, data=str(folder / "batch.npz"))
    assert found.reference.startswith("onnxruntime ")
    assert [gap.name for gap in found.outputs] == ["logits"]
    assert found.agrees
    assert 0 <= found.worst < 1e-5


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", None])
def test_it_compares_in_the_files_precision(dtype: str | None) -> None:
    found = verified(MLP / "model.onnx", data=str(MLP / "batch.npz"), dtype=dtype)
    assert (found.tolerance, found.agrees) == (1e-4, True)


def test_onnx_itself_is_the_reference_where_there_is_no_runtime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = verified(MLP / "model.onnx")
    assert found.reference == f"onnx.reference {onnx.__version__}"
    assert found.agrees


def test_a_file_in_training_mode_is_compared_in_inference_mode(tmp_path: Path) -> None:
    model = onnx.load(MLP / "model.onnx")
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            del node.attribute[:]
            node.attribute.extend([onnx.helper.make_attribute("training_mode", 1)])
            node.output.extend([f"{node.name}.mean", f"{node.name}.var"])
    onnx.save(model, tmp_path / "m.onnx")
    assert verified(tmp_path / "m.onnx").agrees


@pytest.mark.parametrize("given", [False, True])
def test_states_that_have_the_batch_on_another_axis_are_not_cut(
    tmp_path: Path, given: bool
) -> None:
    """A streaming network: one frame, and two states of which each has as many rows as the batch."""
    nodes = [
        models.batchnorm("x", "a", "bn"),
        onnx.helper.make_node("ReduceSum", ["states", "first"], ["s"], keepdims=0),
        onnx.helper.make_node("Add", ["a", "s"], ["y"]),
    ]
    constants = models.batchnorm_constants("bn", 3) | {"first": np.array([0])}
    shapes = {"x": (4, 3), "states": (2, 4, 3)}
    path = models.save(tmp_path, models.graph_model(nodes, shapes, ["y"], constants))
    data = {name: models.normal(*shape) for name, shape in shapes.items()}
    assert verified(path, **({"data": data} if given else {})).agrees


def broken(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any]) -> None:
    """The reference says something else."""
    run = reference.run_reference

    def other(*args: Any) -> Any:
        found = run(*args)
        return replace(found, outputs=[change(np.array(o)) for o in found.outputs])

    monkeypatch.setattr(reference, "run_reference", other)


def test_a_mismatch_fails_and_says_by_how_much(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, lambda output: output * 1.01)
    args = ("check", MLP / "model.onnx", "--data", MLP / "batch.npz", "--verify", *FAST)
    outcome = cli(*args, "--format", "json")
    assert outcome.code == 1
    verification = outcome.document["run"]["verification"]
    assert verification["verdict"] == "mismatch"
    assert verification["outputs"][0]["relative"] == pytest.approx(0.01 / 1.01, rel=1e-3)
    (finding,) = (f for f in outcome.document["findings"] if f["severity"] != "info")
    assert (finding["rule"], finding["severity"]) == ("BN106", "error")
    assert finding["observed"] > finding["threshold"] == 1e-4
    table = cli(*args)
    assert "MISMATCH: outputs differ by 9.9e-03" in table.out
    assert cli(*args[:4], *FAST).code == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda output: output[:, :1],
        lambda output: np.where(output == output.max(), np.nan, output),
        lambda output: np.where(output == output.max(), np.inf, output),
    ],
)
def test_other_shapes_and_what_is_not_finite_are_mismatches(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    broken(monkeypatch, change)
    outcome = cli("check", MLP / "model.onnx", "--verify", *FAST, "--format", "json")
    assert outcome.code == 1
    run = outcome.document["run"]
    assert run["verification"]["outputs"][0] == {
        "name": "logits",
        "max_abs": None,
        "relative": None,
    }
    assert any(s["metric"] == "verification.outputs.0.relative" for s in run["skipped"])


def test_gaps_by_hand() -> None:
    gap = conversion._gap
    one, two = np.array([1.0, -4.0]), np.array([1.0, -3.0])
    assert (gap("y", one, two).max_abs, gap("y", one, two).relative) == (1.0, 1 / 3)
    zero = np.zeros(2)
    assert gap("y", zero, zero).relative == 0
    assert gap("y", one, zero).relative == float("inf")
    odd = np.array([np.nan, np.inf])
    assert gap("y", odd, odd.copy()).relative == 0
    assert gap("y", odd, -odd).relative == float("inf")
    assert gap("y", np.array([1, 2]), np.array([1, 3])).max_abs == 1
    assert gap("y", np.zeros((0, 3)), np.zeros((0, 3))).relative == 0


def test_nothing_to_compare_is_said(cli: Callable[..., Outcome]) -> None:
    outcome = cli(
        "check",
        MLP / "scripted.pt",
        "--input-shape",
        "24x30",
        "--verify",
        *FAST,
        "--format",
        "json",
    )
    assert outcome.code == 0
    run = outcome.document["run"]
    assert run["verification"] is None
    reasons = {entry["metric"]: entry["reason"] for entry in run["skipped"]}
    assert reasons["verification"].startswith("nothing was converted")
    table = cli("check", MLP / "scripted.pt", "--input-shape", "24x30", "--verify", *FAST)
    assert "conversion nothing was converted" in table.out
    live = bnaudit.audit(nn.BatchNorm1d(3), data=torch.randn(24, 3), verify=True)
    assert live.run is not None
    assert isinstance(live.run.verification, Skipped)


def test_a_reference_that_cannot_run_the_file_is_no_silent_pass(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> Any:
        raise RuntimeError("not\nimplemented")

    monkeypatch.setattr(reference, "_onnxruntime", refuses)
    monkeypatch.setattr(reference, "_evaluator", refuses)
    outcome = cli("check", MLP / "model.onnx", "--verify", *FAST)
    assert outcome.code == 1
    assert "could not be compared" in " ".join(outcome.out.split())
    assert "BN106" in outcome.out


def test_integer_inputs_and_several_outputs(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 6)
            self.bn = nn.BatchNorm1d(6)

        def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = self.bn(self.table(ids))
            return y, y.argmax(1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Two().eval(), (torch.zeros(4, dtype=torch.int64),), tmp_path / "m.onnx", dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE, output_names=["scores", "best"],
            input_names=["ids"], dynamic_axes={"ids": {0: "n"}},
        )  # fmt: skip
    found = verified(tmp_path / "m.onnx", data={"ids": torch.arange(40) % 5})
    assert [gap.name for gap in found.outputs] == ["scores", "best"]
    assert found.outputs[1].max_abs == 0
    assert found.agrees


class Segmentation(nn.Module):
    """A head that sees nothing but background: sigmoids of -19 and below."""

    def __init__(self, end: nn.Module, bias: float = -19.0) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.out, self.end = nn.Conv2d(8, 2, 1), end
        nn.init.constant_(self.out.bias, bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(self.out(torch.relu(self.bn(self.conv(x)))))


class Flattened(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.softmax(1)[:, :, :, :].flatten(2)


class Residual(nn.Module):
    """What is left of large terms that cancel: as small as their rounding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 1e-4 + x.sum(1, keepdim=True) * 300) - x.sum(1, keepdim=True) * 300


def exported(model: nn.Module, path: Path) -> Path:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(), (torch.randn(2, 3, 8, 8),), path, input_names=["x"], output_names=["y"],
            dynamo=False, opset_version=17, dynamic_axes={"x": {0: "n"}},
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip
    return path


ENDS = [nn.Sigmoid(), Flattened(), nn.Sequential(nn.Sigmoid(), nn.Flatten(1)), Residual()]


@pytest.mark.parametrize("end", ENDS, ids=lambda e: type(e).__name__)
def test_an_output_that_is_all_but_zero_is_no_mismatch(end: nn.Module, tmp_path: Path) -> None:
    """onnxruntime's sigmoid is exact to 1e-7, which is all of it here."""
    found = verified(exported(Segmentation(end), tmp_path / "m.onnx"))
    assert found.agrees, found
    (gap,) = found.outputs
    assert gap.max_abs < 1e-3


@pytest.mark.parametrize("end", ENDS[:3], ids=lambda e: type(e).__name__)
def test_what_a_saturated_output_hides_its_logits_show(
    end: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another eps in the layer: probabilities of 1e-9 differ by nothing, the logits by a percent."""
    path = exported(Segmentation(end, -40.0), tmp_path / "m.onnx")
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            next(a for a in node.attribute if a.name == "epsilon").f = 0.5
    monkeypatch.setattr(reference, "read_model", lambda _: model)
    found = verified(path)
    (gap,) = found.outputs
    assert not found.agrees
    assert gap.relative > 1e-3
    if not isinstance(end, Flattened):
        assert gap.max_abs < 1e-6


def test_a_runtime_that_is_off_where_it_matters_is_a_mismatch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, lambda output: output + 0.01)
    assert not verified(exported(Segmentation(nn.Sigmoid(), 0.0), tmp_path / "m.onnx")).agrees


class Decides(nn.Module):
    """Two channels that are the same but for rounding, and what is decided between them."""

    def __init__(self, decide: Callable[[torch.Tensor], Any], apart: float = 0.0) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.out, self.decide = nn.Conv2d(8, 2, 1), decide
        with torch.no_grad():
            self.out.weight[1] = self.out.weight[0]
            self.out.bias.copy_(torch.tensor([0.0, apart]))  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> Any:
        y = self.out(torch.relu(self.bn(self.conv(x))))
        return y, self.decide(y)


DECISIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "argmax": lambda y: y.argmax(1),
    "argmin, kept, cast": lambda y: y.argmin(1, keepdim=True).float(),
    "top k": lambda y: y.topk(2, 1).indices,
    "comparison": lambda y: y[:, 0] > y[:, 1],
    "comparison, cast": lambda y: (y[:, 0] <= y[:, 1]).float(),
    "with a number": lambda y: (y[:, 0] - y[:, 1] + 1 >= 1).to(torch.int64),
}


@pytest.mark.parametrize("kind", DECISIONS)
def test_a_decision_that_turns_over_at_a_tie_is_no_mismatch(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime's weights are off by 1e-6, as its rounding may be, and its answers are others then."""
    runs = reference._onnxruntime

    def rounding(off: float) -> Callable[..., Any]:
        def run(model: onnx.ModelProto, feeds: Any) -> Any:
            for tensor in model.graph.initializer:
                if tensor.name == "out.bias":
                    moved = onnx.numpy_helper.to_array(tensor) + np.array([off, -off], np.float32)
                    tensor.CopyFrom(onnx.numpy_helper.from_array(moved, tensor.name))
            return runs(model, feeds)

        return run

    path = exported(Decides(DECISIONS[kind]), tmp_path / "m.onnx")
    flips = 0.0
    for sign in (1, -1):
        monkeypatch.setattr(reference, "_onnxruntime", rounding(sign * 1e-6))
        found = verified(path, data=torch.randn(64, 3, 8, 8))
        flips = max(flips, found.outputs[1].max_abs)
        assert found.agrees
        assert found.outputs[1].relative < 1e-5
    assert flips > 0
    wrong = 0
    for sign in (1, -1):
        monkeypatch.setattr(reference, "_onnxruntime", rounding(sign * 0.5))
        found = verified(path, data=torch.randn(64, 3, 8, 8))
        wrong += found.outputs[1].relative > found.tolerance
    assert wrong >= 1


def test_a_decision_between_values_that_are_far_apart_is_a_mismatch() -> None:
    values = np.array([[1.0, 0.5, 1.0 - 1e-7]])
    choice = reference.Decision((values,), 1)
    assert choice.margin(np.array([2]), np.array([0])) == pytest.approx(1e-7, rel=1e-6)
    assert choice.margin(np.array([1]), np.array([0])) == 0.5
    assert choice.margin(np.array([3]), np.array([0])) == np.inf
    assert choice.margin(np.array([0]), np.array([0])) == 0
    sides = (np.array([1.0, -4.0]), np.array([1.0 + 1e-7, 2.0]))
    comparison = reference.Decision(sides, None)
    assert comparison.margin(np.array([True, False]), np.array([False, False])) < 1e-7
    assert comparison.margin(np.array([True, True]), np.array([True, False])) == 1.5
