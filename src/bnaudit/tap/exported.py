"""Reading the structure of exported programs, whose layers are calls in one flat graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import fx

from bnaudit.tap.call import DECOMPOSED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

_OPERATORS = frozenset({"batch_norm", *DECOMPOSED})
_INSTANCE_NORM = "InstanceNorm"
_FUNCTIONAL = "batch_norm_"


@dataclass(frozen=True, slots=True)
class GraphCall:
    """One BatchNorm call of an exported graph.

    Attributes:
        node: name of the node.
        path: the module that its author called it in, "" for the model itself or where the graph
            does not say.
        kind: that module's class ("BatchNorm2d"), "" where the graph does not say.
        tensors: paths of the parameters and buffers that it is given.
    """

    node: str
    path: str
    kind: str
    tensors: tuple[str, ...]


def graph_calls(module: nn.Module) -> list[GraphCall]:
    """The BatchNorm calls of an exported program's module, in order; none for any other module.

    Both branches of a condition are listed. InstanceNorm, which decomposes into the same operators,
    is left out.
    """
    if not isinstance(module, fx.GraphModule):
        return []
    found = _calls_in(module, {})
    return [call for call in found if not call.kind.startswith(_INSTANCE_NORM)]


def is_decomposed(module: nn.Module) -> bool:
    """Whether a graph somewhere inside calls BatchNorm by one of its other names."""
    return any(
        _operator(node) in DECOMPOSED
        for sub in module.modules()
        if isinstance(sub, fx.GraphModule)
        for node in sub.graph.nodes
    )


def _calls_in(module: fx.GraphModule, given: Mapping[str, str]) -> Iterator[GraphCall]:
    """`given`: placeholder -> path of the parameter or buffer that is passed for it."""
    for node in module.graph.nodes:
        if _operator(node) in _OPERATORS:
            path, kind = ("", "")
            for path, kind in _stack(node):  # noqa: B007  # the innermost is the last
                pass
            tensors = tuple(filter(None, (_path(a, given) for a in node.args[1:5])))
            yield GraphCall(node.name, path, kind.rpartition(".")[2], tensors)
        elif node.op == "call_function":
            # An operator of higher order (a condition) is given graphs, and behind them their inputs.
            operands = [a for a in _flat(node.args) if isinstance(a, fx.Node)]
            for operand in operands:
                inner = getattr(module, str(operand.target), None)
                if operand.op == "get_attr" and isinstance(inner, fx.GraphModule):
                    inputs = [n.name for n in inner.graph.nodes if n.op == "placeholder"]
                    passed = operands[len(operands) - len(inputs) :]
                    paths = {n: _path(a, given) for n, a in zip(inputs, passed, strict=False)}
                    yield from _calls_in(inner, {k: v for k, v in paths.items() if v})


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _path(node: Any, given: Mapping[str, str]) -> str:
    if not isinstance(node, fx.Node):
        return ""
    return str(node.target) if node.op == "get_attr" else given.get(node.name, "")


def anonymous_calls(module: nn.Module) -> list[str | None]:
    """Names of the calls without any parameter or buffer, in order; None for an InstanceNorm among them."""
    names: list[str | None] = []
    calls = _calls_in(module, {}) if isinstance(module, fx.GraphModule) else ()
    for call in calls:
        if not call.tensors and call.kind.startswith(_INSTANCE_NORM):
            names.append(None)
        elif not call.tensors:
            without = sum(1 for n in names if n is not None and n.startswith(_FUNCTIONAL))
            names.append(call.path or f"{_FUNCTIONAL}{without + 1}")
    return names


def model_kind(module: nn.Module) -> str | None:
    """The class of the network that was exported, as its graph remembers it."""
    if not isinstance(module, fx.GraphModule):
        return None
    for node in module.graph.nodes:
        for path, kind in _stack(node):
            if not path:
                return kind.rpartition(".")[2]
    return None


def _operator(node: fx.Node) -> str:
    """`aten._native_batch_norm_legit.no_stats` -> `_native_batch_norm_legit.no_stats`."""
    name = str(node.target) if node.op == "call_function" else ""
    return name.removeprefix("aten.").removesuffix(".default") if name.startswith("aten.") else ""


def _stack(node: fx.Node) -> Iterator[tuple[str, str]]:
    """(path, class) of the modules around a node, outermost first; `bn@1` is a second call of `bn`."""
    stack: Any = node.meta.get("nn_module_stack") or {}
    for path, kind in stack.values():
        name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        yield str(path).partition("@")[0], name
