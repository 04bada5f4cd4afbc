"""Files in half, double and mixed precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import bnaudit
from bnaudit.load.onnx import load_onnx

from . import models

if TYPE_CHECKING:
    from pathlib import Path

HALF, BRAIN = TensorProto.FLOAT16, TensorProto.BFLOAT16
FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
DTYPES: dict[int, Any] = {
    FLOAT: np.float32,
    DOUBLE: np.float64,
    HALF: np.float16,
    BRAIN: ml_dtypes.bfloat16,
}


def network(data: int, parameters: int, *, between: int | None = None) -> onnx.ModelProto:
    """x -> Conv -> BN -> ReLU -> Gemm -> y; `between` casts to that type after the first cast-free input."""
    draw = models.rng()
    inner = between or data
    batchnorm = models.batchnorm_constants("bn", 4)
    constants = {name: value.astype(DTYPES[parameters]) for name, value in batchnorm.items()}
    for name, shape in (("conv.weight", (4, 3, 3, 3)), ("fc.weight", (16, 5)), ("fc.bias", (5,))):
        constants[name] = (0.3 * draw.standard_normal(shape)).astype(DTYPES[inner])
    nodes = [
        helper.make_node("Conv", ["i" if between else "x", "conv.weight"], ["a"]),
        models.batchnorm("a", "b", "bn"),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "fc.weight", "fc.bias"], ["o" if between else "y"]),
    ]
    if between:
        nodes.insert(0, helper.make_node("Cast", ["x"], ["i"], to=between))
        nodes.append(helper.make_node("Cast", ["o"], ["y"], to=data))
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", data, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("y", data, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


CASES: dict[str, dict[str, Any]] = {
    "float16": {"data": HALF, "parameters": HALF},
    "float16 with float32 parameters": {"data": HALF, "parameters": FLOAT},
    "float16 between casts": {"data": FLOAT, "parameters": HALF, "between": HALF},
    "bfloat16": {"data": BRAIN, "parameters": BRAIN},
    "bfloat16 with float32 parameters": {"data": BRAIN, "parameters": FLOAT},
    "double": {"data": DOUBLE, "parameters": DOUBLE},
    "double between casts": {"data": FLOAT, "parameters": DOUBLE, "between": DOUBLE},
}


def reference(proto: onnx.ModelProto, x: torch.Tensor) -> torch.Tensor:
    """The network in float64, from the file's values."""
    w = {
        t.name: torch.from_numpy(numpy_helper.to_array(t).astype(np.float64))
        for t in proto.graph.initializer
    }
    a = torch.nn.functional.conv2d(x, w["conv.weight"])
    b = torch.nn.functional.batch_norm(
        a, w["bn.running_mean"], w["bn.running_var"], w["bn.weight"], w["bn.bias"]
    )
    return b.relu().flatten(1) @ w["fc.weight"] + w["fc.bias"]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outputs_are_those_of_the_stored_values(tmp_path: Path, case: dict[str, Any]) -> None:
    """Rounding between the layers is left out; rounding of the weights is the file's."""
    proto = network(**case)
    model = load_onnx(models.save(tmp_path, proto))
    x = torch.from_numpy(models.normal(5, 3, 4, 4))
    wide = case["data"] == DOUBLE
    with torch.no_grad():
        found = model.module(x.double() if wide else x)
    assert found.dtype == (torch.float64 if wide else torch.float32)
    torch.testing.assert_close(found.double(), reference(proto, x.double()), rtol=1e-5, atol=1e-5)
    halves = {HALF: "float16", BRAIN: "bfloat16"}
    half = next((halves[kind] for kind in case.values() if kind in halves), None)
    assert model.notes == ((f"its {half} values are run in float32",) if half else ())


@pytest.mark.parametrize("dtype", [None, "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_precision_is_audited_in_every_other(
    tmp_path: Path, case: dict[str, Any], dtype: str | None
) -> None:
    path = models.save(tmp_path, network(**case))
    report = bnaudit.audit(path, batch_size=8, dtype=dtype, metrics=("first_order", "second_order"))
    (layer,) = report.layers
    assert layer.name == "bn"
    assert layer.measured
    assert report.run is not None
    assert dtype in {None, report.run.dtype}


def test_the_parameters_of_a_bfloat16_file_keep_their_names(tmp_path: Path) -> None:
    model = load_onnx(models.save(tmp_path, network(BRAIN, BRAIN)))
    names = {model.parameter_name(path) for path, _ in model.module.named_parameters()}
    assert names == {"conv.weight", "bn.weight", "bn.bias", "fc.weight", "fc.bias"}


def test_a_cast_inside_the_graph_follows_the_precision_of_the_run(tmp_path: Path) -> None:
    """Exporters write x.float() as a cast to float32, also where the audit is in float64."""
    nodes = [
        models.batchnorm("x", "a", "bn"),
        helper.make_node("Cast", ["a"], ["b"], to=FLOAT),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    constants = models.batchnorm_constants("bn", 3) | {"w": models.normal(3, 2)}
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 3]}, ["y"], constants))
    module = load_onnx(path).module.double()
    assert module(torch.zeros(4, 3).double()).dtype == torch.float64


def test_conversions_to_integers_stay(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT32),
        helper.make_node("Cast", ["i"], ["b"], to=TensorProto.BOOL),
        helper.make_node("Cast", ["b"], ["y"], to=FLOAT),
    ]
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 3]}, ["y"]))
    models.assert_same(load_onnx(path), path, {"x": 3 * models.normal(4, 3)})


def test_half_constants_inside_a_branch(tmp_path: Path) -> None:
    def branch(name: str, value: float) -> Any:
        constant = numpy_helper.from_array(np.array(value, np.float16), f"{name}_k")
        node = helper.make_node("Mul", ["x", f"{name}_k"], [f"{name}_y"])
        output = helper.make_tensor_value_info(f"{name}_y", HALF, None)
        return helper.make_graph([node], name, [], [output], [constant])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["flag"], to=TensorProto.BOOL),
        helper.make_node(
            "If", ["flag"], ["y"], then_branch=branch("a", 2), else_branch=branch("b", 3)
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", HALF, ["n", 3])],
        [helper.make_tensor_value_info("y", HALF, None)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = load_onnx(models.save(tmp_path, proto))
    found = model.module(torch.ones(2, 3))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full((2, 3), 2.0))
