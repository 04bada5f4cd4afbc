"""What an inspection says of one layer: flags, numbers, what feeds it, what completes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnaudit
from bnaudit.errors import InputError
from bnaudit.inspection.onnx import inspect_onnx
from bnaudit.load.onnx import load_onnx
from tests.load.onnx import models

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.inspection import BatchNormStatics, Inspection

SHAPE: dict[str, list[int | str]] = {"x": ["n", 3, 4, 4]}


def built(folder: Path, nodes: list[Any], outputs: list[str], **constants: Any) -> Inspection:
    known = models.batchnorm_constants("bn", 3) | constants
    return inspect_onnx(models.save(folder, models.graph_model(nodes, SHAPE, outputs, known)))


def layer(path: Path) -> BatchNormStatics:
    (found,) = inspect_onnx(path).batchnorms
    return found


def test_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    read = layer(models.one_batchnorm(tmp_path))
    constants = models.batchnorm_constants("bn", 3)
    assert read.gamma == tuple(constants["bn.weight"].tolist())
    assert read.beta == tuple(constants["bn.bias"].tolist())
    assert read.running_mean == tuple(constants["bn.running_mean"].tolist())
    assert read.running_var == tuple(constants["bn.running_var"].tolist())
    assert (read.name, read.origin) == ("bn", "node 'node_bn' (BatchNormalization)")
    assert (read.channels, read.dtype, read.preceded_by) == (3, "float32", "input")
    assert (read.eps, read.momentum, read.training, read.of_weights) == (1e-5, 0.1, False, False)


@pytest.mark.parametrize(
    ("attributes", "eps", "momentum"),
    [
        ({"epsilon": 1e-3, "momentum": 0.99}, 1e-3, 0.01),
        ({"epsilon": 0.0, "momentum": 0.0}, 0.0, 1.0),
        ({"epsilon": 2e-5, "momentum": 0.7}, 2e-5, 0.3),
    ],
)
def test_attributes(
    tmp_path: Path, attributes: dict[str, Any], eps: float, momentum: float
) -> None:
    """Float32 attributes are told as they were meant; momentum in PyTorch's convention."""
    node = models.batchnorm("x", "y", "bn", "node", **attributes)
    (read,) = built(tmp_path, [node], ["y"]).batchnorms
    assert (read.eps, read.momentum) == (eps, momentum)


@pytest.mark.parametrize(
    ("opset", "attributes", "outputs", "training"),
    [
        (17, {}, 1, False),
        (17, {"training_mode": 1}, 3, True),
        (14, {"training_mode": 0}, 1, False),
        (13, {}, 1, False),
        (9, {}, 5, True),
        (6, {}, 1, True),
        (6, {"is_test": 1}, 1, False),
    ],
)
def test_each_version_has_its_training_flag(
    tmp_path: Path, opset: int, attributes: dict[str, Any], outputs: int, training: bool
) -> None:
    node = models.batchnorm("x", "y", "bn", "node", **attributes)
    node.output.extend(f"more{i}" for i in range(outputs - 1))
    proto = models.graph_model(
        [node], SHAPE, ["y"], models.batchnorm_constants("bn", 3), opset=opset
    )
    assert layer(models.save(tmp_path, proto)).training is training


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_other_types(tmp_path: Path, kind: str) -> None:
    changes = {k: v.astype(kind) for k, v in models.batchnorm_constants("bn", 3).items()}
    read = layer(models.one_batchnorm(tmp_path, changes=changes))
    assert read.dtype == kind
    assert read.running_var == tuple(changes["bn.running_var"].astype(np.float64).tolist())


def conv(result: str = "c", source: str = "x", *, bias: bool = False) -> Any:
    return helper.make_node(
        "Conv", [source, "conv.weight", *(["conv.bias"] if bias else [])], [result]
    )


WEIGHTS = {"conv.weight": models.normal(3, 3, 1, 1), "conv.bias": models.normal(3)}


@pytest.mark.parametrize(
    ("nodes", "outputs", "feeder", "before"),
    [
        ([conv()], ["y"], ("conv.weight", "Conv", False, True), "Conv"),
        ([conv(bias=True)], ["y"], ("conv.weight", "Conv", True, True), "Conv"),
        ([conv()], ["y", "c"], ("conv.weight", "Conv", False, False), "Conv"),
        (
            [conv(), helper.make_node("Relu", ["c"], ["z"])],
            ["y", "z"],
            ("conv.weight", "Conv", False, False),
            "Conv",
        ),
        (
            [conv("d"), helper.make_node("Dropout", ["d"], ["c"])],
            ["y"],
            ("conv.weight", "Conv", False, True),
            "Dropout",
        ),
        (
            [conv("d"), helper.make_node("Identity", ["d"], ["c"])],
            ["y"],
            ("conv.weight", "Conv", False, True),
            "Conv",
        ),
        ([conv("d"), helper.make_node("Relu", ["d"], ["c"])], ["y"], None, "Relu"),
        ([helper.make_node("Add", ["x", "x"], ["c"])], ["y"], None, "Add"),
    ],
)
def test_what_feeds_it(
    tmp_path: Path, nodes: list[Any], outputs: list[str], feeder: Any, before: str
) -> None:
    inspection = built(tmp_path, [*nodes, models.batchnorm("c", "y", "bn")], outputs, **WEIGHTS)
    (read,) = inspection.batchnorms
    assert read.preceded_by == before
    found = read.feeder
    assert feeder == (found and (found.weight, found.operator, found.bias, found.sole_reader))


def test_a_linear_layer_in_two_nodes(tmp_path: Path) -> None:
    """As frameworks write it whose weights lie the other way round."""
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["m"]),
        helper.make_node("Add", ["b", "m"], ["c"]),
        models.batchnorm("c", "y", "bn"),
    ]
    constants = models.batchnorm_constants("bn", 3) | {
        "w": models.normal(3, 5),
        "b": models.normal(3),
    }
    proto = models.graph_model(nodes, {"x": ["n", 5]}, ["y"], constants)
    feeder = layer(models.save(tmp_path, proto)).feeder
    assert feeder is not None
    assert (feeder.weight, feeder.operator, feeder.bias, feeder.sole_reader) == (
        "w",
        "MatMul",
        True,
        True,
    )


def test_zeros_that_an_exporter_computes_are_no_bias(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["three"], ["zeros"]),
        helper.make_node("Conv", ["x", "conv.weight", "zeros"], ["c"]),
        models.batchnorm("c", "y", "bn"),
    ]
    (read,) = built(tmp_path, nodes, ["y"], **WEIGHTS, three=np.array([3])).batchnorms
    assert read.feeder is not None
    assert read.feeder.bias is False


@pytest.mark.parametrize("attribute", ["value", "value_floats"])
def test_parameters_in_constant_nodes(tmp_path: Path, attribute: str) -> None:
    constants = models.batchnorm_constants("bn", 3)
    nodes = []
    for name, array in constants.items():
        value: Any = numpy_helper.from_array(array) if attribute == "value" else array.tolist()
        nodes.append(helper.make_node("Constant", [], [name], **{attribute: value}))
    proto = models.graph_model([*nodes, models.batchnorm("x", "y", "bn")], SHAPE, ["y"])
    read = layer(models.save(tmp_path, proto))
    assert read.gamma == tuple(constants["bn.weight"].tolist())


def test_parameters_that_are_computed_are_not_told(tmp_path: Path) -> None:
    node = helper.make_node("Exp", ["log_var"], ["bn.running_var"])
    constants = models.batchnorm_constants("bn", 3)
    del constants["bn.running_var"]
    nodes = [node, models.batchnorm("x", "y", "bn")]
    proto = models.graph_model(nodes, SHAPE, ["y"], constants | {"log_var": models.normal(3)})
    inspection = inspect_onnx(models.save(tmp_path, proto))
    assert inspection.batchnorms[0].running_var is None
    assert inspection.batchnorms[0].channels == 3
    assert any("computed while the model runs: bn" in note for note in inspection.notes)


def test_layers_inside_subgraphs(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [models.batchnorm("x", "out", "bn")],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in models.batchnorm_constants("bn", 3).items()],
    )
    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)
    proto = models.graph_model([node], SHAPE, ["y"], {"flag": np.array(True)})
    inspection = inspect_onnx(models.save(tmp_path, proto))
    assert [read.name for read in inspection.batchnorms] == ["bn"]  # one layer in two places
    assert inspection.batchnorms[0].of_weights is False


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    inner = helper.make_node("BatchNormalization", ["a", "g", "b", "m", "v"], ["z"], name="norm")
    function = helper.make_function("own", "Block", list("agbmv"), ["z"], [inner], opsets[:1])
    call = models.batchnorm("x", "y", "layer.bn")
    call.op_type, call.domain = "Block", "own"
    proto = models.graph_model([call], SHAPE, ["y"], models.batchnorm_constants("layer.bn", 3))
    proto.functions.append(function)
    proto.opset_import.append(opsets[1])
    path = models.save(tmp_path, proto)
    assert layer(path).name == load_onnx(path).batchnorms[0].name == "layer.bn"
    assert layer(path).running_var is not None


S, T = models.normal(3, 1, 1, seed=1), models.normal(3, 1, 1, seed=2)
MUL = helper.make_node("Mul", ["a", "s"], ["b"])
ADD = helper.make_node("Add", ["t", "b"], ["y"])
RELU = helper.make_node("Relu", ["a"], ["z"])


def scaled(folder: Path, nodes: list[Any], outputs: list[str], **changed: Any) -> BatchNormStatics:
    constants = {"s": S, "t": T} | changed
    (read,) = built(
        folder, [models.batchnorm("x", "a", "bn"), *nodes], outputs, **constants
    ).batchnorms
    return read


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1)])
def test_a_scale_layer_is_part_of_the_layer(tmp_path: Path, shape: tuple[int, ...]) -> None:
    read = scaled(tmp_path, [MUL, ADD], ["y"], s=S.reshape(shape), t=T.reshape(shape))
    constants = {k: v.astype(np.float64) for k, v in models.batchnorm_constants("bn", 3).items()}
    assert read.scale_absorbed
    np.testing.assert_allclose(read.gamma or (), constants["bn.weight"] * S.ravel(), rtol=1e-12)
    np.testing.assert_allclose(
        read.beta or (), constants["bn.bias"] * S.ravel() + T.ravel(), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("nodes", "outputs", "changed"),
    [
        ([MUL, ADD, RELU], ["y", "z"], {}),
        ([MUL, ADD], ["y", "a"], {}),
        ([MUL, ADD], ["y"], {"s": models.normal(4)}),
        ([MUL, ADD], ["y"], {"s": models.normal(1)}),
        ([helper.make_node("Mul", ["a", "a"], ["b"]), ADD], ["y"], {}),
    ],
)
def test_what_is_no_scale_layer(
    tmp_path: Path, nodes: list[Any], outputs: list[str], changed: dict[str, Any]
) -> None:
    read = scaled(tmp_path, nodes, outputs, **changed)
    assert not read.scale_absorbed
    assert read.gamma == tuple(models.batchnorm_constants("bn", 3)["bn.weight"].tolist())


def affine(*steps: str, **changed: Any) -> tuple[list[Any], dict[str, Any]]:
    """A convolution and then Mul, Add, ... with a vector each."""
    nodes, constants, value = [conv("v0")], dict(WEIGHTS), "v0"
    for place, step in enumerate(steps, 1):
        nodes.append(helper.make_node(step, [value, f"k{place}"], [f"v{place}"]))
        constants[f"k{place}"] = changed.get(f"k{place}", models.normal(3, 1, 1, seed=place))
        value = f"v{place}"
    return nodes, constants


@pytest.mark.parametrize(
    ("steps", "changed", "found"),
    [
        (("Mul", "Add"), {}, 1),
        (("Sub", "Div", "Mul", "Add"), {}, 1),
        (("Div", "Sub"), {}, 1),
        (("Add",), {}, 0),  # a bias
        (("Mul",), {}, 0),  # a scaling
        (("Add", "Mul"), {}, 0),  # a bias, then a scaling
        (("Mul", "Add"), {"k1": np.full((3, 1, 1), 2.0, np.float32)}, 0),  # one number for all
        (("Mul", "Add"), {"k1": models.normal(1)}, 0),
        (("Mul", "Add"), {"k1": models.normal(4)}, 0),  # along the width
    ],
)
def test_decomposed_layers(
    tmp_path: Path, steps: tuple[str, ...], changed: dict[str, Any], found: int
) -> None:
    nodes, constants = affine(*steps, **changed)
    inspection = built(tmp_path, nodes, [f"v{len(steps)}"], **constants)
    assert len(inspection.decomposed) == found
    for norm in inspection.decomposed:
        assert (norm.channels, norm.after) == (3, "conv.weight")


def test_a_file_with_a_layer_and_a_decomposed_one_is_partly_told(tmp_path: Path) -> None:
    nodes, constants = affine("Mul", "Add")
    inspection = built(tmp_path, [*nodes, models.batchnorm("v2", "y", "bn")], ["y"], **constants)
    assert len(inspection.batchnorms) == len(inspection.decomposed) == 1
    assert inspection.absence is not None
    assert inspection.absence.case == "partly-folded"


def test_nodes_in_any_order(tmp_path: Path) -> None:
    inspection = built(tmp_path, [models.batchnorm("c", "y", "bn"), conv()], ["y"], **WEIGHTS)
    (read,) = inspection.batchnorms
    assert read.feeder is not None
    assert read.of_weights is False


def test_a_cycle_ends(tmp_path: Path) -> None:
    """No runtime takes it, but nothing may hang on it."""
    nodes = [
        helper.make_node("Identity", ["q"], ["p"]),
        helper.make_node("Identity", ["p"], ["q"]),
        conv("c", "q"),
        helper.make_node("Mul", ["c", "k"], ["d"]),
        helper.make_node("Add", ["d", "k"], ["c"]),
        models.batchnorm("c", "y", "bn"),
        helper.make_node("Reshape", ["q", "q"], ["r"]),
        helper.make_node("Mul", ["y", "r"], ["z"]),
    ]
    inspection = built(tmp_path, nodes, ["z"], **WEIGHTS, k=models.normal(3, 1, 1))
    assert len(inspection.batchnorms) == 1


@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "running_var"])
def test_parameters_of_different_lengths(tmp_path: Path, name: str) -> None:
    path = models.one_batchnorm(tmp_path, changes={f"bn.{name}": np.ones(4, np.float32)})
    with pytest.raises(InputError, match=r"bn: .* channels"):
        inspect_onnx(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 0.0])
def test_values_that_no_training_produces_are_kept(tmp_path: Path, value: float) -> None:
    path = models.one_batchnorm(tmp_path, changes={"bn.running_var": np.full(3, value, np.float32)})
    np.testing.assert_array_equal(layer(path).running_var or (), np.full(3, value))


def test_a_tensor_that_is_shorter_than_it_says(tmp_path: Path) -> None:
    proto = onnx.load(models.one_batchnorm(tmp_path))
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    with pytest.raises(InputError, match="does not hold what its type and shape say"):
        inspect_onnx(models.save(tmp_path, proto))


@pytest.mark.parametrize("producer", ["mxnet", "MXNet", "pytorch"])
@pytest.mark.parametrize("stored", [0.0, 0.37])
@pytest.mark.parametrize("both", [True, False])
def test_mxnets_fixed_gammas_are_named(
    tmp_path: Path, producer: str, stored: float, both: bool
) -> None:
    nodes = [models.batchnorm("x", "z", "bn1"), models.batchnorm("z", "y", "bn2")]
    constants = models.batchnorm_constants("bn1", 3) | models.batchnorm_constants("bn2", 3)
    for name in ("bn1", "bn2") if both else ("bn1",):
        constants[f"{name}.weight"] = np.full(3, stored, np.float32)
    model = models.graph_model(nodes, {"x": ["n", 3, 4, 4]}, ["y"], constants)
    model.producer_name = producer
    found = bnaudit.inspect(models.save(tmp_path, model)).findings
    told = [f for f in found if "fix_gamma" in f.message]
    names = ["bn1", "bn2"] if both else ["bn1"]
    assert [f.layer for f in told] == (names if producer != "pytorch" else [])
    for finding in told:
        assert finding.rule == ("BN009" if stored == 0 else "BN017")
        assert finding.fix.startswith("set this gamma to 1")
        assert "prune" not in finding.fix
    dead = {f.layer for f in found if f.rule == "BN009"}
    assert dead == (set(names) if stored == 0 else set())


def centred(folder: Path, shapes: list[tuple[int, ...]], ops: tuple[str, ...], name: str) -> Any:
    """What Keras 3 writes with PyTorch behind it: x - mean, times gamma/sigma, plus beta, and casts."""
    nodes, value = [onnx.helper.make_node("Relu", [name], ["v"])], "v"
    constants = {}
    for i, (op, shape) in enumerate(zip(ops, shapes, strict=True)):
        constants[f"c{i}"] = models.normal(*shape, seed=i)
        nodes.append(onnx.helper.make_node(op, [value, f"c{i}"], [f"o{i}"], name=f"/{op}{i}"))
        nodes.append(onnx.helper.make_node("Cast", [f"o{i}"], [f"v{i}"], to=1))
        value = f"v{i}"
    nodes.append(onnx.helper.make_node("Identity", [value], ["y"]))
    model = models.graph_model(nodes, {name: ["n", 4, 4, 6]}, ["y"], constants)
    return inspect_onnx(models.save(folder, model))


@pytest.mark.parametrize("shape", [(1, 1, 1, 6), (6,), (1, 6), (1, 6, 1, 1)])
@pytest.mark.parametrize("name", ["keras_tensor", "x"])
def test_three_vectors_in_a_row_are_what_is_left_of_batchnorm(
    tmp_path: Path, shape: tuple[int, ...], name: str
) -> None:
    """Wherever it stands, and whatever axis its channels are."""
    found = centred(tmp_path, [shape] * 3, ("Sub", "Mul", "Add"), name)
    assert [norm.channels for norm in found.decomposed] == [6]
    assert "(Sub, then Mul, then Add)" in found.decomposed[0].origin
    assert found.absence.case == "frozen"
    assert ("model.save('model.keras')" in found.absence.fix) is (name == "keras_tensor")


@pytest.mark.parametrize(
    ("shapes", "ops"),
    [
        ([(6,), (6,)], ("Sub", "Mul")),  # data that is normalised
        ([(6,), (), (6,)], ("Sub", "Mul", "Add")),
        ([(6,), (6,), (4, 6)], ("Sub", "Mul", "Add")),
        ([(6,), (4, 1, 1), (6,)], ("Sub", "Mul", "Add")),
        ([(6,), (6,), (6,)], ("Mul", "Sub", "Add")),
    ],
)
def test_other_arithmetic_is_none(
    tmp_path: Path, shapes: list[tuple[int, ...]], ops: tuple[str, ...]
) -> None:
    assert centred(tmp_path, shapes, ops, "x").decomposed == ()
