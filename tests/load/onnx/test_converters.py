"""Every converter of ours against onnxruntime, in the uses that are easy to get wrong."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import helper

from bnaudit.load.onnx import load_onnx

from . import models

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

W33 = models.normal(4, 3, 3, 3, seed=1)
I64 = np.int64
SAME = {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}
COUNTED = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}
SCALED = {"alpha": 0.5, "beta": 2.0, "transB": 1}


def ints(*values: int) -> NDArray[Any]:
    return np.array(values, dtype=I64)


def floats(*values: float) -> NDArray[Any]:
    return np.array(values, dtype=np.float32)


# (label, operator, opset, shape of x, constant inputs after x ("" omits one), attributes)
CASES: list[tuple[str, str, int, tuple[int, ...], list[Any], dict[str, Any]]] = [
    ("same_upper", "Conv", 17, (2, 3, 7, 8), [W33], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("same_lower", "Conv", 17, (2, 3, 7, 8), [W33], {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("valid", "Conv", 17, (2, 3, 7, 8), [W33, floats(1, 2, 3, 4)], {"auto_pad": "VALID"}),
    ("one_sided", "Conv", 22, (2, 3, 7, 8), [W33], {"pads": [0, 1, 2, 0]}),
    ("groups", "Conv", 11, (2, 6, 7, 8), [models.normal(4, 3, 3, 3)], {"group": 2, "dilations": [2, 1]}),
    ("1d", "Conv", 17, (2, 3, 9), [models.normal(4, 3, 3)], {"pads": [1, 1]}),
    ("3d", "Conv", 17, (1, 2, 4, 5, 6), [models.normal(3, 2, 2, 2, 2)], {"strides": [1, 2, 1]}),
    (
        "plain",
        "ConvTranspose",
        17,
        (2, 3, 5, 5),
        [models.normal(3, 4, 3, 3), floats(1, 2, 3, 4)],
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    ),
    (
        "one_sided",
        "ConvTranspose",
        17,
        (2, 3, 5, 5),
        [models.normal(3, 4, 3, 3)],
        {"strides": [2, 2], "pads": [0, 1, 1, 0]},
    ),
    (
        "same",
        "ConvTranspose",
        17,
        (2, 3, 5, 5),
        [models.normal(3, 4, 3, 3)],
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ),
    ("same", "MaxPool", 17, (2, 3, 7, 8), [], SAME),
    ("one_sided", "MaxPool", 12, (2, 3, 7, 8), [], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
    ("ceil", "MaxPool", 17, (2, 3, 7, 8), [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("same", "AveragePool", 17, (2, 3, 7, 8), [], {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER"}),
    ("counted", "AveragePool", 17, (2, 3, 7, 8), [], COUNTED),
    ("not_counted", "AveragePool", 17, (2, 3, 7, 8), [], {"kernel_shape": [3, 3], "pads": [0, 1, 2, 1]}),
    ("any", "GlobalAveragePool", 17, (2, 3, 5), [], {}),
    ("any", "GlobalMaxPool", 17, (2, 3, 5, 4, 2), [], {}),
    ("upper_only", "Clip", 17, (2, 5), ["", np.float32(0.5)], {}),
    ("both", "Clip", 13, (2, 5), [np.float32(-0.1), np.float32(0.5)], {}),
    ("attributes", "Clip", 9, (2, 5), [], {"min": -0.2, "max": 0.3}),
    ("channel", "PRelu", 17, (2, 3, 4, 4), [models.normal(3, 1, 1)], {}),
    ("last_axis", "PRelu", 17, (2, 3, 3), [models.normal(3)], {}),
    ("tanh", "Gelu", 20, (2, 5), [], {"approximate": "tanh"}),
    ("plain", "Mish", 18, (2, 5), [], {}),
    ("plain", "HardSwish", 22, (2, 5), [], {}),
    ("plain", "ThresholdedRelu", 17, (2, 5), [], {"alpha": 0.3}),
    ("upper", "Trilu", 17, (4, 4), [np.array(1, I64)], {"upper": 1}),
    ("copy_and_guess", "Reshape", 17, (2, 3, 4), [ints(0, -1, 2)], {}),
    ("axis_2", "Flatten", 17, (2, 3, 4), [], {"axis": 2}),
    ("axis_0", "Flatten", 17, (2, 3, 4), [], {"axis": 0}),
    ("both_ways", "Expand", 17, (2, 1, 4), [ints(3, 1)], {}),
    ("backwards", "Slice", 17, (2, 3, 9), [ints(-1, 2), ints(-(2**40), 0), ints(2, 1), ints(-3, -1)], {}),
    ("clamped", "Slice", 17, (2, 3, 9), [ints(1), ints(2**62), ints(-1), ints(2)], {}),
    ("attributes", "Slice", 9, (2, 3, 9), [], {"starts": [1], "ends": [-1], "axes": [2]}),
    ("reflect", "Pad", 17, (1, 2, 4, 5), [ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "reflect"}),
    ("edge", "Pad", 13, (1, 2, 4, 5), [ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "edge"}),
    ("wrap", "Pad", 19, (1, 2, 4, 5), [ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "wrap"}),
    ("constant_axes", "Pad", 18, (1, 2, 4, 5), [ints(1, -1, 0, 2), np.float32(7), ints(-1, 2)], {}),
    ("attributes", "Pad", 9, (1, 2, 4, 5), [], {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "value": 2.0}),
    ("crd", "DepthToSpace", 17, (2, 8, 3, 4), [], {"blocksize": 2, "mode": "CRD"}),
    ("dcr", "DepthToSpace", 17, (2, 8, 3, 4), [], {"blocksize": 2}),
    ("plain", "SpaceToDepth", 17, (2, 2, 4, 6), [], {"blocksize": 2}),
    ("plain", "InstanceNormalization", 17, (2, 3, 5), [models.normal(3), models.normal(3)], {}),
    ("from_1", "LayerNormalization", 17, (2, 3, 5), [models.normal(3, 5), models.normal(3, 5)], {"axis": 1}),
    ("channel", "GroupNormalization", 21, (2, 6, 4), [models.normal(6), models.normal(6)], {"num_groups": 3}),
    ("l1", "LpNormalization", 17, (2, 6), [], {"p": 1, "axis": 1}),
    ("scaled", "Gemm", 17, (3, 5), [models.normal(4, 5), models.normal(4)], SCALED),
    ("transposed", "Gemm", 17, (5, 3), [models.normal(5, 4)], {"transA": 1}),
    ("weight", "MatMul", 17, (2, 3, 5), [models.normal(5, 4)], {}),
    ("default", "Transpose", 23, (2, 3, 4), [], {}),
    ("plain", "HardSigmoid", 22, (2, 5), [], {"alpha": 0.3}),
    ("bilinear", "GridSample", 16, (2, 3, 5, 6), [models.normal(2, 4, 7, 2)], {}),
    ("renamed", "GridSample", 20, (2, 3, 5, 6), [models.normal(2, 4, 7, 2)], {"mode": "linear"}),
    ("border", "GridSample", 20, (2, 3, 5, 6), [models.normal(2, 4, 7, 2)],
     {"padding_mode": "border", "align_corners": 1}),
    ("nearest", "GridSample", 22, (2, 3, 5, 6), [models.normal(2, 4, 7, 2)], {"mode": "nearest"}),
    ("plane", "AffineGrid", 20, (2, 2, 3), [ints(2, 3, 4, 5)], {}),
    ("aligned", "AffineGrid", 20, (2, 2, 3), [ints(2, 3, 4, 5)], {"align_corners": 1}),
    ("overlapping", "Col2Im", 18, (2, 12, 20), [ints(5, 6), ints(2, 2)], {}),
    ("padded", "Col2Im", 18, (2, 12, 30), [ints(4, 5), ints(2, 2)], {"pads": [1, 1, 1, 1]}),
    ("replaced", "ScatterElements", 18, (3, 4), [ints(1, -1, 0)[None], floats(7, 8, 9)[None]], {}),
    ("added", "ScatterElements", 18, (3, 4), [ints(1, 1, 3)[:, None], floats(7, 8, 9)[:, None]],
     {"axis": 1, "reduction": "add"}),
    ("plain", "ReverseSequence", 17, (4, 3, 2), [ints(4, 2, 3)], {}),
    ("batch_first", "ReverseSequence", 17, (3, 4, 2), [ints(4, 1, 3)], {"time_axis": 1, "batch_axis": 0}),
    ("soft", "Shrink", 17, (2, 9), [], {"bias": 0.2, "lambd": 0.4}),
    ("last", "RMSNormalization", 23, (2, 3, 5), [models.normal(5)], {}),
    ("plane", "MeanVarianceNormalization", 17, (2, 3, 4, 5), [], {"axes": [2, 3]}),
    ("plain", "Sinh", 17, (2, 5), [], {}),
    ("padded", "LpPool", 18, (2, 3, 7, 8), [], {"kernel_shape": [3, 2], "pads": [1, 0, 1, 0]}),
    ("cubes", "LpPool", 18, (2, 3, 7), [], {"kernel_shape": [3], "p": 3}),
    ("any", "GlobalLpPool", 17, (2, 3, 5, 4), [], {}),
    ("until_12", "Softmax", 11, (2, 3, 4), [], {"axis": 1}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "opset", "shape", "constants", "attributes"),
    [case[1:] for case in CASES],
    ids=[f"{case[1]}-{case[2]}-{case[0]}" for case in CASES],
)
def test_operator(
    tmp_path: Path,
    operator: str,
    opset: int,
    shape: tuple[int, ...],
    constants: list[Any],
    attributes: dict[str, Any],
) -> None:
    check(tmp_path, operator, opset, shape, constants, attributes)


def check(
    folder: Path,
    operator: str,
    opset: int,
    shape: tuple[int, ...],
    constants: list[Any],
    attributes: dict[str, Any],
    outputs: int = 1,
) -> None:
    """The batch size is open, so that nothing can be folded into a constant."""
    named = {f"c{i}": np.asarray(c) for i, c in enumerate(constants) if not isinstance(c, str)}
    names = ["x"] + [f"c{i}" if f"c{i}" in named else "" for i in range(len(constants))]
    results = [f"y{index}" for index in range(outputs)]
    node = helper.make_node(operator, names, results, name="tested", **attributes)
    proto = models.graph_model([node], {"x": shape}, results, named, opset=opset, ir_version=10)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    path = models.save(folder, proto)
    models.assert_same(load_onnx(path), path, {"x": models.normal(*shape, seed=3)})


@pytest.mark.parametrize(
    "operator",
    ["ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
     "ReduceProd", "ReduceSum", "ReduceSumSquare"],
)  # fmt: skip
@pytest.mark.parametrize("opset", [11, 17, 20])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(tmp_path: Path, operator: str, opset: int, keep: int) -> None:
    as_input = opset >= 18 or (operator == "ReduceSum" and opset >= 13)
    constants = [ints(-1, 1)] if as_input else []
    attributes = {"keepdims": keep} | ({} if as_input else {"axes": [-1, 1]})
    if operator == "ReduceSumSquare" and opset == 11:
        attributes["axes"] = [2, 1]
    check(tmp_path, operator, opset, (2, 3, 4), constants, attributes)


RESIZE_NEAREST = list(
    itertools.product(
        ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"],
        ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"],
    )
)


@pytest.mark.parametrize(("coordinates", "rounding"), RESIZE_NEAREST)
def test_resize_nearest(tmp_path: Path, coordinates: str, rounding: str) -> None:
    attributes = {
        "mode": "nearest",
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": rounding,
    }
    check(tmp_path, "Resize", 13, (2, 3, 5, 6), ["", floats(1, 1, 1.6, 2)], attributes)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize(
    "coordinates",
    ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"],
)
@pytest.mark.parametrize("by_sizes", [False, True])
def test_resize_smooth(tmp_path: Path, mode: str, coordinates: str, by_sizes: bool) -> None:
    target = ["", "", ints(2, 3, 8, 3)] if by_sizes else ["", floats(1, 1, 1.6, 2)]
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    check(tmp_path, "Resize", 19, (2, 3, 5, 6), target, attributes)


def test_resize_cubic_may_leave_out_what_is_outside(tmp_path: Path) -> None:
    attributes = {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5}
    check(tmp_path, "Resize", 13, (1, 2, 5, 6), ["", floats(1, 1, 2, 2)], attributes)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("scales", [(0.4, 0.5), (0.6, 2.0), (1.0, 0.3)])
@pytest.mark.parametrize("exclude", [0, 1])
def test_resize_with_antialiasing(
    tmp_path: Path, mode: str, scales: tuple[float, float], exclude: int
) -> None:
    attributes = {"mode": mode, "antialias": 1, "exclude_outside": exclude}
    check(tmp_path, "Resize", 18, (1, 2, 10, 12), ["", floats(1, 1, *scales)], attributes)


def test_resize_along_chosen_axes(tmp_path: Path) -> None:
    attributes = {"mode": "linear", "axes": [3, 2]}
    check(tmp_path, "Resize", 18, (1, 2, 5, 6), ["", floats(2, 1.5)], attributes)


@pytest.mark.parametrize("opset", [9, 10])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsampling_before_opset_11_keeps_its_coordinates(
    tmp_path: Path, opset: int, mode: str
) -> None:
    operator = "Upsample" if opset == 9 else "Resize"
    check(tmp_path, operator, opset, (1, 2, 5, 6), [floats(1, 1, 2, 3)], {"mode": mode})


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_split_with_a_smaller_last_part(tmp_path: Path, opset: int) -> None:
    sizes = [3, 3, 1]
    constants = [ints(*sizes)] if opset >= 13 else []
    attributes: dict[str, Any] = {"axis": 1} | ({} if opset >= 13 else {"split": sizes})
    check(tmp_path, "Split", opset, (2, 7), constants, attributes, outputs=3)


def test_split_by_number(tmp_path: Path) -> None:
    check(tmp_path, "Split", 18, (2, 7), [], {"axis": 1, "num_outputs": 3}, outputs=3)


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent_weights(operator: str, directions: int, *, biased: bool = True) -> list[Any]:
    gates = GATES[operator]
    weights = [
        models.normal(directions, gates * 5, 3, seed=1),
        models.normal(directions, gates * 5, 5, seed=2),
    ]
    return [*weights, models.normal(directions, 2 * gates * 5, seed=4)] if biased else weights


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("biased", [True, False])
def test_recurrent(tmp_path: Path, operator: str, direction: str, biased: bool) -> None:
    weights = recurrent_weights(operator, 1 + (direction == "bidirectional"), biased=biased)
    attributes = {"hidden_size": 5, "direction": direction}
    if operator == "GRU":
        attributes["linear_before_reset"] = 1
    check(tmp_path, operator, 17, (6, 2, 3), weights, attributes, outputs=2)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("biased", [True, False])
def test_a_gru_that_resets_before_the_product(tmp_path: Path, direction: str, biased: bool) -> None:
    weights = recurrent_weights("GRU", 1 + (direction == "bidirectional"), biased=biased)
    attributes = {"hidden_size": 5, "direction": direction}
    check(tmp_path, "GRU", 17, (6, 2, 3), weights, attributes, outputs=2)


def test_a_rectifying_rnn(tmp_path: Path) -> None:
    attributes = {"hidden_size": 5, "direction": "bidirectional", "activations": ["Relu", "Relu"]}
    check(tmp_path, "RNN", 17, (6, 2, 3), recurrent_weights("RNN", 2), attributes, outputs=2)


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("lengths", [[6, 6], [6, 4], [2, 5]])
def test_sequences_of_different_lengths(tmp_path: Path, operator: str, lengths: list[int]) -> None:
    weights = [*recurrent_weights(operator, 2), np.array(lengths, np.int32)]
    attributes: dict[str, Any] = {"hidden_size": 5, "direction": "bidirectional"}
    if operator == "GRU":
        attributes["linear_before_reset"] = 1
    check(tmp_path, operator, 17, (6, 2, 3), weights, attributes, outputs=2)


def test_recurrent_with_one_output_is_a_tensor(tmp_path: Path) -> None:
    weights = [models.normal(1, 20, 3), models.normal(1, 20, 5)]
    check(tmp_path, "LSTM", 17, (6, 2, 3), weights, {"hidden_size": 5})


def test_attention_over_flat_heads(tmp_path: Path) -> None:
    node = helper.make_node("Attention", ["x", "k", "x"], ["y"], q_num_heads=2, kv_num_heads=2)
    proto = models.graph_model(
        [node], {"x": ["n", 5, 8], "k": ["n", 5, 8]}, ["y"], opset=23, ir_version=11
    )
    path = models.save(tmp_path, proto)
    feeds = {"x": models.normal(2, 5, 8), "k": models.normal(2, 5, 8, seed=1)}
    models.assert_same(load_onnx(path), path, feeds)


def test_the_zero_bias_of_the_wrong_shape_that_dynamo_exports(tmp_path: Path) -> None:
    """onnxruntime refuses it; the values say that there is no bias."""
    constants = {"w": models.normal(4, 2, 2, 2, 2), "b": np.zeros((4, 2), np.float32)}
    inputs: dict[str, list[int | str]] = {"x": ["n", 2, 3, 3, 3]}
    with_bias, without = (
        models.graph_model([helper.make_node("Conv", names, ["y"])], inputs, ["y"], constants)
        for names in (["x", "w", "b"], ["x", "w"])
    )
    model = load_onnx(models.save(tmp_path, with_bias))
    reference = models.save(tmp_path, without, "reference.onnx")
    models.assert_same(model, reference, {"x": models.normal(1, 2, 3, 3, 3)})


def test_lists_of_tensors(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["two"]),
        helper.make_node("Neg", ["x"], ["minus"]),
        helper.make_node("SequenceInsert", ["two", "minus", "one"], ["three"]),
        helper.make_node("SequenceLength", ["three"], ["count"]),
        helper.make_node("Cast", ["count"], ["number"], to=1),
        helper.make_node("ConcatFromSequence", ["three"], ["joined"], axis=1),
        helper.make_node("ConcatFromSequence", ["three"], ["stacked"], axis=0, new_axis=1),
        helper.make_node("ReduceSum", ["stacked", "zero"], ["sums"], keepdims=0),
        helper.make_node("Concat", ["joined", "sums"], ["all"], axis=1),
        helper.make_node("Mul", ["all", "number"], ["y"]),
    ]
    constants = {"one": np.array(1), "zero": np.array([0])}
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 2]}, ["y"], constants))
    models.assert_same(load_onnx(path), path, {"x": models.normal(4, 2)})


def test_one_hot(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ArgMax", ["x"], ["i"], axis=1, keepdims=0),
        helper.make_node("OneHot", ["i", "depth", "values"], ["y"], axis=1),
    ]
    constants = {"depth": np.array(6, I64), "values": floats(-1, 2)}
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 5]}, ["y"], constants))
    models.assert_same(load_onnx(path), path, {"x": models.normal(4, 5)})


def test_bounds_and_weights_that_are_computed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["w"], ["top"], keepdims=0),
        helper.make_node("Clip", ["x", "", "top"], ["clipped"]),
        helper.make_node("Abs", ["w"], ["kernel"]),
        helper.make_node("Conv", ["clipped", "kernel"], ["y"], kernel_shape=[3, 3]),
    ]
    proto = models.graph_model(nodes, {"x": ["n", 3, 6, 6], "w": [4, 3, 3, 3]}, ["y"])
    path = models.save(tmp_path, proto)
    feeds = {"x": models.normal(2, 3, 6, 6), "w": W33}
    models.assert_same(load_onnx(path), path, feeds)
