"""Bad ONNX files at the command line: one error line and one hint, the right code, nothing else.

The user types a relative path from inside the file's folder, so that any absolute path in the output
is one that leaked.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bnaudit.cli import run
from tests.load.onnx import models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with room around it for what a file must not reach."""
    inside = tmp_path / "project"
    inside.mkdir()
    monkeypatch.chdir(inside)
    return inside


def written(content: bytes) -> Make:
    return lambda folder: (folder / "model.onnx").write_bytes(content)


def cut(share: float) -> Make:
    def make(folder: Path) -> None:
        path = models.one_batchnorm(folder)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return make


def parameter(name: str, value: Any) -> Make:
    return lambda folder: models.one_batchnorm(folder, changes={f"bn.{name}": value})


def graph(*nodes: Any, **model: Any) -> Make:
    def make(folder: Path) -> None:
        constants = models.batchnorm_constants("bn", 3)
        proto = models.graph_model(nodes, {"x": ["n", 3, 4, 4]}, ["y"], constants, **model)
        models.save(folder, proto)

    return make


def external(location: str, **entries: str) -> Make:
    """Gamma in another file: beside the model, above it, or behind a link."""

    def make(folder: Path) -> None:
        path = models.one_batchnorm(folder)
        proto = onnx.load(path, load_external_data=False)
        tensor = next(t for t in proto.graph.initializer if t.name == "bn.weight")
        for place in (folder, folder.parent):
            (place / "weights.bin").write_bytes(tensor.raw_data)
        (folder / "link.bin").symlink_to(folder.parent / "weights.bin")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        named = location.replace("ABSOLUTE", str(folder.parent))
        for key, value in ({"location": named} | entries).items():
            tensor.external_data.add(key=key, value=value)
        models.save(folder, proto)

    return make


def without_opset(folder: Path) -> None:
    proto = onnx.load(models.one_batchnorm(folder))
    del proto.opset_import[:]
    models.save(folder, proto)


def short_initializer(folder: Path) -> None:
    proto = onnx.load(models.one_batchnorm(folder))
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-2]
    models.save(folder, proto)


NORMAL = models.batchnorm("x", "b", "bn")
UNKNOWN = helper.make_node("Fancy", ["b"], ["y"], name="the_node", domain="com.acme")
ROUNDING = helper.make_node("DynamicQuantizeLinear", ["b"], ["y", "s", "z"], name="the_node")
FOUR_INPUTS = helper.make_node(
    "BatchNormalization", ["x", "bn.weight", "bn.bias", "bn.running_mean"], ["y"]
)
RELU_IN = helper.make_node("Relu", ["x"], ["b"])
RELU = helper.make_node("Relu", ["x"], ["y"])

# What a file is like, how to make it, the exit code, and what the error line has to say.
CASES: dict[str, tuple[Make, int, str]] = {
    "empty": (written(b""), 2, "empty"),
    "text": (written(b"hello, world\n"), 2, ""),
    "html": (written(b"<!DOCTYPE html><html><body>404</body></html>"), 2, ""),
    "git-lfs": (written(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), 2, ""),
    "random bytes": (written(bytes(range(255, 0, -1)) * 9), 2, ""),
    "cut at 5 %": (cut(0.05), 2, ""),
    "cut in the middle": (cut(0.5), 2, ""),
    "cut at the end": (cut(0.98), 2, ""),
    "no nodes": (graph(), 2, "no nodes"),
    "no operator set": (without_opset, 2, "operator set"),
    "gamma too long": (parameter("weight", np.ones(4, np.float32)), 2, "gamma has shape [4]"),
    "mean too short": (parameter("running_mean", np.ones(2, np.float32)), 2, "running_mean"),
    "variance of two axes": (parameter("running_var", np.ones((3, 1), np.float32)), 2, "[3, 1]"),
    "four inputs": (graph(FOUR_INPUTS), 2, "4 of its 5 inputs"),
    "initializer too short": (short_initializer, 2, "'bn.weight'"),
    "unknown operator": (graph(NORMAL, UNKNOWN), 2, "Fancy (node 'the_node')"),
    "quantised": (graph(NORMAL, ROUNDING), 2, "DynamicQuantizeLinear (node 'the_node')"),
    "weights gone": (external("gone.bin"), 2, "'gone.bin'"),
    "weights cut": (external("weights.bin", offset="8", length="12"), 2, "cut off"),
    "weights above": (external("../weights.bin"), 2, "outside the model's folder"),
    "weights by a detour": (external("a/../../weights.bin"), 2, "outside the model's folder"),
    "weights by an absolute path": (external("ABSOLUTE/weights.bin"), 2, "outside the model's"),
    "weights behind a link": (external("link.bin"), 2, "outside the model's folder"),
    "no BatchNorm": (graph(RELU), 3, ""),
    "no BatchNorm, unknown operator": (graph(RELU_IN, UNKNOWN), 3, ""),
}  # fmt: skip


@pytest.mark.parametrize(("make", "code", "fact"), CASES.values(), ids=CASES)
def test_one_error_line_and_one_hint(
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    make: Make,
    code: int,
    fact: str,
) -> None:
    make(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert run(["check", "model.onnx", "-q"]) == code
    out, err = capfd.readouterr()
    lines = err.splitlines()
    if code == 2:
        assert out == ""
        assert lines[0].startswith("error: ")
        assert lines[1].startswith("hint: ")
        assert len(lines) == 2
        assert "model.onnx" in lines[0]
        assert fact in lines[0]
    assert str(folder.parent) not in out + err
    assert "site-packages" not in out + err
    assert "Traceback" not in err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (-1.0, "below zero"), (0.0, "zero")],
)
def test_a_variance_that_no_training_gives_is_reported(
    folder: Path, capfd: pytest.CaptureFixture[str], value: float, words: str
) -> None:
    """It is what the audit is there to find: the report names it, the batch's own still counts."""
    variance = models.batchnorm_constants("bn", 3)["bn.running_var"].copy()
    variance[1] = value
    parameter("running_var", variance)(folder)
    code = run(["check", "model.onnx", "--format", "json", "--batch-size", "16"])
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert code in {0, 1}
    assert "Traceback" not in err
    assert any(
        "running_var has 1 of 3 entries" in note and words in note for note in notes(document)
    )
    (layer,) = document["layers"]
    assert layer["first_order"]["residual"] <= layer["first_order"]["tolerance"]


def notes(document: Any) -> list[str]:
    return list(document["model"]["notes"])


def test_a_version_of_the_format_from_the_future_is_no_reason_to_refuse(folder: Path) -> None:
    """The number says nothing about the nodes, which are read one by one."""
    models.one_batchnorm(folder, ir_version=99)
    assert run(["check", "model.onnx", "-q", "--batch-size", "16"]) == 0


def test_a_graph_that_cannot_be_run_is_4(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    batchnorm = models.batchnorm("x", "a", "bn")
    constants = models.batchnorm_constants("bn", 3) | {"w": np.ones((5, 2), np.float32)}
    product = helper.make_node("MatMul", ["a", "w"], ["y"], name="product")
    proto = models.graph_model([batchnorm, product], {"x": ["n", 3, 4, 4]}, ["y"], constants)
    models.save(folder, proto)
    assert run(["check", "model.onnx", "-q"]) == 4
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["error", "hint"]
