"""The graph while it is being normalised: nodes as protobufs, every constant as a numpy array."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import onnx
from onnx import GraphProto, helper, numpy_helper

from bnaudit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, TypeProto, ValueInfoProto
    from torch import nn

SMALL = 1024
"""Constants up to this many elements may be shapes, axes or scales: analyses need to see them.
Larger ones are weights, which analyses only slow down on."""

_COMPUTED = re.compile(r"val_\d+")

_IR_VERSION = 8
"""Below, shape inference drops what it finds; the value only concerns the in-memory copy."""


class Source(NamedTuple):
    """The initializer of the file that a constant holds.

    Attributes:
        name: of the initializer.
        layout: "" as it is, "T" a transposed matrix, else what tells this form from others.
    """

    name: str
    layout: str = ""


@dataclass(slots=True)
class Draft:
    """A graph in work.

    Attributes:
        path: the file, for messages.
        nodes: in topological order.
        constants: initializers and everything folded since.
        inputs: the graph inputs that a caller must feed.
        outputs: the graph outputs.
        opset: version of the default operator set.
        file_opset: what that version was in the file.
        domains: versions of the other operator sets.
        types: what the latest shape inference knows of each value.
        notes: sentences for the user.
        sources: constants that are a floating initializer of the file, as it is or laid out anew.
        parameters: those made so far: what the file shares, the module shares.
    """

    path: Path
    nodes: list[NodeProto]
    constants: dict[str, NDArray[np.generic]]
    inputs: list[ValueInfoProto]
    outputs: list[ValueInfoProto]
    opset: int
    file_opset: int
    domains: dict[str, int]
    types: dict[str, TypeProto] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    parameters: dict[Hashable, nn.Parameter] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, model: ModelProto) -> Draft:
        """Takes a parsed file apart; initializers that are also inputs are no inputs any more.

        Args:
            path: the file, for messages.
            model: loses its initializers. Their memory goes with it, once the caller lets go of it: nodes
                and inputs are copies, as a message's parts keep all of it alive.
        """
        constants = {tensor.name: _array(path, tensor) for tensor in model.graph.initializer}
        del model.graph.initializer[:]
        graph = GraphProto.FromString(model.graph.SerializeToString())
        versions = {entry.domain: entry.version for entry in model.opset_import}
        opset = versions.pop("", 0) or versions.pop("ai.onnx", 0)
        return cls(
            path=path,
            nodes=list(graph.node),
            constants=constants,
            inputs=[value for value in graph.input if value.name not in constants],
            outputs=list(graph.output),
            opset=opset,
            file_opset=opset,
            domains=versions,
            sources={n: Source(n) for n, a in constants.items() if is_floating(a)},
        )

    def to_model(self, *, limit: int | None = None) -> ModelProto:
        """The graph as a protobuf again.

        Args:
            limit: constants with more elements become inputs of their type and shape, so that
                analyses need not carry the weights around.
        """
        inputs, initializers = list(self.inputs), []
        for name, array in self.constants.items():
            if limit is None or array.size <= limit:
                initializers.append(numpy_helper.from_array(array, name))
            else:
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                inputs.append(helper.make_tensor_value_info(name, kind, array.shape))
        graph = helper.make_graph(self.nodes, "bnaudit", inputs, self.outputs, initializers)
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(name, version) for name, version in self.domains.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def consumers(self) -> dict[str, list[NodeProto]]:
        """Value name -> nodes that read it, also from inside their subgraphs."""
        readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(reads(node)):
                readers[name].append(node)
        return readers

    def output_names(self) -> set[str]:
        """Names that must survive whatever is rewritten."""
        return {value.name for value in self.outputs}

    def redirect(self, replacements: dict[str, str]) -> None:
        """Lets every reader of a replaced value read its replacement, chains included.

        Raises:
            InputError: a chain leads back to where it began.
        """
        final: dict[str, str] = {}
        for first in replacements:
            name, chain = first, set[str]()
            while name in replacements and name not in final:
                if name in chain:
                    raise InputError(
                        f"{self.path}: value {name!r} is computed from itself",
                        hint="the file is damaged, or was edited by hand: export it again",
                    )
                chain.add(name)
                name = replacements[name]
            final.update(dict.fromkeys(chain, final.get(name, name)))
        for node in self.nodes:
            _redirect(node, final)

    def prune(self) -> None:
        """Drops nodes that no output depends on, and constants that nobody reads."""
        needed = self.output_names()
        kept: list[NodeProto] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(reads(node))
        self.nodes = kept[::-1]
        self.constants = {name: a for name, a in self.constants.items() if name in needed}

    def is_authored(self, name: str) -> bool:
        """Whether a constant is the author's, and not what PyTorch's dynamo exporter computed."""
        return name in self.sources and not _COMPUTED.fullmatch(self.sources[name].name)

    def shape(self, name: str) -> tuple[int | str | None, ...] | None:
        """What is known of a value's shape; None where not even the rank is."""
        if name in self.constants:
            return self.constants[name].shape
        kind = self.types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        return tuple(dimension(dim) for dim in kind.tensor_type.shape.dim)


def is_floating(array: NDArray[np.generic]) -> bool:
    """Whether it may be a weight; to numpy, bfloat16 is no floating-point type."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def is_uniform(array: NDArray[np.generic]) -> bool:
    """Whether all elements are the same: what an initialiser writes, never what was trained."""
    return array.size > 0 and bool((array == array.flat[0]).all())


def may_be_merged(array: NDArray[np.generic]) -> bool:
    """Whether layers may have this weight in common without sharing it.

    Exporters store weights with equal values once. Ones and zeros are equal because nobody trained
    them, and the betas of two BatchNorms whose outputs are added because their gradients are.
    """
    return array.ndim < 2 or is_uniform(array)


def dimension(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """A dimension as a static size, a symbol or None; exporters write -1 and 0 for unknown too."""
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value > 0 else None
    return dim.dim_param or None


def reads(node: NodeProto) -> Iterator[str]:
    """Names that a node takes, its subgraphs' captures included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from reads(inner)
            yield from (value.name for value in graph.output)


def attributes(node: NodeProto) -> dict[str, object]:
    """A node's attributes as Python values; strings decoded, tensors left as protobufs."""
    values = {attr.name: helper.get_attribute_value(attr) for attr in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}


def set_attributes(node: NodeProto, **values: object) -> None:
    """Sets attributes, None removes one."""
    kept = [attribute for attribute in node.attribute if attribute.name not in values]
    kept += [helper.make_attribute(k, v) for k, v in values.items() if v is not None]
    del node.attribute[:]
    node.attribute.extend(kept)


def _redirect(node: NodeProto, final: dict[str, str]) -> None:
    for index, name in enumerate(node.input):
        if name in final:
            node.input[index] = final[name]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {value.name for value in (*graph.input, *graph.initializer)}
            own.update(name for inner in graph.node for name in inner.output)
            # A name that the subgraph gives to a value of its own hides the one around it.
            rename(graph, {old: new for old, new in final.items() if old not in own})


def rename(graph: GraphProto, names: dict[str, str]) -> None:
    """Lets a subgraph read other values than it does."""
    for node in graph.node:
        _redirect(node, names)
    for value in graph.output:
        value.name = names.get(value.name, value.name)


def _array(path: Path, tensor: onnx.TensorProto) -> NDArray[np.generic]:
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise InputError(
            f"{path}: initializer {tensor.name!r} does not hold what its type and shape say",
            hint="the file is damaged, or was edited by hand: export it again",
        ) from error
