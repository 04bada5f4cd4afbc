"""ONNX: initializers, Constant nodes, external data, half precision, shared tensors, functions."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import bnaudit
from bnaudit.errors import RunError, UsageError
from tests.load.onnx.models import batchnorm_constants, graph_model
from tests.recalibration.nets import labels, reference, rows, two

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

STATS = {f"bn{i}.running_{s}" for i in (1, 2) for s in ("mean", "var")}
NAMES = ("weight", "bias", "running_mean", "running_var")


def model(**changed: Any) -> onnx.ModelProto:
    """The network of `nets.two` node by node; `changed` are node inputs by another name."""
    net = two()
    constants = {k: v.numpy() for k, v in net.state_dict().items() if v.is_floating_point()}

    def norm(source: str, result: str, prefix: str) -> Any:
        inputs = [changed.get(f"{prefix}.{n}".replace(".", "_"), f"{prefix}.{n}") for n in NAMES]
        return helper.make_node("BatchNormalization", [source, *inputs], [result], name=prefix)

    nodes = [
        helper.make_node("Conv", ["x", "conv1.weight"], ["a"], pads=[1, 1, 1, 1]),
        norm("a", "b", "bn1"),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "conv2.weight"], ["d"], strides=[2, 2]),
        norm("d", "e", "bn2"),
        helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("GlobalAveragePool", ["f"], ["g"]),
        helper.make_node("Flatten", ["g"], ["h"]),
        helper.make_node("Gemm", ["h", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    return graph_model(nodes, {"x": ["n", 1, 7, 7]}, ["y"], constants)


@pytest.fixture
def data(tmp_path: Path) -> str:
    x = rows()
    np.savez(tmp_path / "data.npz", x=x.numpy(), labels=labels(two(), x).numpy())
    return str(tmp_path / "data.npz")


def array(proto: onnx.ModelProto, name: str) -> NDArray[Any]:
    return numpy_helper.to_array(next(t for t in proto.graph.initializer if t.name == name))


def expect(found: dict[str, NDArray[Any]], tolerance: float = 1e-5) -> None:
    for layer, (mean, var) in reference(two(), rows()).items():
        sigma = (var.numpy() + 1e-5) ** 0.5
        assert (abs(found[f"{layer}.running_mean"] - mean.numpy()) / sigma).max() < tolerance
        assert (abs(found[f"{layer}.running_var"] - var.numpy()) / sigma**2).max() < tolerance


def without_statistics(proto: onnx.ModelProto) -> bytes:
    """Everything else of the content."""
    bare = copy.deepcopy(proto)
    for tensor in bare.graph.initializer:
        if tensor.name in STATS:
            for kind in ("raw_data", "float_data", "int32_data", "double_data"):
                tensor.ClearField(kind)
    return bytes(bare.SerializeToString(deterministic=True))


def typed(proto: onnx.ModelProto) -> None:
    """Numbers in the lists of their type, as old exporters write them."""
    for tensor in proto.graph.initializer:
        if tensor.name in STATS:
            values = numpy_helper.to_array(tensor).tolist()
            tensor.ClearField("raw_data")
            tensor.float_data.extend(values)


@pytest.mark.parametrize("lists", [False, True])
def test_initializers_and_nothing_else(tmp_path: Path, data: str, lists: bool) -> None:
    before = model()
    before.producer_name, before.graph.doc_string = "somebody", "a note"
    before.metadata_props.add(key="license", value="mine")
    if lists:
        typed(before)
    onnx.save(before, tmp_path / "net.onnx")
    report = bnaudit.recalibrate(tmp_path / "net.onnx", data=data, output=tmp_path / "f.onnx")
    after = onnx.load(tmp_path / "f.onnx")
    expect({name: array(after, name) for name in STATS})
    assert without_statistics(before) == without_statistics(after)
    changed = next(t for t in after.graph.initializer if t.name == "bn1.running_var")
    assert changed.HasField("raw_data") is not lists
    assert report.after.accuracy.mean > 0.95  # type: ignore[union-attr]


@pytest.mark.parametrize("where", ["body", "behind Identity"])
def test_constant_nodes(tmp_path: Path, data: str, where: str) -> None:
    proto = model()
    for tensor in list(proto.graph.initializer):
        if tensor.name in STATS:
            name = f"{tensor.name}/c" if where != "body" else tensor.name
            constant = helper.make_node("Constant", [], [name], value=tensor)
            nodes = [constant]
            if where != "body":
                nodes.append(helper.make_node("Identity", [name], [tensor.name]))
            for node in reversed(nodes):
                proto.graph.node.insert(0, node)
            proto.graph.initializer.remove(tensor)
    onnx.save(proto, tmp_path / "net.onnx")
    bnaudit.recalibrate(tmp_path / "net.onnx", data=data, output=tmp_path / "f.onnx")
    found = {}
    for node in onnx.load(tmp_path / "f.onnx").graph.node:
        if node.op_type == "Constant":
            found[node.output[0].removesuffix("/c")] = numpy_helper.to_array(node.attribute[0].t)
    expect(found)


def test_external_data_is_copied(tmp_path: Path, data: str) -> None:
    folder, other = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    other.mkdir()
    onnx.save(model(), folder / "net.onnx", save_as_external_data=True, location="w.bin",
              size_threshold=0)  # fmt: skip
    originals = {p.name: p.read_bytes() for p in folder.iterdir()}
    bnaudit.recalibrate(folder / "net.onnx", data=data, output=other / "f.onnx")
    assert originals == {p.name: p.read_bytes() for p in folder.iterdir()}
    assert sorted(p.name for p in other.iterdir()) == ["f.onnx", "f.onnx.data"]
    after = onnx.load(other / "f.onnx")
    expect({name: array(after, name) for name in STATS})
    np.testing.assert_array_equal(array(after, "conv1.weight"), array(model(), "conv1.weight"))
    beside = bnaudit.recalibrate(folder / "net.onnx", data=data, output=folder / "f.onnx")
    assert beside.written.outputs == 0  # type: ignore[union-attr]
    (folder / "g.onnx").unlink(missing_ok=True)
    with pytest.raises(UsageError, match="is read by this command"):
        bnaudit.recalibrate(folder / "net.onnx", data=data, output=folder / "w.bin")
    again = {n: (folder / n).read_bytes() for n in originals}
    assert again == originals


def test_a_data_file_of_the_models_own_is_not_written_over(tmp_path: Path, data: str) -> None:
    """The written model's data file would be called as one that the model refers to."""
    onnx.save(model(), tmp_path / "net.onnx", save_as_external_data=True, location="f.onnx.data",
              size_threshold=0)  # fmt: skip
    before = (tmp_path / "f.onnx.data").read_bytes()
    with pytest.raises(UsageError, match="is read by this command"):
        bnaudit.recalibrate(tmp_path / "net.onnx", data=data, output=tmp_path / "f.onnx")
    assert (tmp_path / "f.onnx.data").read_bytes() == before
    assert not (tmp_path / "f.onnx").exists()


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
@pytest.mark.parametrize("lists", [False, True])
def test_other_precisions_behind_a_cast(tmp_path: Path, data: str, kind: int, lists: bool) -> None:
    renamed = {name.replace(".", "_"): f"{name}/32" for name in STATS}
    proto = model(**renamed)
    for tensor in proto.graph.initializer:
        if tensor.name in STATS:
            values = numpy_helper.to_array(tensor).tolist()
            made = helper.make_tensor(tensor.name, kind, [len(values)], values)
            if not lists:
                made = numpy_helper.from_array(numpy_helper.to_array(made), tensor.name)
            tensor.CopyFrom(made)
    for name in STATS:
        cast = helper.make_node("Cast", [name], [f"{name}/32"], to=TensorProto.FLOAT)
        proto.graph.node.insert(0, cast)
    onnx.save(proto, tmp_path / "net.onnx")
    bnaudit.recalibrate(tmp_path / "net.onnx", data=data, output=tmp_path / "f.onnx")
    after = onnx.load(tmp_path / "f.onnx")
    assert {t.data_type for t in after.graph.initializer if t.name in STATS} == {kind}
    found = {name: array(after, name).astype(np.float64) for name in STATS}
    rounding: dict[int, float] = {TensorProto.FLOAT16: 5e-3, TensorProto.BFLOAT16: 3e-2}
    expect(found, rounding.get(kind, 1e-5))


def given(report: bnaudit.Recalibration, layer: int, name: str) -> list[float]:
    """New statistics, as the report has them."""
    values: tuple[float, ...] = getattr(report.layers[layer], name)
    return list(values)


def two_equal(between: str = "") -> onnx.ModelProto:
    """Two layers of four channels whose exporter stored their equal statistics once."""
    constants = {**batchnorm_constants("bn1", 4, 1), **batchnorm_constants("bn2", 4, 2)}
    constants = {k: v for k, v in constants.items() if k != "bn2.running_var"}
    constants["w"] = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    shared = "bn1.running_var"
    nodes = []
    if between:
        extra: dict[str, Any] = {"to": TensorProto.FLOAT} if between == "Cast" else {}
        nodes.append(helper.make_node(between, [shared], ["bn2.running_var"], **extra))
        shared = "bn2.running_var"
    nodes += [
        helper.make_node(
            "BatchNormalization", ["x", *(f"bn1.{n}" for n in NAMES)], ["a"], name="one"
        ),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node(
            "BatchNormalization", ["b", *(f"bn2.{n}" for n in NAMES[:3]), shared], ["y"], name="two"
        ),
    ]
    return graph_model(nodes, {"x": ["n", 4]}, ["y"], constants)


@pytest.mark.parametrize("between", ["", "Identity"])
def test_a_tensor_of_two_layers_is_split(tmp_path: Path, between: str) -> None:
    x = torch.randn(40, 4) * torch.tensor([1.0, 2, 3, 4]) + 1
    onnx.save(two_equal(between), tmp_path / "net.onnx")
    report = bnaudit.recalibrate(
        tmp_path / "net.onnx", data=x, output=tmp_path / "f.onnx", force=True
    )
    after = onnx.load(tmp_path / "f.onnx")
    by_node = {n.name: n for n in after.graph.node if n.op_type == "BatchNormalization"}
    first, second = (array(after, by_node[n].input[4]) for n in ("one", "two"))
    np.testing.assert_allclose(first, x.var(0).numpy(), rtol=1e-5)
    assert abs(first - second).max() > 0.1
    np.testing.assert_allclose(second, given(report, 1, "running_var"), rtol=1e-6)


def test_a_layer_left_alone_keeps_the_shared_tensor(tmp_path: Path) -> None:
    x = torch.randn(40, 4) * 2 + 1
    onnx.save(two_equal(), tmp_path / "net.onnx")
    bnaudit.recalibrate(
        tmp_path / "net.onnx", data=x, output=tmp_path / "f.onnx", force=True, layers="bn2"
    )
    after = onnx.load(tmp_path / "f.onnx")
    np.testing.assert_array_equal(
        array(after, "bn1.running_var"), array(two_equal(), "bn1.running_var")
    )
    by_node = {n.name: n for n in after.graph.node if n.op_type == "BatchNormalization"}
    assert by_node["one"].input[4] == "bn1.running_var" != by_node["two"].input[4]


def test_a_shared_tensor_behind_a_cast_is_not_split(tmp_path: Path) -> None:
    onnx.save(two_equal("Cast"), tmp_path / "net.onnx")
    with pytest.raises(RunError, match="is a Cast of an initializer that other layers read too"):
        bnaudit.recalibrate(
            tmp_path / "net.onnx", data=torch.randn(40, 4), output=tmp_path / "f.onnx", force=True
        )
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


def test_one_layer_called_twice_stays_one(tmp_path: Path) -> None:
    """Its statistics are of both calls together, in the tensors that both nodes read."""
    constants = batchnorm_constants("bn", 4)
    inputs = [f"bn.{n}" for n in NAMES]
    nodes = [
        helper.make_node("BatchNormalization", ["x", *inputs], ["a"]),
        helper.make_node("BatchNormalization", ["a", *inputs], ["y"]),
    ]
    onnx.save(graph_model(nodes, {"x": ["n", 4]}, ["y"], constants), tmp_path / "net.onnx")
    report = bnaudit.recalibrate(
        tmp_path / "net.onnx", data=torch.randn(64, 4), output=tmp_path / "f.onnx", force=True
    )
    after = onnx.load(tmp_path / "f.onnx")
    assert [list(n.input[1:]) for n in after.graph.node] == [inputs, inputs]
    assert (report.layers[0].calls, report.layers[0].values) == (2, 128)
    np.testing.assert_allclose(
        array(after, "bn.running_mean"), given(report, 0, "running_mean"), rtol=1e-6
    )


def test_parameters_of_local_functions(tmp_path: Path, data: str) -> None:
    proto = model()
    body = helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"])
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Norm", ["x", "g", "b", "m", "v"], ["y"], [body], opsets)
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    for node in proto.graph.node:
        if node.op_type == "BatchNormalization":
            node.op_type, node.domain = "Norm", "own"
    onnx.save(proto, tmp_path / "net.onnx")
    bnaudit.recalibrate(tmp_path / "net.onnx", data=data, output=tmp_path / "f.onnx")
    after = onnx.load(tmp_path / "f.onnx")
    expect({name: array(after, name) for name in STATS})
    assert without_statistics(proto) == without_statistics(after)


def test_computed_statistics_stay(tmp_path: Path, data: str) -> None:
    proto = model(bn1_running_var="bn1.computed")
    proto.graph.node.insert(
        0, helper.make_node("Mul", ["bn1.running_var", "bn1.running_var"], ["bn1.computed"])
    )
    onnx.save(proto, tmp_path / "net.onnx")
    report = bnaudit.recalibrate(
        tmp_path / "net.onnx", data=data, output=tmp_path / "f.onnx", force=True
    )
    assert report.layers[0].kept == "its statistics are computed while the model runs"
    assert report.layers[1].kept is None
