"""The graph of an exported program: operators, what they read, and the names behind it.

torch/_export/serde/schema.py defines the JSON. Only what is needed is looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from bnaudit.load.pickles.objects import DamagedError

_ATEN = re.compile(r"torch\.ops\.(\w+)\.(\w+)")
_STACK = re.compile(r"[^,;]*,([^,;]*),([^,;]*)(?:;|$)")
_VIEWS = {"view", "reshape", "flatten", "transpose", "permute", "t", "squeeze", "unsqueeze"}
_VIEWS |= {"select", "slice", "narrow", "expand", "detach", "alias", "contiguous"}
_ASKS = {"sym_size", "sym_numel", "sym_stride"}


@dataclass(frozen=True, slots=True)
class Operator:
    """One node.

    Attributes:
        space, op: "aten" and "conv2d" of torch.ops.aten.conv2d.default.
        args: name of the argument -> its JSON value.
        reads: names of the tensors among the arguments.
        gives: names of the results.
        stack: (path, class) of the modules around the call, outermost first.
        input_op: the operator whose result the first tensor is at that moment, in place ones
            included; "" where that is no operator's.
    """

    space: str
    op: str
    args: dict[str, Any]
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    stack: tuple[tuple[str, str], ...]
    input_op: str = ""

    def tensor(self, *names: str) -> str | None:
        """The name of the tensor that an argument is."""
        for name in names:
            value = self.args.get(name)
            if isinstance(value, dict) and isinstance(value.get("as_tensor"), dict):
                return str(value["as_tensor"].get("name"))
        return None

    def literal(self, *names: str) -> Any:
        """The number or truth value that an argument is, or None."""
        for name in names:
            value = self.args.get(name)
            if isinstance(value, dict) and len(value) == 1:
                kind, content = next(iter(value.items()))
                if kind in ("as_float", "as_int", "as_bool"):
                    return content
        return None


@dataclass(slots=True)
class Graph:
    """A program's graph.

    Attributes:
        operators: in the order they run, those of nested graphs in the place of their caller.
        readers: tensor -> how many operators and outputs read it.
        makers: tensor -> the operator that gives it.
        targets: tensor that is a parameter, buffer or constant -> the author's name.
        parameters: the author's names of the parameters.
        buffers: likewise.
        inputs: names of the user's inputs.
        outputs: names of the outputs.
        values: tensor -> its JSON description.
    """

    operators: list[Operator] = field(default_factory=list)
    readers: dict[str, int] = field(default_factory=dict)
    makers: dict[str, Operator] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)
    buffers: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def rank(self, tensor: str) -> int | None:
        """The number of dimensions of a tensor, where the file describes it."""
        found = self.values.get(tensor)
        sizes = found.get("sizes") if isinstance(found, dict) else None
        return len(sizes) if isinstance(sizes, list) else None

    def source(self, tensor: str | None) -> str | None:
        """The author's name of a parameter, also where it was transposed on the way."""
        for _ in range(4):
            if tensor is None or tensor in self.targets:
                break
            maker = self.makers.get(tensor)
            passes = maker is not None and maker.op in ("t", "permute", "transpose", "detach")
            tensor = maker.reads[0] if maker is not None and passes and maker.reads else None
        return self.targets.get(tensor) if tensor is not None else None


def read_graph(program: Any) -> Graph:
    """The graph in the JSON of a program.

    Raises:
        DamagedError: it is not what torch.export writes.
    """
    graph = Graph()
    try:
        module = program["graph_module"]
        _signature(graph, module["signature"]["input_specs"])
        _nodes(graph, module["graph"], 0)
        graph.values.update(module["graph"].get("tensor_values", {}))
        for entry in module["graph"]["outputs"]:
            for name in _tensors(entry, 0):
                graph.readers[name] = graph.readers.get(name, 0) + 1
        for spec in module["signature"]["output_specs"]:
            if isinstance(spec.get("user_output"), dict):
                graph.outputs += _tensors(spec["user_output"], 0)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise DamagedError("its graph is not as torch.export writes it") from error
    return graph


def _signature(graph: Graph, specs: Any) -> None:
    own = {"parameter": "parameter_name", "buffer": "buffer_name"}
    own["tensor_constant"] = "tensor_constant_name"
    for spec in specs:
        for kind, key in own.items():
            if isinstance(spec.get(kind), dict):
                name = str(spec[kind][key])
                graph.targets[str(spec[kind]["arg"]["name"])] = name
                lists = {"parameter": graph.parameters, "buffer": graph.buffers}
                lists.get(kind, []).append(name)
        if isinstance(spec.get("user_input"), dict):
            graph.inputs += _tensors(spec["user_input"], 0)


def _nodes(graph: Graph, content: Any, depth: int) -> None:
    changed: dict[str, str] = {}
    for node in content["nodes"]:
        args = {str(entry["name"]): entry["arg"] for entry in node["inputs"]}
        reads = tuple(name for arg in args.values() for name in _tensors(arg, 0))
        found = _ATEN.match(str(node["target"]))
        space, op = found.groups() if found else ("", str(node["target"]))
        gives = tuple(name for entry in node["outputs"] for name in _tensors(entry, 0))
        first = graph.makers.get(reads[0]) if reads else None
        before = changed.get(reads[0]) if reads else None
        stack = tuple(_STACK.findall(str(node.get("metadata", {}).get("nn_module_stack", ""))))
        if op.rstrip("_").endswith("dropout") and args.get("p") == {"as_float": 0.0}:
            # Libraries leave dropout of rate 0 in place.
            graph.makers.update(dict.fromkeys(gives, first) if first is not None else {})
            continue
        input_op = before or (first.op if first is not None else "")
        operator = Operator(space, op, args, reads, gives, stack, input_op)
        graph.operators.append(operator)
        graph.makers.update(dict.fromkeys(gives, operator))
        for name in reads if op not in _ASKS else ():
            graph.readers[name] = graph.readers.get(name, 0) + 1
        if op.endswith("_") and not op.endswith("__") and reads:
            _overwrite(graph, changed, reads[0], op)
        for arg in args.values():
            if isinstance(arg, dict) and isinstance(arg.get("as_graph"), dict) and depth < 8:
                _nodes(graph, arg["as_graph"]["graph"], depth + 1)


def _overwrite(graph: Graph, changed: dict[str, str], name: str, op: str) -> None:
    """An operator in place changes what it is given, and whatever that is a view of."""
    for _ in range(100):
        changed[name] = op
        maker = graph.makers.get(name)
        if maker is None or maker.op not in _VIEWS or not maker.reads:
            return
        name = maker.reads[0]


def _tensors(value: Any, depth: int) -> list[str]:
    """The names of the tensors in an argument or result, those of lists included."""
    if not isinstance(value, dict) or depth > 2:
        return []
    found: list[str] = []
    for kind, content in value.items():
        if kind == "as_tensor" and isinstance(content, dict):
            found.append(str(content["name"]))
        elif kind == "as_tensors" and isinstance(content, list):
            found += [str(entry["name"]) for entry in content]
        elif kind == "as_optional_tensors" and isinstance(content, list):
            found += [name for entry in content for name in _tensors(entry, depth + 1)]
        elif kind == "arg":
            found += _tensors(content, depth + 1)
    return found
