"""The graph of an exported program: its layers, and what is rewritten so that it runs elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from bnaudit.load.model import BatchNormDef
from bnaudit.tap.exported import graph_calls
from bnaudit.tap.naming import Namer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

_ASSERTED_KIND = "aten._assert_tensor_metadata.default"
_CONDITION = "cond"


def assertions_removed(module: fx.GraphModule) -> fx.GraphModule:
    """Without the assertions that intermediate tensors have the dtype and device of the export."""
    for graph_module in _graph_modules(module):
        for node in list(graph_module.graph.nodes):
            if str(node.target) == _ASSERTED_KIND and not node.users:
                graph_module.graph.erase_node(node)
        graph_module.recompile()
    return module


def branches_inlined(module: fx.GraphModule) -> fx.GraphModule:
    """With every condition (`torch.cond`) as a plain choice between two calls.

    The operator of higher order runs its branch below autograd where nothing that it is given
    requires a gradient, as with frozen parameters: BatchNorm inside would yield none.
    """
    for graph_module in _graph_modules(module):
        for node in graph_module.graph.nodes:
            if node.op == "call_function" and getattr(node.target, "__name__", "") == _CONDITION:
                node.target = _taken
        graph_module.recompile()
    return module


def _taken(
    condition: Any, true: Callable[..., Any], false: Callable[..., Any], operands: tuple[Any, ...]
) -> Any:
    return (true if bool(condition) else false)(*operands)


def adapt(module: nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
    """Sets the device, and where `dtype` is given the floating dtype, of tensors made by the graph."""

    def replaced(value: Any) -> Any:
        if isinstance(value, torch.device):
            return device
        if isinstance(value, torch.dtype) and value.is_floating_point and dtype is not None:
            return dtype
        return value

    for graph_module in _graph_modules(module):
        for node in graph_module.graph.nodes:
            if node.op == "call_function":
                node.args = fx.node.map_aggregate(node.args, replaced)
                node.kwargs = fx.node.map_aggregate(node.kwargs, replaced)
        graph_module.recompile()


def _graph_modules(module: nn.Module) -> Iterator[fx.GraphModule]:
    """The program and the graphs of its branches, not the guards on its inputs."""
    for sub in module.modules():
        if isinstance(sub, fx.GraphModule) and type(sub).__name__ != "GuardsFn":
            yield sub


def batchnorm_calls(module: nn.Module) -> tuple[BatchNormDef, ...]:
    """The layers behind the BatchNorm calls of the graph, under the names that the tap gives them."""
    tensors = dict([*module.named_parameters(remove_duplicate=False),
                    *module.named_buffers(remove_duplicate=False)])  # fmt: skip
    namer = Namer(module, {})
    namer.start()
    found: dict[str, BatchNormDef] = {}
    for call in graph_calls(module):
        own = [tensors[path] for path in call.tensors if path in tensors]
        name, _ = namer.name(*own)
        channels = next((int(t.numel()) for t in own), None)
        where = f" (module {call.path!r}, {call.kind})" if call.path else ""
        found.setdefault(name, BatchNormDef(name, channels, f"node {call.node!r}{where}"))
    return tuple(found.values())
