"""Small ONNX files built node by node, and onnxruntime as the judge of what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bnaudit.load.model import LoadedModel

Arrays = dict[str, "NDArray[Any]"]
_QUIET = 4


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 0) -> NDArray[Any]:
    return rng(seed).standard_normal(shape).astype(np.float32)


def batchnorm_constants(prefix: str, channels: int, seed: int = 0) -> Arrays:
    """Parameters as PyTorch names them, none of them trivial."""
    draw = rng(seed)
    values = {
        "weight": 1 + 0.3 * draw.standard_normal(channels),
        "bias": 0.3 * draw.standard_normal(channels),
        "running_mean": 0.3 * draw.standard_normal(channels),
        "running_var": draw.uniform(0.5, 1.5, channels),
    }
    return {f"{prefix}.{name}": value.astype(np.float32) for name, value in values.items()}


def batchnorm(source: str, result: str, prefix: str, name: str = "", **attributes: Any) -> Any:
    parameters = [f"{prefix}.{p}" for p in ("weight", "bias", "running_mean", "running_var")]
    return helper.make_node(
        "BatchNormalization", [source, *parameters], [result], name=name, **attributes
    )


def graph_model(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Iterable[str],
    constants: Arrays | None = None,
    *,
    opset: int = 17,
    **model: Any,
) -> onnx.ModelProto:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
        for name, shape in inputs.items()
    ]
    graph = helper.make_graph(
        list(nodes),
        "test",
        values,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model.setdefault("ir_version", 8)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **model)


def save(folder: Path, proto: onnx.ModelProto, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def one_batchnorm(
    folder: Path, *, changes: Arrays | None = None, opset: int = 17, **model: Any
) -> Path:
    """x -> BatchNormalization('bn', 3 channels) -> y, with some parameters replaced."""
    constants = batchnorm_constants("bn", 3) | (changes or {})
    proto = graph_model(
        [batchnorm("x", "y", "bn", name="node_bn")],
        {"x": ["n", 3, 4, 4]},
        ["y"],
        constants,
        opset=opset,
        **model,
    )
    return save(folder, proto)


def expected(path: Path, feeds: Arrays) -> list[NDArray[Any]]:
    """What onnxruntime computes, without its own rewriting of the graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feeds)]


def computed(model: LoadedModel, feeds: Arrays) -> list[NDArray[Any]]:
    with torch.no_grad():
        results = model.module(*(torch.from_numpy(feeds[spec.name]) for spec in model.inputs))
    results = results if isinstance(results, tuple) else (results,)
    return [result.numpy() for result in results]


def assert_same(model: LoadedModel, path: Path, feeds: Arrays, tolerance: float = 2e-5) -> None:
    wanted, got = expected(path, feeds), computed(model, feeds)
    assert len(got) == len(wanted)
    for result, reference in zip(got, wanted, strict=True):
        assert result.shape == reference.shape
        np.testing.assert_allclose(result, reference, rtol=tolerance, atol=tolerance)


def assert_lifted(
    model: LoadedModel, path: Path, name: str, batches: Sequence[NDArray[Any]]
) -> None:
    """A batch three times the exported one gives what three runs of the original file give."""
    assert model.lifted
    got = computed(model, {name: np.concatenate(batches)})
    runs = [expected(path, {name: batch}) for batch in batches]
    for index, result in enumerate(got):
        wanted = np.concatenate([run[index] for run in runs])
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-5)
