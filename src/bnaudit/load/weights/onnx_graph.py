"""ONNX initializers by name, and which BatchNorm each weight feeds, from the graph."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from onnx import numpy_helper

from bnaudit.errors import BnauditError, InputError
from bnaudit.load.onnx.draft import attributes
from bnaudit.load.onnx.names import layer_names
from bnaudit.load.onnx.prepare import prepare
from bnaudit.load.onnx.read import read_model
from bnaudit.load.sniff import FileKind
from bnaudit.load.weights.model import Layout, NamedTensor, WeightFile

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

_COPIES = frozenset({"Identity", "Cast", "CastLike"})
_MEASURES = frozenset({"Shape", "Size"})  # reads that do not depend on the values
_RESHAPES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_BATCH_NORM = "BatchNormalization"


def read_onnx(path: Path) -> WeightFile:
    """The initializers of a file, with what its graph says of them.

    Raises:
        InputError: the file cannot be parsed, or its graph is not valid ONNX.
    """
    try:
        model = read_model(path)
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        draft, origins = prepare(path, model)
        keys = [key for key, origin in origins.items() if origin.op == _BATCH_NORM]
        names = layer_names([origins[key] for key in keys])
        graph = _Graph(draft, arrays, dict(zip(keys, names, strict=True)))
        arrays |= {alias: arrays[name] for alias, name in graph.aliases.items() if name in arrays}
        tensors = [
            NamedTensor(name, array.shape, partial(array.astype, np.float64))
            for name, array in arrays.items()
            if (array.dtype.kind == "f" or array.dtype.name == "bfloat16")
        ]
        uses = graph.uses()
        return WeightFile(
            path,
            FileKind.ONNX,
            tuple(tensors),
            ordered=False,
            statistics=graph.statistics(),
            layouts={weight: found[0].layout for weight, found in uses.items()},
            feeds={name: weight for name, weight, alone in _behind(uses) if alone},
            behind={name: weight for name, weight, _ in _behind(uses)},
            batchnorms=tuple(
                n for k, n in graph.names.items() if k in {x.name for x in draft.nodes}
            ),
        )
    except BnauditError:
        raise
    except Exception as error:  # protobuf only checks the wire format
        reason = (str(error).splitlines() or [""])[0][:120]
        raise InputError(
            f"{path}: the graph is not valid ONNX ({type(error).__name__}: {reason})",
            hint="run onnx.checker.check_model on it",
        ) from error


@dataclass(frozen=True, slots=True)
class _Use:
    """One node that reads a weight, the BatchNorms behind it, and whether nothing else is there."""

    layout: Layout
    batchnorms: tuple[str, ...] = ()
    alone: bool = False


def _behind(uses: dict[str, list[_Use]]) -> list[tuple[str, str, bool]]:
    """(BatchNorm, the weight behind it, whether all of that weight's uses end in BatchNorm)."""
    return [
        (name, weight, all(use.alone for use in found))
        for weight, found in uses.items()
        for use in found
        for name in use.batchnorms
    ]


@dataclass(slots=True)
class _Graph:
    """Finds what stands behind a weight.

    Attributes:
        draft: the graph.
        arrays: initializers.
        names: node key -> name, of the BatchNorm layers.
        aliases: value -> the initializer that it is a copy of; exporters store equal tensors once.
        readers: value -> nodes that read it.
    """

    draft: Draft
    arrays: dict[str, NDArray[np.generic]]
    names: dict[str, str]
    aliases: dict[str, str] = field(default_factory=dict)
    readers: dict[str, list[NodeProto]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.readers = self.draft.consumers()
        for node in self.draft.nodes:
            source = self._initializer(node.input[0]) if node.input else None
            if node.op_type in _COPIES and source is not None:
                self.aliases[node.output[0]] = source

    def _initializer(self, value: str) -> str | None:
        value = self.aliases.get(value, value)
        return value if value in self.arrays else None

    def statistics(self) -> frozenset[str]:
        """Names of running means and variances."""
        return frozenset(
            name
            for node in self.draft.nodes
            if node.op_type == _BATCH_NORM
            for name in (*node.input[3:5], *(self.aliases.get(i, i) for i in node.input[3:5]))
        )

    def uses(self) -> dict[str, list[_Use]]:
        """Every multiplication with an initializer, by its name; any other reader counts as a use."""
        found: dict[str, list[_Use]] = defaultdict(list)
        transposed = {
            node.output[0]: weight
            for node in self.draft.nodes
            if node.op_type == "Transpose"
            and (weight := self._initializer(node.input[0])) is not None
            and self.arrays[weight].ndim == 2
            and attributes(node).get("perm", [1, 0]) == [1, 0]
        }
        for node in self.draft.nodes:
            for position, value in enumerate(node.input):
                flipped = value in transposed
                weight = self._initializer(transposed.get(value, value))
                passed_on = node.op_type in _COPIES or node.output[0] in transposed
                if weight is None or passed_on or node.op_type in _MEASURES:
                    continue
                layout = _layout(node, position, flipped)
                if layout is not None:
                    found[weight].append(_Use(layout, *self._following(node.output[0])))
                elif self.arrays[weight].ndim > 1:
                    found[weight].append(_Use(Layout(0, 1, "assumed")))
        return found

    def _following(self, value: str) -> tuple[tuple[str, ...], bool]:
        """The BatchNorm layers that read the value, and whether nothing else does."""
        readers = self.readers.get(value, [])
        alone = bool(readers) and value not in self.draft.output_names()
        found: list[str] = []
        for node in readers:
            if node.op_type == _BATCH_NORM and node.input[0] == value:
                found.append(self.names[node.name])
            elif self._passes(node, value):
                behind, alone_there = self._following(node.output[0])
                found += behind
                alone = alone and alone_there
            else:
                alone = alone and node.op_type in _MEASURES
        return tuple(found), alone

    def _passes(self, node: NodeProto, value: str) -> bool:
        """Whether a node only reshapes or crops, or adds a bias."""
        if node.op_type in _COPIES | _RESHAPES | {"Slice"}:
            return bool(node.input[0] == value)
        if node.op_type == "Pad" and len(node.input) > 1:
            sizes = self.draft.constants.get(node.input[1])
            return bool(
                node.input[0] == value
                and sizes is not None
                and not np.any(sizes.astype(np.int64) > 0)
            )
        others = [name for name in node.input if name != value]
        added = node.op_type == "Add" and len(others) == 1
        bias = self._initializer(others[0]) if added else None
        return bias is not None and sum(size > 1 for size in self.arrays[bias].shape) <= 1


def _layout(node: NodeProto, position: int, flipped: bool) -> Layout | None:
    """Where the weight at that input has its output channels; None where it is no weight."""
    if position != 1:
        return None
    values = attributes(node)
    if node.op_type == "Conv":
        return Layout(0)
    if node.op_type == "ConvTranspose":
        groups = values.get("group", 1)
        return Layout(1, groups if isinstance(groups, int) else 1)
    if node.op_type == "Gemm":
        return Layout(0 if bool(values.get("transB", 0)) != flipped else 1)
    return Layout(0 if flipped else 1) if node.op_type == "MatMul" else None
