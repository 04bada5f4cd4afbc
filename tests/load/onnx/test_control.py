"""If, Loop and Scan: settled ones disappear, the others run their bodies, BatchNorm included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import bnaudit
from bnaudit.errors import InputError
from bnaudit.load.onnx import load_onnx

from . import models

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def info(name: str, kind: int = FLOAT, shape: Sequence[int] | None = None) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def branch(name: str, *nodes: Any, output: str, constants: models.Arrays | None = None) -> Any:
    stored = [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()]
    return helper.make_graph(list(nodes), name, [], [info(output)], stored)


def two_ways() -> tuple[list[Any], models.Arrays]:
    """x -> BN a where its sum is positive, else BN b and its own ReLU -> y."""
    then = branch("then", models.batchnorm("x", "inner", "a"), output="inner")
    otherwise = branch(
        "else",
        models.batchnorm("x", "inner", "b"),
        helper.make_node("Relu", ["inner"], ["inner2"]),
        output="inner2",
        constants=models.batchnorm_constants("b", 3, seed=1),
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["flag"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=otherwise),
    ]
    constants = models.batchnorm_constants("a", 3) | {"zero": np.float32(0)}
    return nodes, {name: np.asarray(value) for name, value in constants.items()}


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 23])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_if_takes_the_branch_that_the_data_choose(tmp_path: Path, opset: int, sign: int) -> None:
    nodes, constants = two_ways()
    proto = models.graph_model(nodes, {"x": ["n", 3, 4, 4]}, ["y"], constants, opset=opset)
    path = models.save(tmp_path, proto)
    model = load_onnx(path)
    assert sorted(layer.name for layer in model.batchnorms) == ["a", "b"]
    assert [layer.channels for layer in model.batchnorms] == [3, 3]
    x = sign * np.abs(models.normal(2, 3, 4, 4))
    models.assert_same(model, path, {"x": x})


@pytest.mark.parametrize(("sign", "executed"), [(1, "a"), (-1, "b")])
def test_the_layer_of_the_branch_is_audited_and_the_other_named(
    tmp_path: Path, sign: int, executed: str
) -> None:
    nodes, constants = two_ways()
    proto = models.graph_model(nodes, {"x": ["n", 3, 4, 4]}, ["y"], constants)
    path = models.save(tmp_path, proto)
    x = torch.from_numpy(sign * np.abs(models.normal(6, 3, 4, 4)))
    report = bnaudit.audit(path, data=x, metrics=("first_order",))
    assert [layer.name for layer in report.layers if layer.measured] == [executed]
    assert report.model.not_executed == tuple({"a", "b"} - {executed})


def test_settled_branches_may_use_the_same_names(tmp_path: Path) -> None:
    def step(source: str, result: str, operator: str, factor: float) -> Any:
        taken = branch(
            "t",
            helper.make_node(operator, [source], ["inner"]),
            helper.make_node("Mul", ["inner", "factor"], ["outer"]),
            output="outer",
            constants={"factor": np.array([factor], np.float32)},
        )
        other = branch("e", helper.make_node("Neg", [source], ["inner"]), output="inner")
        return helper.make_node("If", ["yes"], [result], then_branch=taken, else_branch=other)

    nodes = [
        models.batchnorm("x", "a", "bn"),
        step("a", "b", "Relu", 2),
        step("a", "c", "Sigmoid", 3),
        helper.make_node("Sub", ["b", "c"], ["y"]),
    ]
    constants = models.batchnorm_constants("bn", 3) | {"yes": np.array(True)}
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 3]}, ["y"], constants))
    models.assert_same(load_onnx(path), path, {"x": models.normal(4, 3)})


def test_a_branch_may_hand_on_a_value_from_outside(tmp_path: Path) -> None:
    kept = branch("then", helper.make_node("Identity", ["r"], ["kept"]), output="kept")
    other = branch("else", helper.make_node("Neg", ["x"], ["negated"]), output="negated")
    nodes = [
        models.batchnorm("x", "a", "bn"),
        helper.make_node("Identity", ["a"], ["r"]),
        helper.make_node("ReduceSum", ["r"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["flag"], to=BOOL),
        helper.make_node("If", ["flag"], ["y"], then_branch=kept, else_branch=other),
    ]
    constants = models.batchnorm_constants("bn", 3)
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 3]}, ["y"], constants))
    models.assert_same(load_onnx(path), path, {"x": models.normal(4, 3)})


def loop_body(*nodes: Any, outputs: Sequence[Any]) -> Any:
    inputs = [info("step", INT, []), info("go", BOOL, []), info("value", FLOAT, None)]
    go_on = helper.make_node("Identity", ["go"], ["go_on"])
    return helper.make_graph([go_on, *nodes], "body", inputs, [info("go_on", BOOL), *outputs])


def looping() -> tuple[list[Any], models.Arrays]:
    """Three times BN and tanh; the value of every step is collected too."""
    body = loop_body(
        models.batchnorm("value", "b", "bn"),
        helper.make_node("Tanh", ["b"], ["next"]),
        helper.make_node("Identity", ["next"], ["kept"]),
        outputs=[info("next"), info("kept")],
    )
    nodes = [helper.make_node("Loop", ["count", "", "x"], ["y", "all"], name="again", body=body)]
    return nodes, models.batchnorm_constants("bn", 3) | {"count": np.array(3)}


@pytest.mark.parametrize("opset", [11, 13, 17, 23])
def test_a_loop_runs_its_body(tmp_path: Path, opset: int) -> None:
    nodes, constants = looping()
    proto = models.graph_model(nodes, {"x": ["n", 3]}, ["y", "all"], constants, opset=opset)
    path = models.save(tmp_path, proto)
    models.assert_same(load_onnx(path), path, {"x": models.normal(4, 3)})


def test_every_step_of_a_loop_is_a_call_of_the_layer(tmp_path: Path) -> None:
    nodes, constants = looping()
    proto = models.graph_model(nodes, {"x": ["n", 3]}, ["y", "all"], constants)
    report = bnaudit.audit(models.save(tmp_path, proto), batch_size=8, metrics=("first_order",))
    assert [layer.label for layer in report.layers] == ["bn", "bn#2", "bn#3"]
    assert all(layer.measured for layer in report.layers)


def test_a_loop_that_the_data_ends(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["value", "half"], ["next"]),
            helper.make_node("ReduceMax", ["next"], ["top"], keepdims=0),
            helper.make_node("Greater", ["top", "limit"], ["go_on"]),
        ],
        "body",
        [info("step", INT, []), info("go", BOOL, []), info("value", FLOAT, None)],
        [info("go_on", BOOL), info("next")],
    )
    nodes = [helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)]
    constants = {"half": np.float32(0.5), "limit": np.float32(0.1), "yes": np.array(True)}
    proto = models.graph_model(
        nodes, {"x": ["n", 3]}, ["y"], {k: np.asarray(v) for k, v in constants.items()}
    )
    path = models.save(tmp_path, proto)
    models.assert_same(load_onnx(path), path, {"x": np.abs(models.normal(4, 3))})


def test_a_loop_without_an_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnaudit.load.onnx.control._MOST_STEPS", 50)
    body = loop_body(helper.make_node("Relu", ["value"], ["next"]), outputs=[info("next")])
    node = helper.make_node("Loop", ["", "", "x"], ["y"], body=body)
    path = models.save(tmp_path, models.graph_model([node], {"x": ["n", 3]}, ["y"]))
    with pytest.raises(RuntimeError, match="more than 50 steps"):
        load_onnx(path).module(torch.zeros(2, 3))


def test_an_if_inside_a_loop(tmp_path: Path) -> None:
    then = branch("then", models.batchnorm("value", "t", "bn"), output="t")
    other = branch("else", helper.make_node("Mul", ["value", "two"], ["e"]), output="e")
    body = loop_body(
        helper.make_node("Equal", ["step", "one"], ["second"]),
        helper.make_node("If", ["second"], ["next"], then_branch=then, else_branch=other),
        outputs=[info("next")],
    )
    node = helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)
    constants = models.batchnorm_constants("bn", 3) | {
        "count": np.array(3),
        "one": np.array(1),
        "two": np.array(2, np.float32),
    }
    path = models.save(tmp_path, models.graph_model([node], {"x": ["n", 3]}, ["y"], constants))
    model = load_onnx(path)
    assert sorted(set(model.labels.values()) - {""}) == ["bn"]
    models.assert_same(model, path, {"x": models.normal(4, 3)})


@pytest.mark.parametrize("backwards", [0, 1])
def test_a_scan_runs_its_body_over_an_axis(tmp_path: Path, backwards: int) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["state", "part"], ["sum"]),
            models.batchnorm("sum", "next", "bn"),
            helper.make_node("Tanh", ["next"], ["kept"]),
        ],
        "body",
        [info("state", FLOAT, None), info("part", FLOAT, None)],
        [info("next"), info("kept")],
    )
    directions: dict[str, Any] = {
        "scan_input_directions": [backwards],
        "scan_output_directions": [backwards],
    }
    node = helper.make_node(
        "Scan", ["start", "x"], ["y", "all"], num_scan_inputs=1, body=body,
        scan_input_axes=[1], scan_output_axes=[1], **directions,
    )  # fmt: skip
    constants = models.batchnorm_constants("bn", 3)
    proto = models.graph_model(
        [node], {"start": ["n", 3], "x": ["n", 5, 3]}, ["y", "all"], constants
    )
    path = models.save(tmp_path, proto)
    feeds = {"start": models.normal(2, 3), "x": models.normal(2, 5, 3, seed=1)}
    models.assert_same(load_onnx(path), path, feeds)


def test_an_operator_inside_a_body_that_cannot_be_converted_is_named(tmp_path: Path) -> None:
    then = branch("then", helper.make_node("Det", ["x"], ["d"], name="inside"), output="d")
    other = branch("else", helper.make_node("ReduceSum", ["x"], ["d"]), output="d")
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["flag"], to=BOOL),
        helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=other),
    ]
    path = models.save(tmp_path, models.graph_model(nodes, {"x": [3, 3]}, ["y"]))
    with pytest.raises(InputError, match="operator Det \\(node 'inside'\\)"):
        load_onnx(path)
