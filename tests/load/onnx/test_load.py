"""What comes out of a file: the signature, the layers, the rewritten graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch.nn.modules.batchnorm import _BatchNorm

from bnaudit.load.onnx import load_onnx

from . import models

if TYPE_CHECKING:
    from pathlib import Path


def test_signature_and_facts(tmp_path: Path) -> None:
    path = models.one_batchnorm(tmp_path, producer_name="pytorch", producer_version="2.13.0")
    model = load_onnx(path)
    (spec,) = model.inputs
    assert (spec.name, spec.shape, spec.dtype) == ("x", ("n", 3, 4, 4), "float32")
    assert model.outputs == ("y",)
    assert model.format == "onnx"
    assert model.producer == "pytorch 2.13.0"
    assert model.facts["opset"] == "17"
    assert model.facts["ir_version"] == "8"
    assert model.facts["batchnorm_nodes"] == "1"
    assert model.static_batch is None
    assert not model.lifted


@pytest.mark.parametrize(
    ("producer", "exporter"),
    [
        ("pytorch", "torch.onnx TorchScript"),
        ("tf2onnx", "tf2onnx"),
        ("PaddlePaddle", "paddle2onnx"),
        ("", "other"),
    ],
)
def test_exporter(tmp_path: Path, producer: str, exporter: str) -> None:
    path = models.one_batchnorm(tmp_path, producer_name=producer)
    assert load_onnx(path).facts["exporter"] == exporter


def test_a_batchnorm_is_a_module_in_eval_mode_with_its_parameters(tmp_path: Path) -> None:
    path = models.one_batchnorm(tmp_path)
    model = load_onnx(path)
    (definition,) = model.batchnorms
    assert definition.name == "bn"
    assert definition.channels == 3
    assert definition.origin == "node 'node_bn' (BatchNormalization)"
    ((submodule, label),) = model.labels.items()
    assert label == "bn"
    layer: Any = model.module.get_submodule(submodule)
    assert isinstance(layer, _BatchNorm)
    assert not layer.training
    constants = models.batchnorm_constants("bn", 3)
    parameters, buffers = dict(layer.named_parameters()), dict(layer.named_buffers())
    np.testing.assert_array_equal(parameters["weight"].detach(), constants["bn.weight"])
    np.testing.assert_array_equal(parameters["bias"].detach(), constants["bn.bias"])
    np.testing.assert_array_equal(buffers["running_mean"], constants["bn.running_mean"])
    np.testing.assert_array_equal(buffers["running_var"], constants["bn.running_var"])
    assert all(parameter.requires_grad for parameter in layer.parameters())
    models.assert_same(model, path, {"x": models.normal(2, 3, 4, 4)})


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4), (2, 3, 4, 4), (2, 3, 2, 2, 2)])
@pytest.mark.parametrize("opset", [7, 9, 14, 22])
def test_batchnorm_of_any_rank_and_opset(
    tmp_path: Path, shape: tuple[int, ...], opset: int
) -> None:
    node = models.batchnorm("x", "y", "bn", epsilon=0.1)
    constants = models.batchnorm_constants("bn", 3)
    proto = models.graph_model([node], {"x": ["n", *shape[1:]]}, ["y"], constants, opset=opset)
    path = models.save(tmp_path, proto)
    models.assert_same(load_onnx(path), path, {"x": models.normal(*shape)})


def test_the_rank_need_not_be_known(tmp_path: Path) -> None:
    proto = models.graph_model(
        [models.batchnorm("x", "a", "bn"), helper.make_node("GlobalAveragePool", ["a"], ["y"])],
        {"x": []},
        ["y"],
        models.batchnorm_constants("bn", 3),
    )
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    path = models.save(tmp_path, proto)
    model = load_onnx(path)
    assert model.inputs[0].shape is None
    models.assert_same(model, path, {"x": models.normal(2, 3, 4, 4)})


def test_training_exports_lose_their_training_part(tmp_path: Path) -> None:
    batchnorm = models.batchnorm("x", "a", "bn", training_mode=1)
    batchnorm.output.extend(["new_mean", "new_var"])
    constants = models.batchnorm_constants("bn", 3) | {
        "ratio": np.array(0.5, np.float32),
        "on": np.array(True),
    }
    dropout = helper.make_node("Dropout", ["a", "ratio", "on"], ["y"])
    path = models.save(
        tmp_path, models.graph_model([batchnorm, dropout], {"x": ["n", 3]}, ["y"], constants)
    )
    model = load_onnx(path)
    x = models.normal(4, 3)
    scale, shift, mean, var = (constants[f"bn.{n}"] for n in _NAMES)
    wanted = (x - mean) / np.sqrt(var + 1e-5) * scale + shift
    np.testing.assert_allclose(models.computed(model, {"x": x})[0], wanted, rtol=1e-5, atol=1e-5)


_NAMES = ("weight", "bias", "running_mean", "running_var")


def test_outputs_come_in_order_whatever_they_are(tmp_path: Path) -> None:
    """An input, a constant, the same value twice, and the second of two results of one node."""
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1),
        helper.make_node("Identity", ["b"], ["b_again"]),
        helper.make_node("Identity", ["k"], ["k_out"]),
        helper.make_node("Identity", ["x"], ["x_out"]),
    ]
    outputs = ["b", "x_out", "k_out", "b_again"]
    constants = {"k": models.normal(2, 2)}
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 4]}, outputs, constants))
    model = load_onnx(path)
    assert model.outputs == tuple(outputs)
    models.assert_same(model, path, {"x": models.normal(3, 4)})


def test_initializers_listed_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    proto = models.graph_model(
        [models.batchnorm("x", "y", "bn")],
        {"bn.weight": [3], "x": ["n", 3], "bn.bias": [3]},
        ["y"],
        models.batchnorm_constants("bn", 3),
        ir_version=3,
    )
    path = models.save(tmp_path, proto)
    model = load_onnx(path)
    assert [spec.name for spec in model.inputs] == ["x"]
    models.assert_same(model, path, {"x": models.normal(2, 3)})


def test_parameters_in_constant_nodes_and_behind_arithmetic(tmp_path: Path) -> None:
    """Paddle keeps weights in Constant nodes; reparametrised weights are computed."""
    constants = models.batchnorm_constants("bn", 3)
    lifted = [
        helper.make_node("Constant", [], [name], value=_tensor(name, value))
        for name, value in constants.items()
        if name != "bn.running_var"
    ]
    nodes = [
        *lifted,
        helper.make_node("Mul", ["deviation", "deviation"], ["bn.running_var"]),
        models.batchnorm("x", "y", "bn"),
    ]
    deviation = {"deviation": np.sqrt(constants["bn.running_var"])}
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 3]}, ["y"], deviation))
    model = load_onnx(path)
    assert [type(m).__name__ for m in model.module.children()] == ["BatchNorm"]
    assert model.batchnorms[0].channels == 3
    models.assert_same(model, path, {"x": models.normal(2, 3)})


def _tensor(name: str, value: Any) -> TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, value.shape, value.ravel())


def test_batchnorm_of_a_constant_is_not_folded(tmp_path: Path) -> None:
    nodes = [models.batchnorm("k", "a", "bn"), helper.make_node("Add", ["x", "a"], ["y"])]
    constants = models.batchnorm_constants("bn", 3) | {"k": models.normal(1, 3)}
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 3]}, ["y"], constants))
    model = load_onnx(path)
    assert sorted(model.labels.values()) == ["", "bn"]
    assert "k" in {model.parameter_name(path) for path, _ in model.module.named_parameters()}
    models.assert_same(model, path, {"x": models.normal(2, 3)})


def test_a_layer_that_no_output_needs_is_still_listed(tmp_path: Path) -> None:
    nodes = [models.batchnorm("x", "y", "bn"), models.batchnorm("x", "unused", "aux")]
    constants = models.batchnorm_constants("bn", 3) | models.batchnorm_constants("aux", 3)
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 3]}, ["y"], constants))
    model = load_onnx(path)
    assert [layer.name for layer in model.batchnorms] == ["bn", "aux"]
    assert list(model.labels.values()) == ["bn"]


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    parameters = ["x", "weight", "bias", "running_mean", "running_var"]
    body = helper.make_function(
        "local",
        "Block",
        parameters,
        ["y"],
        [
            helper.make_node("BatchNormalization", parameters, ["a"]),
            helper.make_node("Relu", ["a"], ["y"]),
        ],
        [helper.make_opsetid("", 17)],
    )
    constants = models.batchnorm_constants("one", 3) | models.batchnorm_constants("two", 3, seed=1)
    calls = [
        helper.make_node(
            "Block", [source, *(f"{prefix}.{name}" for name in _NAMES)], [result], domain="local"
        )
        for source, prefix, result in (("x", "one", "m"), ("m", "two", "y"))
    ]
    proto = models.graph_model(calls, {"x": ["n", 3]}, ["y"], constants)
    proto.functions.append(body)
    proto.opset_import.append(helper.make_opsetid("local", 1))
    path = models.save(tmp_path, proto)
    model = load_onnx(path)
    assert [layer.name for layer in model.batchnorms] == ["one", "two"]
    models.assert_same(model, path, {"x": models.normal(2, 3)})


@pytest.mark.parametrize("wanted", [1, 7])
def test_a_settled_if_is_replaced_by_its_branch(tmp_path: Path, wanted: int) -> None:
    """What the TorchScript exporter makes of squeeze(-1): the last axis, if its size is 1."""
    squeeze = helper.make_graph(
        [helper.make_node("Squeeze", ["a", "last"], ["then_y"])],
        "then",
        [],
        [helper.make_tensor_value_info("then_y", TensorProto.FLOAT, None)],
    )
    keep = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["else_y"])],
        "else",
        [],
        [helper.make_tensor_value_info("else_y", TensorProto.FLOAT, None)],
    )
    nodes = [
        models.batchnorm("x", "a", "bn"),
        helper.make_node("Shape", ["a"], ["shape"]),
        helper.make_node("Gather", ["shape", "minus_one"], ["size"]),
        helper.make_node("Equal", ["size", "one"], ["is_one"]),
        helper.make_node("If", ["is_one"], ["y"], then_branch=squeeze, else_branch=keep),
    ]
    constants = models.batchnorm_constants("bn", 3) | {
        "minus_one": np.array(-1),
        "one": np.array(wanted),
        "last": np.array([-1]),
    }
    shape = (2, 3, 4, 1)
    proto = models.graph_model(nodes, {"x": ["n", *shape[1:]]}, ["y"], constants)
    path = models.save(tmp_path, proto)
    models.assert_same(load_onnx(path), path, {"x": models.normal(*shape)})


def test_reload_is_a_private_copy(tmp_path: Path) -> None:
    model = load_onnx(models.one_batchnorm(tmp_path))
    assert model.reload is not None
    again = model.reload()
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.zero_()
    assert all(bool(parameter.any()) for parameter in again.module.parameters())
    assert again.batchnorms == model.batchnorms


def test_loading_leaves_no_trace(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing on the terminal, no file changed, and the caller's random numbers as they were."""
    path = models.one_batchnorm(tmp_path, opset=9)
    before = path.read_bytes()
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    load_onnx(path)
    assert torch.rand(1) == wanted
    assert capfd.readouterr() == ("", "")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == before
