"""An ONNX file run by a runtime of its own: onnxruntime if there is one, else onnx's evaluator."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from onnx.numpy_helper import to_array

from bnaudit.errors import RunError
from bnaudit.load.onnx.functions import all_nodes
from bnaudit.load.onnx.read import read_model

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto

_SILENT = 4
_BOUNDED = {"Softmax", "Sigmoid"}
_SHAPES = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Identity", "Cast"}
_IN_ORDER = _SHAPES - {"Transpose"}
_COMPARISONS = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
_RATIO_AND_DATA = 2


@dataclass(frozen=True, slots=True)
class Decision:
    """An output that only says which of some values is the larger: rounding may turn it over at a tie.

    Attributes:
        values: what it was taken of: one array to choose from, or the two sides of a comparison.
        axis: that the choice runs along, None of a comparison.
    """

    values: tuple[NDArray[Any], ...]
    axis: int | None

    def margin(self, found: NDArray[Any], wanted: NDArray[Any]) -> float:
        """How far apart the values are between which two answers differ, over the largest of all values.

        Infinite where an answer is none of the choices.
        """
        sides = [np.asarray(v, np.float64) for v in self.values]
        if self.axis is None:
            one, other = np.broadcast_arrays(*sides)
            gap = np.abs(one - other)[(found != wanted).reshape(one.shape)]
        else:
            shape = list(sides[0].shape)
            shape[self.axis] = -1
            picks = [np.asarray(p, np.int64).reshape(shape) for p in (found, wanted)]
            if any(
                p.size and not 0 <= p.min() <= p.max() < sides[0].shape[self.axis] for p in picks
            ):
                return inf
            one, other = (np.take_along_axis(sides[0], p, self.axis) for p in picks)
            gap = np.abs(one - other)[picks[0] != picks[1]]
        scale = max(float(np.abs(side).max(initial=0.0)) for side in sides)
        worst = float(gap.max(initial=0.0))
        return worst / scale if scale else (inf if worst else 0.0)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a runtime made of a file.

    Attributes:
        name: the runtime with its version.
        outputs: in the file's order; sequences entry by entry.
        in_front: output -> what stands in front of its final softmax or sigmoid.
        bounded: outputs behind such an activation.
        decisions: outputs that are an argmax, indices of the largest, or a comparison.
    """

    name: str
    outputs: list[NDArray[Any]]
    in_front: Mapping[str, NDArray[Any]]
    bounded: frozenset[str]
    decisions: Mapping[str, Decision]


def run_reference(
    path: Path, feeds: Mapping[str, NDArray[Any]], apart: Collection[str] = ()
) -> Reference:
    """The outputs of the file in inference mode.

    Args:
        path: the file; external weights are read from its own folder only, and by us.
        feeds: its inputs.
        apart: names of the nodes that are no BatchNorm layers, and run as the file says.

    Raises:
        RunError: no runtime can run the file.
    """
    model = _in_inference_mode(read_model(path), apart)
    fronts, choices = _in_front(model), _choices(model)
    stored = {t.name: to_array(t) for t in model.graph.initializer}
    declared = [output.name for output in model.graph.output]
    behind = [*fronts.values(), *(name for names, _ in choices.values() for name in names)]
    added = [n for n in dict.fromkeys(behind) if n not in declared and n not in stored]
    count = len(model.graph.output)
    for name in added:
        model.graph.output.add().name = name
    reasons = []
    for runtime in (_onnxruntime, _evaluator):
        try:
            with _unreported(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                name, outputs = runtime(model, feeds)
        except ModuleNotFoundError:
            continue
        except Exception as error:  # a runtime's own idea of which files are valid
            first = (str(error).splitlines() or [""])[0][:120]
            reasons.append(f"{runtime.__name__.lstrip('_')}: {type(error).__name__}: {first}")
            continue
        arrays = stored | dict(zip([*declared, *added], outputs, strict=True))
        seen = {output: arrays[front] for output, front in fronts.items() if front in added}
        decisions = {
            output: Decision(tuple(arrays[n] for n in names), axis)
            for output, (names, axis) in choices.items()
        }
        return Reference(name, _flat(outputs[:count]), seen, frozenset(fronts), decisions)
    raise RunError("; ".join(reasons) or "there is no runtime")


@contextmanager
def _unreported() -> Iterator[None]:
    """Onnxruntime reports its use from 1.32 on, on Linux too, unless this is set when it is loaded."""
    name = "ORT_DISABLE_TELEMETRY"
    before = os.environ.get(name)
    os.environ[name] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


def _flat(outputs: Any) -> list[NDArray[Any]]:
    """Sequences among the outputs, entry by entry."""
    found: list[NDArray[Any]] = []
    for output in outputs:
        found += _flat(output) if isinstance(output, (list, tuple)) else [output]
    return found


def _in_front(model: ModelProto) -> dict[str, str]:
    """Output -> the tensor that its final softmax or sigmoid is given, changes of shape aside."""
    made = {name: node for node in model.graph.node for name in node.output}
    found: dict[str, str] = {}
    for output in model.graph.output:
        node = made.get(output.name)
        for (
            _
        ) in model.graph.node:  # never more often than there are nodes, whatever leads to itself
            if node is None or node.op_type not in _SHAPES or not node.input:
                break
            node = made.get(node.input[0])
        if node is not None and node.op_type in _BOUNDED:
            found[output.name] = node.input[0]
    return found


def _choices(model: ModelProto) -> dict[str, tuple[tuple[str, ...], int | None]]:
    """Output -> the values that it chooses from or compares, and the axis of a choice."""
    made = {name: node for node in model.graph.node for name in node.output}
    found: dict[str, tuple[tuple[str, ...], int | None]] = {}
    for output in model.graph.output:
        name = output.name
        node = made.get(name)
        while node is not None and node.op_type in _IN_ORDER:
            name = node.input[0]
            node = made.get(name)
        if node is None:
            continue
        axes = [a.i for a in node.attribute if a.name == "axis"]
        if node.op_type in {"ArgMax", "ArgMin"}:
            found[output.name] = ((node.input[0],), next(iter(axes), 0))
        elif node.op_type == "TopK" and name == node.output[1]:
            found[output.name] = ((node.input[0],), next(iter(axes), -1))
        elif node.op_type in _COMPARISONS:
            found[output.name] = (tuple(node.input), None)
    return found


def _in_inference_mode(model: ModelProto, apart: Collection[str]) -> ModelProto:
    """As the audit reads it: a file exported in training mode would normalise by the batch."""
    graphs = [model.graph.node, *(function.node for function in model.functions)]
    for node in (node for nodes in graphs for node in all_nodes(nodes)):
        if node.op_type == "BatchNormalization" and node.name not in apart:
            kept = [a for a in node.attribute if a.name not in {"training_mode", "is_test"}]
            del node.attribute[:]
            node.attribute.extend(kept)
            del node.output[1:]
        elif node.op_type == "Dropout":
            del node.input[_RATIO_AND_DATA:]
    return model


def _onnxruntime(model: ModelProto, feeds: Mapping[str, NDArray[Any]]) -> tuple[str, Any]:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return f"onnxruntime {runtime.__version__}", session.run(None, dict(feeds))


def _evaluator(model: ModelProto, feeds: Mapping[str, NDArray[Any]]) -> tuple[str, Any]:
    onnx = import_module("onnx")
    evaluator = import_module("onnx.reference").ReferenceEvaluator(model)
    return f"onnx.reference {onnx.__version__}", evaluator.run(None, dict(feeds))
