"""ONNX files: the initializers of the running statistics change, and no other content of the file.

A value may be an initializer, a Constant node, or either of them behind nodes that leave its numbers alone
(Identity, Cast, Reshape); its bytes may lie in another file, which the written model then has a copy of.
An initializer that several layers read, since exporters store equal ones once, is split where the new
statistics differ.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from onnx import ModelProto, TensorProto, helper, inliner

from bnaudit.errors import InputError, RunError
from bnaudit.files import content
from bnaudit.load.onnx.evaluate import content_of
from bnaudit.load.onnx.external import inside, span
from bnaudit.load.onnx.functions import all_nodes
from bnaudit.load.onnx.names import layer_names, layers_by_use
from bnaudit.load.onnx.origin import Origin
from bnaudit.recalibration.store.base import Store
from bnaudit.recalibration.store.numbers import encoded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from onnx import GraphProto, NodeProto
    from torch import Tensor

    from bnaudit.recalibration.passes import Layer, Statistics

_TYPES: dict[int, str] = {
    TensorProto.DOUBLE: "float64",
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
}
_SAME_NUMBERS = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_LONGEST_CHAIN = 16
_SEPARATE_INPUTS_SINCE = 4
"""IR version from which initializers need not be inputs as well."""

_COMPUTED = "its statistics are computed while the model runs"
_SCOPES = "pkg.torch.onnx.name_scopes"
_SUFFIXES = ("running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class OnnxStore(Store):
    """See `Store`.

    Attributes:
        path: the file.
        nodes: layer -> places of its nodes among the BatchNormalization nodes of the file.
        values: layer -> names of the stored tensors of its mean and variance.
    """

    path: Path
    nodes: Mapping[str, tuple[int, ...]]
    values: Mapping[str, tuple[str, str]]

    @classmethod
    def open(cls, path: Path, layers: Mapping[str, Layer]) -> OnnxStore:
        """Finds the tensors by the names that an audit gives their layers."""
        model = ModelProto()
        model.ParseFromString(content(path))
        stored = _Stored.of(model)
        inlined = _inlined(model)
        norms = _batchnorms(inlined.graph)
        by_layer = _by_layer(norms, inlined.graph)
        edges = _Edges.of(inlined.graph)
        dtypes, kept, nodes, values = {}, {}, {}, {}
        for name in layers:
            places = by_layer.get(name, ())
            found = [edges.source(norms[places[0]].input[i]) for i in (3, 4)] if places else []
            tensors = [stored.tensors.get(n) for n in found if n is not None]
            if len(tensors) < len(_SUFFIXES) or None in tensors:
                kept[name] = _COMPUTED
                continue
            kinds = tuple(_TYPES.get(t.data_type, "") for t in tensors if t is not None)
            if not all(kinds):
                kept[name] = "its statistics are not of a floating-point type"
                continue
            nodes[name], values[name] = places, (str(found[0]), str(found[1]))
            dtypes[name] = (kinds[0], kinds[1])
        sources = {path, *(inside(path, location) for location in stored.locations())}
        return cls("onnx", dtypes, kept, tuple(sorted(sources)), path, nodes, values)

    def write(self, folder: Path, name: str, statistics: Mapping[str, Statistics]) -> None:
        """See `Store.write`."""
        model = ModelProto()
        model.ParseFromString(content(self.path))
        stored = _Stored.of(model)
        change = _Change(self, model, stored, folder, name)
        change.copy_external()
        readers = _readers(_inlined(model).graph)
        wanted: dict[str, dict[bytes, list[tuple[str, int]]]] = defaultdict(dict)
        for layer, found in statistics.items():
            for which, values in enumerate(found):
                data = encoded(values, self.dtypes[layer][which])
                wanted[self.values[layer][which]].setdefault(data, []).append((layer, which))
        for tensor, versions in wanted.items():
            ours = {layer for parts in versions.values() for layer, _ in parts}
            theirs = readers[tensor] - {i for layer in ours for i in self.nodes[layer]}
            # The tensor stays as it is where anything else reads it: all of its layers get one of their own.
            for number, (data, parts) in enumerate(versions.items()):
                if number == 0 and not theirs:
                    change.set(tensor, data)
                else:
                    change.split(tensor, data, parts)
        change.finish()
        (folder / name).write_bytes(model.SerializeToString())


def _inlined(model: ModelProto) -> ModelProto:
    """With the bodies of local functions in the place of their calls; itself where there are none."""
    if not model.functions:
        return model
    light = ModelProto()
    light.CopyFrom(model)
    del light.graph.initializer[:]
    inlined: ModelProto = inliner.inline_local_functions(light)
    inlined.graph.initializer.extend(model.graph.initializer)
    return inlined


def _batchnorms(graph: GraphProto) -> list[NodeProto]:
    return [node for node in all_nodes(graph.node) if node.op_type == "BatchNormalization"]


def _by_layer(norms: Sequence[NodeProto], graph: GraphProto) -> dict[str, tuple[int, ...]]:
    """Layer -> its nodes, under the names that the loader gives (`bnaudit.load.onnx.loader`)."""
    makers = {name: node for node in all_nodes(graph.node) for name in node.output}
    origins = [_origin(node) for node in norms]
    first = layers_by_use(origins, partial(content_of, makers))
    own = [o for o, f in zip(origins, first, strict=True) if o is f]
    names = {id(o): name for o, name in zip(own, layer_names(own), strict=True)}
    found: dict[str, tuple[int, ...]] = {}
    for place, origin in enumerate(first):
        found[names[id(origin)]] = (*found.get(names[id(origin)], ()), place)
    return found


def _origin(node: NodeProto) -> Origin:
    metadata = {entry.key: entry.value for entry in node.metadata_props}
    eps = next((a.f for a in node.attribute if a.name == "epsilon"), None)
    return Origin(node.op_type, node.name, tuple(node.input), metadata.get(_SCOPES, ""), eps)


@dataclass(frozen=True, slots=True)
class _Edges:
    """Who makes a value."""

    makers: Mapping[str, NodeProto]
    stored: frozenset[str]

    @classmethod
    def of(cls, graph: GraphProto) -> _Edges:
        graphs = list(_graphs(graph))
        return cls(
            {name: node for node in all_nodes(graph.node) for name in node.output},
            frozenset(t.name for g in graphs for t in g.initializer),
        )

    def source(self, name: str) -> str | None:
        """The initializer, or output of a Constant node, whose numbers a value has."""
        for _ in range(_LONGEST_CHAIN):
            if name in self.stored:
                return name
            node = self.makers.get(name)
            if node is None or not node.input:
                return name if node is not None and node.op_type == "Constant" else None
            if node.op_type not in _SAME_NUMBERS:
                return None
            name = node.input[0]
        return None

    def require_copies(self, path: Path, name: str) -> None:
        """Refuses to leave out what stands between a stored tensor and its reader, but for copies.

        Raises:
            RunError: its type or shape changes on the way.
        """
        while name not in self.stored:
            node = self.makers[name]
            if node.op_type == "Constant":
                return
            if node.op_type != "Identity":
                raise RunError(
                    f"{path}: {name!r} is a {node.op_type} of an initializer that other layers read too",
                    hint="fold the constants of the file first (onnxsim, or optimize=True)",
                )
            name = node.input[0]


def _readers(graph: GraphProto) -> dict[str, set[int | str]]:
    """Stored tensor -> places of the BatchNorms that normalise with it, and names of other readers."""
    edges = _Edges.of(graph)
    found: dict[str, set[int | str]] = defaultdict(set)
    place = 0
    for node in all_nodes(graph.node):
        inputs = list(node.input)
        if node.op_type == "BatchNormalization":
            for name in inputs[3:5]:
                source = edges.source(name)
                if source is not None:
                    found[source].add(place)
            place, inputs = place + 1, inputs[:3]
        elif node.op_type in _SAME_NUMBERS:
            inputs = inputs[1:]  # whoever reads the same numbers behind it is told by itself
        for name in inputs:
            source = edges.source(name) if name else None
            if source is not None:
                found[source].add(f"{node.op_type} {node.name or node.output[0]}")
    for value in graph.output:
        source = edges.source(value.name)
        if source is not None:
            found[source].add(f"output {value.name}")
    return found


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


@dataclass(frozen=True, slots=True)
class _Stored:
    """The tensors of a file by the names of their values, but for Constants in functions; and all of them."""

    tensors: Mapping[str, TensorProto]
    every: Sequence[TensorProto]

    @classmethod
    def of(cls, model: ModelProto) -> _Stored:
        tensors: dict[str, TensorProto] = {}
        every: list[TensorProto] = []
        for graph in _graphs(model.graph):
            for tensor in graph.initializer:
                tensors[tensor.name] = tensor
            every += graph.initializer
        bodies = [model.graph.node, *(function.node for function in model.functions)]
        for number, nodes in enumerate(bodies):
            for node in all_nodes(nodes):
                value = next((a.t for a in node.attribute if a.HasField("t")), None)
                if value is not None:
                    every.append(value)
                    if node.op_type == "Constant" and number == 0:
                        tensors[node.output[0]] = value
        return cls(tensors, every)

    def locations(self) -> list[str]:
        """The other files that hold bytes of it, in the order in which they are named."""
        return list(dict.fromkeys(_entries(t)["location"] for t in self.every if _is_external(t)))


def _is_external(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def _entries(tensor: TensorProto) -> dict[str, str]:
    return {"location": "", **{entry.key: entry.value for entry in tensor.external_data}}


@dataclass(slots=True)
class _Change:
    """A model while it is changed; it refers to its own copies of other files."""

    store: OnnxStore
    model: ModelProto
    stored: _Stored
    folder: Path
    name: str
    renewed: set[str] = field(default_factory=set)

    def copy_external(self) -> None:
        """Every file that the model names is copied under a name of the written model's own."""
        new: dict[str, str] = {}
        for number, location in enumerate(self.stored.locations()):
            new[location] = f"{self.name}.data" if number == 0 else f"{self.name}.{number}.data"
            shutil.copyfile(inside(self.store.path, location), self.folder / new[location])
        for tensor in self.stored.every:
            for entry in tensor.external_data if _is_external(tensor) else ():
                if entry.key == "location":
                    entry.value = new[entry.value]

    def set(self, name: str, data: bytes) -> None:
        """Writes a tensor over, in the field or file where its numbers are."""
        tensor = self.stored.tensors[name]
        if not _is_external(tensor):
            _fill(tensor, data)
            return
        entries = _entries(tensor)
        offset, length = span(self.store.path, entries)
        file = self.folder / entries["location"]
        if length not in {-1, len(data)} or offset + len(data) > file.stat().st_size:
            raise InputError(
                f"{self.store.path}: initializer {name!r} does not hold what its type and shape say",
                hint="the file is damaged, or was edited by hand: export it again",
            )
        with file.open("r+b") as handle:
            handle.seek(offset)
            handle.write(data)
        self.renewed.add(entries["location"])

    def split(self, name: str, data: bytes, parts: Sequence[tuple[str, int]]) -> None:
        """Gives layers a tensor of their own in the place of one that others read too."""
        if self.model.functions:
            raise RunError(
                f"{self.store.path}: {parts[0][0]} shares the initializer {name!r} with others, in a file "
                "with local functions",
                hint="inline them first: onnx.inliner.inline_local_functions(model)",
            )
        layer, which = parts[0]
        old = self.stored.tensors[name]
        new = TensorProto(data_type=old.data_type, dims=[_channels(old)], raw_data=data)
        taken = {t.name for t in self.model.graph.initializer} | set(self.stored.tensors)
        taken |= {out for node in all_nodes(self.model.graph.node) for out in node.output}
        new.name = f"{layer}.{_SUFFIXES[which]}"
        while new.name in taken:
            new.name += "_own"
        norms, edges = _batchnorms(self.model.graph), _Edges.of(self.model.graph)
        for owner, input_of in parts:
            for place in self.store.nodes[owner]:
                edges.require_copies(self.store.path, norms[place].input[3 + input_of])
                norms[place].input[3 + input_of] = new.name
        self.model.graph.initializer.append(new)
        if self.model.ir_version < _SEPARATE_INPUTS_SINCE:
            info = helper.make_tensor_value_info(new.name, new.data_type, list(new.dims))
            self.model.graph.input.append(info)

    def finish(self) -> None:
        """Checksums of the other files follow, where the model has them."""
        for tensor in self.stored.every:
            if _is_external(tensor) and _entries(tensor)["location"] in self.renewed:
                for entry in tensor.external_data:
                    if entry.key == "checksum":
                        file = self.folder / _entries(tensor)["location"]
                        entry.value = hashlib.sha1(content(file)).hexdigest()  # noqa: S324  # the format's


def _channels(tensor: TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def _fill(tensor: TensorProto, data: bytes) -> None:
    """Puts bytes where the tensor has its numbers: raw, or in the list of its type."""
    kind = _TYPES[tensor.data_type]
    if tensor.HasField("raw_data"):
        tensor.raw_data = data
        return
    dtype: torch.dtype = getattr(torch, kind)
    values: Tensor = torch.frombuffer(bytearray(data), dtype=dtype)
    if kind in {"float16", "bfloat16"}:  # as unsigned integers of 16 bits
        tensor.int32_data[:] = [word & 0xFFFF for word in values.view(torch.int16).tolist()]
    elif kind == "float64":
        tensor.double_data[:] = values.tolist()
    else:
        tensor.float_data[:] = values.tolist()
