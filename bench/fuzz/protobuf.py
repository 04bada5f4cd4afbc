"""Mutations of ONNX models as graphs: names, shapes, types, attributes, subgraphs, functions, locations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from bench.fuzz.mutate import INTEGERS, REALS, TEXTS, flipped

if TYPE_CHECKING:
    import random

OPERATORS = (
    "Identity", "Dropout", "BatchNormalization", "Add", "Mul", "Reshape", "If", "Loop", "Scan", "Constant",
    "Shape", "Gather", "Slice", "Cast", "Conv", "Gemm", "Transpose", "Concat", "Unsqueeze", "Range", "Expand",
    "ConstantOfShape", "Pad", "Tile", "Where", "Sqrt", "Div", "Sub", "Pow", "Split", "Resize", "MatMul",
)  # fmt: skip


def model(rng: random.Random, data: bytes) -> bytes:
    """A model with a few things in it changed, serialised again."""
    found = onnx.ModelProto()
    found.ParseFromString(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        graphs = list(_graphs(found.graph))
        graph = rng.choice(graphs)
        rng.choice(_CHANGES)(rng, graph, found)
    out: bytes = found.SerializeToString()
    return flipped(rng, out) if rng.random() < 0.02 else out


def _graphs(graph: Any) -> list[Any]:
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [graph, *(g for found in inner for g in _graphs(found))]


def _names(graph: Any) -> list[str]:
    found = [*graph.input, *graph.initializer, *graph.output]
    return [v.name for v in found] + [n for node in graph.node for n in (*node.input, *node.output)]


def _node(rng: random.Random, graph: Any, _: Any) -> None:
    if not graph.node:
        return
    node = graph.node[rng.randrange(len(graph.node))]
    kind = rng.randrange(8)
    names = [*_names(graph), *TEXTS]
    if kind == 0:
        node.op_type = rng.choice(OPERATORS)
    elif kind == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif kind == 2 and node.output:
        node.output[rng.randrange(len(node.output))] = rng.choice(names)
    elif kind == 3 and node.input:
        del node.input[rng.randrange(len(node.input)) :]
    elif kind == 4:
        node.domain = rng.choice(("", "ai.onnx", "com.microsoft", "x" * 50, "ai.onnx.ml"))
    elif kind == 5 and node.output and node.input:
        node.input[0] = node.output[0]
    elif kind == 6:
        graph.node.remove(node)
    else:
        graph.node.insert(rng.randrange(len(graph.node) + 1), node)


def _attribute(rng: random.Random, graph: Any, _: Any) -> None:
    holders = [node for node in graph.node if node.attribute]
    if not holders:
        return
    node = rng.choice(holders)
    a = node.attribute[rng.randrange(len(node.attribute))]
    kind = rng.randrange(7)
    if kind == 0:
        a.i = rng.choice(INTEGERS)
    elif kind == 1 and a.ints:
        a.ints[rng.randrange(len(a.ints))] = rng.choice(INTEGERS)
    elif kind == 2:
        a.f = rng.choice(REALS)
    elif kind == 3:
        a.type = rng.randrange(15)
    elif kind == 4:
        a.name = rng.choice(
            [b.name for n in graph.node for b in n.attribute] + list(TEXTS)
        ).replace("\0", "")
    elif kind == 5:
        node.attribute.remove(a)
    else:
        a.ints.extend([rng.choice(INTEGERS)] * rng.choice((1, 5)))


def _tensor(rng: random.Random, graph: Any, _: Any) -> None:  # noqa: C901
    tensors = [
        *graph.initializer,
        *(a.t for n in graph.node for a in n.attribute if a.HasField("t")),
    ]
    if not tensors:
        return
    tensor = rng.choice(tensors)
    kind = rng.randrange(8)
    if kind == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(INTEGERS)
    elif kind == 1:
        tensor.data_type = rng.randrange(27)
    elif kind == 2 and tensor.raw_data:
        tensor.raw_data = flipped(rng, tensor.raw_data)
    elif kind == 3:
        tensor.name = rng.choice([*_names(graph), *TEXTS]).replace("\0", "")
    elif kind == 4:
        tensor.data_location = 1
        for key, value in (("location", "w.bin"), ("offset", "0"), ("length", "16")):
            if rng.random() < 0.8:
                odd = rng.choice((*map(str, INTEGERS), *TEXTS, "1e9", "0x10"))
                tensor.external_data.add(key=key, value=odd if rng.random() < 0.5 else value)
    elif kind == 5:
        tensor.dims.extend([rng.choice((0, 1, 2, -1))] * rng.choice((1, 70)))
    elif kind == 6:
        del tensor.dims[:]
    else:
        tensor.float_data.extend([rng.choice(REALS)] * rng.choice((1, 8)))


def _value(rng: random.Random, graph: Any, _: Any) -> None:
    values = [*graph.input, *graph.output, *graph.value_info]
    if not values:
        return
    value = rng.choice(values)
    shape = value.type.tensor_type.shape
    kind = rng.randrange(6)
    if kind == 0 and shape.dim:
        shape.dim[rng.randrange(len(shape.dim))].dim_value = rng.choice(INTEGERS)
    elif kind == 1:
        value.type.tensor_type.elem_type = rng.randrange(27)
    elif kind == 2:
        value.name = rng.choice([*_names(graph), *TEXTS]).replace("\0", "")
    elif kind == 3:
        value.type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif kind == 4:
        value.ClearField("type")
    else:
        shape.dim.add().dim_param = rng.choice(("N", "batch", *TEXTS)).replace("\0", "")


def _nested(rng: random.Random, graph: Any, found: Any) -> None:
    """The graph, or a part of it, inside a node of itself."""
    inner = onnx.GraphProto()
    inner.CopyFrom(graph)
    if rng.random() < 0.5:
        del inner.initializer[:]
    for _ in range(rng.choice((0, 0, 1, 3))):
        outer = onnx.GraphProto(name="o")
        outer.node.add(op_type="If", input=["c"], output=["o"]).attribute.add(
            name="then_branch", type=5
        ).g.CopyFrom(inner)
        inner = outer
    node = graph.node.add(op_type=rng.choice(("If", "Loop", "Scan", "SequenceMap")), name="nest")
    node.input.extend(rng.sample(_names(graph), k=min(2, len(_names(graph)))))
    node.output.extend([o.name for o in graph.output][:1] or ["y"])
    for name in rng.choice((("then_branch", "else_branch"), ("body",), ("then_branch",))):
        node.attribute.add(name=name, type=5).g.CopyFrom(inner)
    if rng.random() < 0.3:
        found.graph.initializer.append(
            onnx.helper.make_tensor("c", onnx.TensorProto.BOOL, [], [True])
        )


def _function(rng: random.Random, graph: Any, found: Any) -> None:
    """Local functions: some that call each other or themselves."""
    count = rng.choice((1, 1, 2))
    for i in range(count):
        function = found.functions.add(name=f"f{i}", domain="own")
        function.input.extend(["a"] * rng.choice((1, 1, 2, 0)))
        function.output.extend([rng.choice(("b", "a", "c"))])
        function.opset_import.add(domain="", version=rng.choice((17, 0, -1, 99)))
        function.node.add(op_type="Relu", input=["a"], output=["t"])
        function.node.add(
            op_type=f"f{rng.randrange(count + 1)}",
            domain=rng.choice(("own", "")),
            input=["t"],
            output=["b"],
        )
    names = _names(graph)
    graph.node.add(
        op_type="f0",
        domain="own",
        input=rng.sample(names, k=min(1, len(names))),
        output=[rng.choice(names or ["z"])],
    )
    found.opset_import.add(domain="own", version=1)


def _header(rng: random.Random, _: Any, found: Any) -> None:
    kind = rng.randrange(4)
    if kind == 0 and found.opset_import:
        found.opset_import[0].version = rng.choice((*INTEGERS, 1, 5, 6, 9, 13, 18, 25))
    elif kind == 1:
        found.ir_version = rng.choice(INTEGERS)
    elif kind == 2:
        found.opset_import.add(domain=rng.choice(("", "ai.onnx")), version=rng.choice(INTEGERS))
    else:
        found.producer_name = rng.choice(TEXTS).replace("\0", "")


_CHANGES = (_node, _node, _node, _attribute, _tensor, _tensor, _value, _nested, _function, _header)
