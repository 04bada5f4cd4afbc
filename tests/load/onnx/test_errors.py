"""Bad files end in one line that names the file and the fact, and never in a library's exception."""

from __future__ import annotations

import contextlib
import os
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bnaudit.errors import BnauditError, InputError
from bnaudit.load.onnx import load_onnx

from . import models

if TYPE_CHECKING:
    from pathlib import Path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_onnx(path)
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        (b"<!DOCTYPE html><html></html>", "not an ONNX file"),
        (b"hello, world", "not an ONNX file"),
    ],
)
def test_no_model_at_all(tmp_path: Path, content: bytes, fact: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert fact in refusal(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path, fact in ((tmp_path / "none.onnx", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=fact):
            load_onnx(path)


def test_no_nodes(tmp_path: Path) -> None:
    path = models.save(tmp_path, models.graph_model([], {"x": [1]}, ["x"]))
    assert "has no nodes" in refusal(path)


def test_cut_off(tmp_path: Path) -> None:
    path = models.one_batchnorm(tmp_path)
    content = path.read_bytes()
    for size in range(1, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(InputError):
            load_onnx(path)


def test_flipped_bytes_end_in_our_own_errors(tmp_path: Path) -> None:
    path = models.one_batchnorm(tmp_path, opset=11)
    content = path.read_bytes()
    draw = random.Random(0)  # noqa: S311 - a reproducible selection
    for _ in range(150):
        damaged = bytearray(content)
        damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(BnauditError):
            load_onnx(path)


@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "running_var"])
@pytest.mark.parametrize("shape", [(4,), (3, 1), ()])
def test_parameters_of_the_wrong_shape(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    path = models.one_batchnorm(tmp_path, changes={f"bn.{name}": np.ones(shape, np.float32)})
    message = refusal(path)
    assert "bn: " in message
    assert "3 channels" in message


@pytest.mark.parametrize(
    ("name", "value", "note"),
    [
        ("running_var", np.nan, "running_var has 1 of 3 entries that are NaN or infinite"),
        ("weight", np.inf, "gamma has 1 of 3 entries that are NaN or infinite"),
        ("running_var", -1.0, "running_var has 1 of 3 entries below zero"),
        ("running_var", 0.0, "running_var has 1 of 3 entries that are zero"),
    ],
)
def test_odd_values_are_noted_and_kept(tmp_path: Path, name: str, value: float, note: str) -> None:
    changed = models.batchnorm_constants("bn", 3)[f"bn.{name}"].copy()
    changed[1] = value
    model = load_onnx(models.one_batchnorm(tmp_path, changes={f"bn.{name}": changed}))
    assert model.notes == (f"bn: {note}",)
    ((path, _),) = model.labels.items()
    np.testing.assert_array_equal(
        model.module.get_submodule(path).state_dict()[name].numpy(), changed
    )


def single(folder: Path, operator: str, **attributes: Any) -> Path:
    domain = attributes.pop("domain", "")
    node = helper.make_node(operator, ["x"], ["y"], name="the_node", domain=domain, **attributes)
    proto = models.graph_model([node], {"x": ["n", 3, 4, 4]}, ["y"])
    if domain:
        proto.opset_import.append(helper.make_opsetid(domain, 3))
    return models.save(folder, proto)


def test_an_operator_without_converter_is_named(tmp_path: Path) -> None:
    message = refusal(single(tmp_path, "Det"))
    for part in ("Det", "'the_node'", "17"):
        assert part in message


def test_an_operator_of_another_domain_is_named(tmp_path: Path) -> None:
    message = refusal(single(tmp_path, "FancyNms", domain="com.acme"))
    for part in ("FancyNms", "'the_node'", "com.acme 3"):
        assert part in message


@pytest.mark.parametrize("operator", ["QuantizeLinear", "DynamicQuantizeLinear"])
def test_a_quantised_model_is_refused_with_the_reason(tmp_path: Path, operator: str) -> None:
    inputs = ["x", "scale"] if operator == "QuantizeLinear" else ["x"]
    results = ["q"] if operator == "QuantizeLinear" else ["q", "scale", "zero"]
    nodes = [
        helper.make_node(operator, inputs, results, name="rounding"),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["a"]),
        models.batchnorm("a", "y", "bn"),
    ]
    scale = {"scale": np.array(0.1, np.float32)} if operator == "QuantizeLinear" else {}
    constants = models.batchnorm_constants("bn", 3) | scale
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 3]}, ["y"], constants))
    message = refusal(path)
    assert f"{operator} (node 'rounding')" in message
    assert "has no gradient" in message


def test_quantised_weights_alone_are_no_reason(tmp_path: Path) -> None:
    """Weight-only quantisation: int8 in the file, float in the run."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["kernel"], axis=0),
        helper.make_node("Conv", ["x", "kernel"], ["a"]),
        models.batchnorm("a", "y", "bn"),
    ]
    constants = models.batchnorm_constants("bn", 4) | {
        "w": models.rng().integers(-128, 128, (4, 3, 3, 3)).astype(np.int8),
        "scale": np.array([0.01, 0.02, 0.03, 0.04], np.float32),
    }
    proto = models.graph_model(nodes, {"x": ["n", 3, 6, 6]}, ["y"], constants)
    path = models.save(tmp_path, proto)
    models.assert_same(load_onnx(path), path, {"x": models.normal(2, 3, 6, 6)})


def test_an_unsupported_use_is_named(tmp_path: Path) -> None:
    path = single(tmp_path, "AveragePool", kernel_shape=[2, 2], dilations=[2, 2])
    assert "dilated average pooling" in refusal(path)


def test_a_value_that_nothing_computes(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["nowhere"], ["y"])
    path = models.save(tmp_path, models.graph_model([node], {"x": ["n", 3]}, ["y"]))
    assert "'nowhere' is read but nothing computes it" in refusal(path)


def test_what_has_no_successor_in_later_opsets(tmp_path: Path) -> None:
    node = helper.make_node(
        "ThresholdedRelu", ["x"], ["y"]
    )  # an experiment then, an operator since
    proto = models.graph_model([node], {"x": [1, 3, 4, 4]}, ["y"], opset=7)
    message = refusal(models.save(tmp_path, proto))
    assert "from opset 7 to 15" in message
    assert ".h:" not in message


def test_a_shape_that_would_fill_the_memory_is_not_computed(tmp_path: Path) -> None:
    node = helper.make_node("ConstantOfShape", ["huge"], ["k"])
    add = helper.make_node("Add", ["x", "k"], ["y"])
    constants = {"huge": np.array([2**13, 2**12])}
    path = models.save(tmp_path, models.graph_model([node, add], {"x": [1, 1]}, ["y"], constants))
    model = load_onnx(path)  # it stays a node, which only running the model would compute
    assert sum(buffer.numel() for buffer in model.module.buffers()) < 2**20


def external(folder: Path, location: str, **entries: str) -> Path:
    """A model whose gamma lies in another file."""
    path = models.one_batchnorm(folder)
    proto = onnx.load(path, load_external_data=False)
    tensor = next(t for t in proto.graph.initializer if t.name == "bn.weight")
    (folder / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": location} | entries).items():
        tensor.external_data.add(key=key, value=value)
    return models.save(folder, proto)


def test_external_weights_are_read(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin", offset="0", length="12")
    models.assert_same(load_onnx(path), path, {"x": models.normal(2, 3, 4, 4)})


@pytest.mark.parametrize(
    ("location", "entries", "fact"),
    [
        ("gone.bin", {}, "'gone.bin' cannot be read"),
        ("weights.bin", {"offset": "8", "length": "12"}, "are cut off"),
        ("weights.bin", {"offset": "-4"}, "no valid offset"),
        ("weights.bin", {"offset": "many"}, "no valid offset"),
    ],
)
def test_external_weights_that_cannot_be_read(
    tmp_path: Path, location: str, entries: dict[str, str], fact: str
) -> None:
    assert fact in refusal(external(tmp_path, location, **entries))


@pytest.mark.parametrize(
    "location", ["../weights.bin", "sub/../../weights.bin", "ABSOLUTE", "link", ""]
)
def test_external_weights_outside_the_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "weights.bin"
    secret.write_bytes(np.ones(3, np.float32).tobytes())
    (folder / "link").symlink_to(secret)
    path = external(folder, str(secret) if location == "ABSOLUTE" else location)
    monkeypatch.chdir(folder)
    relative = type(path)(os.path.relpath(path, folder))
    message = refusal(relative)
    assert "outside the model's folder" in message
    assert str(tmp_path) not in message
