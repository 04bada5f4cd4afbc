"""Files exported for one batch size run at others, and are unchanged at their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper

from bnaudit.load.onnx import load_onnx

from . import models

if TYPE_CHECKING:
    from pathlib import Path


def reshaped(steps: list[Any], shape: tuple[int, ...]) -> Any:
    """x -> BN -> Reshape (a list), Transpose (a tuple), Expand (a dict), MatMul (an array) -> y."""
    nodes, constants, value = [models.batchnorm("x", "v", "bn")], {}, "v"
    for index, step in enumerate(steps):
        last = index == len(steps) - 1
        result = "y" if last else f"v{index}"
        if isinstance(step, tuple):
            nodes.append(helper.make_node("Transpose", [value], [result], perm=step))
        elif isinstance(step, np.ndarray):
            constants[f"weight{index}"] = step
            nodes.append(helper.make_node("MatMul", [value, f"weight{index}"], [result]))
        else:
            operator = "Reshape" if isinstance(step, list) else "Expand"
            sizes = step if isinstance(step, list) else step["to"]
            constants[f"shape{index}"] = np.array(sizes, np.int64)
            nodes.append(helper.make_node(operator, [value, f"shape{index}"], [result]))
        value = result
    constants |= models.batchnorm_constants("bn", shape[1])
    return models.graph_model(nodes, {"x": shape}, ["y"], constants)


WEIGHT = models.normal(4, 5)


def patches(b: int) -> list[Any]:
    """(B, 4, 2, 6) -> rows of B * 3 patches, and back by a view that leaves its last size open.

    Its first size is the batch, but not that of the axis in front, which has all patches.
    """
    into = [[b, 4, 3, 4], (0, 2, 1, 3), [3 * b, 4, 4]]
    return [*into, [b, 3, 4, -1], (0, 2, 1, 3), [b, 4, 2, 6]]


# Each chain ends with the batch in front, so that single runs can be stacked.
CHAINS = {
    "flatten": ((1, 4, 2, 2), [[1, 16]]),
    "flatten_2": ((2, 4, 2, 2), [[2, 16]]),
    "wildcard": ((1, 4, 2, 2), [[1, -1]]),
    "leading_wildcard": ((2, 4, 2, 2), [[-1, 16]]),
    "merged": ((2, 4, 2, 2), [[8, 4], [2, 16]]),
    "merged_wildcard": ((1, 4, 2, 2), [[4, -1], [1, 16]]),
    "shuffle": ((1, 6, 2, 2), [[1, 2, 3, 2, 2], (0, 2, 1, 3, 4), [1, 6, 2, 2]]),
    "sequence": ((1, 4, 2, 3), [[1, 4, 6], (2, 0, 1), [6, 2, 2], (1, 0, 2), [1, 2, 6, 2]]),
    "sequence_2": ((2, 4, 2, 3), [[2, 4, 6], (2, 0, 1), [6, 4, 2], (1, 0, 2), [2, 2, 6, 2]]),
    "rows": ((2, 4, 6), [(2, 0, 1), [12, 4], [6, 2, 4], (1, 0, 2)]),
    "rows_1": ((1, 4, 6), [(2, 0, 1), [6, 4], [6, 1, 4], (1, 0, 2)]),
    "expand": ((2, 4, 1), [{"to": [2, 4, 5]}]),
    "patches": ((1, 4, 2, 6), patches(1)),
    "patches_2": ((2, 4, 2, 6), patches(2)),
    "frames": ((1, 3, 4), [(1, 0, 2), [3, 4], [3, 1, 4], (1, 0, 2)]),
    "rows_contracted": ((1, 4, 6), [(2, 0, 1), [6, 4], WEIGHT, [6, 1, 5], (1, 0, 2)]),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_reshapes_follow_the_batch(tmp_path: Path, chain: tuple[Any, list[Any]]) -> None:
    shape, steps = chain
    path = models.save(tmp_path, reshaped(steps, shape))
    model = load_onnx(path)
    assert model.static_batch == shape[0]
    assert model.inputs[0].shape == shape
    models.assert_same(model, path, {"x": models.normal(*shape)})
    batches = [models.normal(*shape, seed=seed) for seed in range(3)]
    models.assert_lifted(model, path, "x", batches)


def test_shapes_computed_by_the_graph_are_kept_dynamic(tmp_path: Path) -> None:
    nodes = [
        models.batchnorm("x", "a", "bn"),
        helper.make_node("Shape", ["a"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["a", "target"], ["y"]),
    ]
    constants = models.batchnorm_constants("bn", 3) | {
        "zero": np.array([0]),
        "rest": np.array([-1]),
    }
    path = models.save(tmp_path, models.graph_model(nodes, {"x": [1, 3, 4]}, ["y"], constants))
    model = load_onnx(path)
    models.assert_lifted(model, path, "x", [models.normal(1, 3, 4, seed=s) for s in range(3)])


@pytest.mark.parametrize("output", [0, 1])
def test_reshapes_behind_a_recurrent_layer_follow_the_batch(tmp_path: Path, output: int) -> None:
    """Text recognisers read a picture's columns as a sequence, in rows of length*batch."""
    names = ["states", "last"]
    nodes = [
        models.batchnorm("x", "a", "bn"),
        helper.make_node("Transpose", ["a"], ["sequence"], perm=[2, 0, 1]),
        helper.make_node("LSTM", ["sequence", "w", "r"], names, hidden_size=5),
        helper.make_node("Squeeze", [names[output], "directions"], ["squeezed"]),
        helper.make_node("Reshape", ["squeezed", "rows"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["classes"]),
        helper.make_node("Reshape", ["classes", "sequences"], ["back"]),
        helper.make_node("Transpose", ["back"], ["y"], perm=[1, 0, 2]),
    ]
    length = 6 if output == 0 else 1
    constants = models.batchnorm_constants("bn", 3) | {
        "w": models.normal(1, 20, 3, seed=1),
        "r": models.normal(1, 20, 5, seed=2),
        "directions": np.array([1 if output == 0 else 0]),
        "rows": np.array([length * 2, 5]),
        "head": models.normal(5, 4, seed=3),
        "sequences": np.array([length, 2, 4]),
    }
    path = models.save(tmp_path, models.graph_model(nodes, {"x": [2, 3, 6]}, ["y"], constants))
    model = load_onnx(path)
    models.assert_lifted(model, path, "x", [models.normal(2, 3, 6, seed=s) for s in range(3)])


def test_resize_to_sizes_ignores_the_exported_batch(tmp_path: Path) -> None:
    nodes = [
        models.batchnorm("x", "a", "bn"),
        helper.make_node("Resize", ["a", "", "", "sizes"], ["y"], mode="linear"),
    ]
    constants = models.batchnorm_constants("bn", 3) | {"sizes": np.array([1, 3, 7, 8])}
    path = models.save(tmp_path, models.graph_model(nodes, {"x": [1, 3, 4, 4]}, ["y"], constants))
    model = load_onnx(path)
    models.assert_lifted(model, path, "x", [models.normal(1, 3, 4, 4, seed=s) for s in range(3)])


def test_inputs_of_different_batch_sizes_are_not_lifted(tmp_path: Path) -> None:
    nodes = [models.batchnorm("x", "a", "bn"), helper.make_node("Mul", ["a", "w"], ["y"])]
    constants = models.batchnorm_constants("bn", 3)
    proto = models.graph_model(nodes, {"x": [4, 3], "w": [1, 3]}, ["y"], constants)
    path = models.save(tmp_path, proto)
    model = load_onnx(path)
    assert (model.static_batch, model.lifted) == (4, False)
    models.assert_same(model, path, {"x": models.normal(4, 3), "w": models.normal(1, 3)})


def repeated(kind: str) -> tuple[list[Any], dict[str, Any]]:
    """Something that is the same for both rows of x (2, 4, 6), stored for each, and how it is joined."""
    row = models.normal(1, 4, 3, seed=5)
    if kind == "token":  # beside all positions, as of a class
        return [helper.make_node("Concat", ["c", "a"], ["y"], axis=2)], {"c": np.repeat(row, 2, 0)}
    if kind == "position":
        return [helper.make_node("Add", ["a", "c"], ["y"])], {"c": np.repeat(row[..., :1], 2, 0)}
    if kind == "matrix":
        return [helper.make_node("MatMul", ["c", "a"], ["y"])], {
            "c": np.repeat(models.normal(1, 5, 4), 2, 0)
        }
    if kind == "heads":  # rows of batch * 2, on the way
        nodes = [
            helper.make_node("Reshape", ["a", "split"], ["h"]),
            helper.make_node("Mul", ["h", "c"], ["m"]),
            helper.make_node("Reshape", ["m", "joined"], ["y"]),
        ]
        constants = {"split": np.array([4, 2, 6]), "joined": np.array([2, 4, 6])}
        return nodes, constants | {"c": np.tile(models.normal(2, 2, 6), (2, 1, 1))}
    if kind == "expanded":  # to a shape that the graph computes
        nodes = [
            helper.make_node("Shape", ["a"], ["sizes"]),
            helper.make_node("Expand", ["c", "sizes"], ["e"]),
            helper.make_node("Add", ["a", "e"], ["y"]),
        ]
        return nodes, {"c": np.repeat(row[..., :1], 2, 0)}
    nodes = [  # the states of a recurrent layer, (directions, batch, hidden)
        helper.make_node("Transpose", ["a"], ["sequence"], perm=[2, 0, 1]),
        helper.make_node("GRU", ["sequence", "w", "r", "", "", "c"], ["all"], hidden_size=2),
        helper.make_node("Squeeze", ["all", "one"], ["squeezed"]),
        helper.make_node("Transpose", ["squeezed"], ["y"], perm=[1, 2, 0]),
    ]
    weights = {"w": models.normal(1, 6, 4), "r": models.normal(1, 6, 2), "one": np.array([1])}
    # As many hidden units as rows, and all alike: only one of the axes is the batch.
    return nodes, weights | {"c": np.full((1, 2, 2), 0.5, np.float32)}


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("kind", ["token", "position", "matrix", "heads", "expanded", "state"])
def test_what_is_stored_for_each_row_follows_the_batch(
    tmp_path: Path, kind: str, opset: int
) -> None:
    nodes, constants = repeated(kind)
    if opset < 13:
        for node in nodes:
            if node.op_type == "Squeeze":
                del node.input[1:]
                node.attribute.append(helper.make_attribute("axes", [1]))
    nodes = [models.batchnorm("x", "a", "bn"), *nodes]
    constants = models.batchnorm_constants("bn", 4) | constants
    proto = models.graph_model(nodes, {"x": [2, 4, 6]}, ["y"], constants, opset=opset)
    path = models.save(tmp_path, proto)
    model = load_onnx(path)
    models.assert_lifted(model, path, "x", [models.normal(2, 4, 6, seed=s) for s in range(3)])
    assert model.unlifted is not None
    original = model.unlifted()
    assert (original.static_batch, original.lifted) == (2, False)
    models.assert_same(original, path, {"x": models.normal(2, 4, 6)})


def test_a_token_stays_a_parameter(tmp_path: Path) -> None:
    nodes = [
        models.batchnorm("x", "a", "bn"),
        helper.make_node("Concat", ["token", "a"], ["y"], axis=2),
    ]
    constants = models.batchnorm_constants("bn", 3) | {"token": models.normal(1, 3, 2)}
    path = models.save(tmp_path, models.graph_model(nodes, {"x": [1, 3, 4]}, ["y"], constants))
    model = load_onnx(path)
    models.assert_lifted(model, path, "x", [models.normal(1, 3, 4, seed=s) for s in range(3)])
    sizes = {model.parameter_name(n): p.numel() for n, p in model.module.named_parameters()}
    assert sizes == {"bn.weight": 3, "bn.bias": 3, "token": 6}


def test_what_differs_between_the_rows_is_left_alone(tmp_path: Path) -> None:
    nodes = [models.batchnorm("x", "a", "bn"), helper.make_node("Add", ["a", "c"], ["y"])]
    constants = models.batchnorm_constants("bn", 3) | {"c": models.normal(2, 3)}
    path = models.save(tmp_path, models.graph_model(nodes, {"x": [2, 3]}, ["y"], constants))
    models.assert_same(load_onnx(path), path, {"x": models.normal(2, 3)})


@pytest.mark.parametrize(
    ("equation", "result"), [("bct,cd->dtb", "Transpose"), ("bct,cd->tbd", "Transpose")]
)
def test_the_batch_is_followed_through_einsum(tmp_path: Path, equation: str, result: str) -> None:
    order = equation.partition("->")[2]
    perm = [order.index(letter) for letter in "bdt"]
    nodes = [
        models.batchnorm("x", "a", "bn"),
        helper.make_node("Einsum", ["a", "w"], ["e"], equation=equation),
        helper.make_node(result, ["e"], ["f"], perm=perm),
        helper.make_node("Reshape", ["f", "flat"], ["y"]),
    ]
    constants = models.batchnorm_constants("bn", 3) | {
        "w": models.normal(3, 5),
        "flat": np.array([2, -1]),
    }
    path = models.save(tmp_path, models.graph_model(nodes, {"x": [2, 3, 4]}, ["y"], constants))
    models.assert_lifted(
        load_onnx(path), path, "x", [models.normal(2, 3, 4, seed=s) for s in range(3)]
    )


def test_rows_of_an_embedding_follow_the_batch(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("Reshape", ["e", "rows"], ["r"]),
        models.batchnorm("r", "b", "bn"),
        helper.make_node("Reshape", ["b", "back"], ["y"]),
    ]
    constants = models.batchnorm_constants("bn", 3) | {
        "table": models.normal(7, 3),
        "rows": np.array([10, 3]),
        "back": np.array([2, 5, 3]),
    }
    proto = models.graph_model(nodes, {"ids": [2, 5]}, ["y"], constants)
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    path = models.save(tmp_path, proto)
    draws = [models.rng(seed).integers(0, 7, (2, 5)) for seed in range(3)]
    models.assert_lifted(load_onnx(path), path, "ids", draws)


def test_what_has_nothing_to_lift_is_its_own_original(tmp_path: Path) -> None:
    nodes = [models.batchnorm("x", "a", "bn"), helper.make_node("Flatten", ["a"], ["y"])]
    constants = models.batchnorm_constants("bn", 3)
    path = models.save(tmp_path, models.graph_model(nodes, {"x": [2, 3, 4]}, ["y"], constants))
    model = load_onnx(path)
    assert model.lifted
    assert model.unlifted is None
