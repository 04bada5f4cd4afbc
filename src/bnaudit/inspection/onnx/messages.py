"""The messages of onnx.proto that an inspection looks at, and of these the fields that it needs.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3. They never change.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bnaudit.inspection.onnx import wire


@dataclass(slots=True)
class Tensor:
    """A TensorProto; its values stay in the file.

    Attributes:
        name: of the initializer, often empty in a Constant node.
        shape: of the array.
        kind: TensorProto.DataType.
        raw: little-endian bytes, or None where the values are in one of the other fields.
        floats, integers, doubles: the fields of these types, as far as they were stored so.
        external: where the bytes lie in another file.
        is_external: whether they do.
        fill: the value of all elements, where the file stores one for all (ConstantOfShape).
    """

    name: str = ""
    shape: tuple[int, ...] = ()
    kind: int = 0
    raw: memoryview | None = None
    floats: list[int | memoryview] = field(default_factory=list)
    integers: list[int | memoryview] = field(default_factory=list)
    doubles: list[int | memoryview] = field(default_factory=list)
    external: dict[str, str] = field(default_factory=dict)
    is_external: bool = False
    fill: float | None = None

    @property
    def size(self) -> int:
        """The number of elements."""
        size = 1
        for length in self.shape:
            size *= length
        return size


@dataclass(slots=True)
class Node:
    """A NodeProto. Attributes and metadata are parsed when they are asked for."""

    op: str = ""
    domain: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    raw_attributes: list[memoryview] = field(default_factory=list)
    raw_metadata: list[memoryview] = field(default_factory=list)

    def attributes(self) -> dict[str, Attribute]:
        """By name."""
        return {a.name: a for a in map(attribute_of, self.raw_attributes)}

    def metadata(self) -> dict[str, str]:
        """What the exporter noted at the node."""
        return dict(map(_entry, self.raw_metadata))


@dataclass(slots=True)
class Attribute:
    """An AttributeProto, as far as its type is of interest."""

    name: str = ""
    real: float | None = None
    integer: int | None = None
    tensor: Tensor | None = None
    graphs: list[memoryview] = field(default_factory=list)
    floats: list[int | memoryview] = field(default_factory=list)
    integers: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Value:
    """A ValueInfoProto: name, and the type of a tensor."""

    name: str = ""
    kind: int = 0
    shape: tuple[int | str | None, ...] | None = None


@dataclass(slots=True)
class Graph:
    """A GraphProto."""

    nodes: list[Node] = field(default_factory=list)
    initializers: list[Tensor] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)


@dataclass(slots=True)
class Model:
    """A ModelProto."""

    ir_version: int = 0
    producer: str = ""
    producer_version: str = ""
    domain: str = ""
    version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    graph: Graph = field(default_factory=Graph)
    graph_metadata: dict[str, str] = field(default_factory=dict)
    has_functions: bool = False


def model_of(data: memoryview) -> Model:
    """Parses a file, as far as an inspection needs it.

    Raises:
        DamagedError: it is no protobuf message, or not this one.
    """
    model = Model()
    for number, value in wire.fields(data):
        if number == 1:
            model.ir_version = wire.integer(value)
        elif number in _MODEL_TEXTS:
            setattr(model, _MODEL_TEXTS[number], wire.text(value))
        elif number == 5:
            model.version = wire.integer(value)
        elif number == 7:
            _extend(model, wire.message(value))
        elif number == 8:
            domain, version = _opset(wire.message(value))
            model.opsets[domain] = version
        elif number == 14:
            model.metadata.update([_entry(wire.message(value))])
        elif number == 25:
            model.has_functions = True
    return model


_MODEL_TEXTS = {2: "producer", 3: "producer_version", 4: "domain"}


def _extend(model: Model, data: memoryview) -> None:
    """A graph that is stored in several pieces is their concatenation, says protobuf."""
    extend_graph(model.graph, data)
    for number, value in wire.fields(data):
        if number == 16:
            model.graph_metadata.update([_entry(wire.message(value))])


def extend_graph(graph: Graph, data: memoryview) -> None:
    """Adds the contents of a GraphProto to `graph`."""
    for number, value in wire.fields(data):
        if number == 1:
            graph.nodes.append(node_of(wire.message(value)))
        elif number == 5:
            graph.initializers.append(tensor_of(wire.message(value)))
        elif number == 11:
            graph.inputs.append(_value(wire.message(value)))
        elif number == 12:
            graph.outputs.append(_value(wire.message(value)))
        elif number == 13:
            graph.values.append(_value(wire.message(value)))


def node_of(data: memoryview) -> Node:
    """Parses a NodeProto."""
    node = Node()
    for number, value in wire.fields(data):
        if number == 1:
            node.inputs.append(wire.text(value))
        elif number == 2:
            node.outputs.append(wire.text(value))
        elif number == 3:
            node.name = wire.text(value)
        elif number == 4:
            node.op = wire.text(value)
        elif number == 5:
            node.raw_attributes.append(wire.message(value))
        elif number == 7:
            node.domain = wire.text(value)
        elif number == 9:
            node.raw_metadata.append(wire.message(value))
    return node


def attribute_of(data: memoryview) -> Attribute:
    """Parses an AttributeProto."""
    attribute = Attribute()
    for number, value in wire.fields(data):
        if number == 1:
            attribute.name = wire.text(value)
        elif number == 2:
            attribute.real = wire.real(value)
        elif number == 3:
            attribute.integer = wire.integer(value)
        elif number == 5:
            attribute.tensor = tensor_of(wire.message(value))
        elif number in {6, 11}:
            attribute.graphs.append(wire.message(value))
        elif number == 7:
            attribute.floats.append(value)
        elif number == 8:
            attribute.integers += map(wire.signed, wire.varints(value))
    return attribute


_TENSOR_NUMBERS = {4: "floats", 5: "integers", 7: "integers", 10: "doubles"}  # 7: int64_data


def tensor_of(data: memoryview) -> Tensor:
    """Parses a TensorProto without touching its values."""
    tensor = Tensor()
    shape: list[int] = []
    for number, value in wire.fields(data):
        if number == 1:
            shape += map(wire.signed, wire.varints(value))
        elif number == 2:
            tensor.kind = wire.integer(value)
        elif number in _TENSOR_NUMBERS:
            getattr(tensor, _TENSOR_NUMBERS[number]).append(value)
        elif number == 8:
            tensor.name = wire.text(value)
        elif number == 9:
            tensor.raw = wire.message(value)
        elif number == 13:
            tensor.external.update([_entry(wire.message(value))])
        elif number == 14:
            tensor.is_external = wire.integer(value) == 1
    tensor.shape = tuple(shape)
    return tensor


def _value(data: memoryview) -> Value:
    value = Value()
    for number, content in wire.fields(data):
        if number == 1:
            value.name = wire.text(content)
        elif number == 2:
            for inner, kind in wire.fields(wire.message(content)):
                if inner == 1:
                    _tensor_type(value, wire.message(kind))
    return value


def _tensor_type(value: Value, data: memoryview) -> None:
    for number, content in wire.fields(data):
        if number == 1:
            value.kind = wire.integer(content)
        elif number == 2:
            value.shape = tuple(
                _dimension(wire.message(dim))
                for inner, dim in wire.fields(wire.message(content))
                if inner == 1
            )


def _dimension(data: memoryview) -> int | str | None:
    """A static size, a symbol or None; exporters write -1 and 0 for unknown too."""
    found: int | str | None = None
    for number, value in wire.fields(data):
        if number == 1:
            size = wire.integer(value)
            found = size if size > 0 else None
        elif number == 2:
            found = wire.text(value) or None
    return found


def _opset(data: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in wire.fields(data):
        if number == 1:
            domain = wire.text(value)
        elif number == 2:
            version = wire.integer(value)
    return domain, version


def _entry(data: memoryview) -> tuple[str, str]:
    """A StringStringEntryProto."""
    key, content = "", ""
    for number, value in wire.fields(data):
        if number == 1:
            key = wire.text(value)
        elif number == 2:
            content = wire.text(value)
    return key, content
