"""Reading the structure of TorchScript modules, whose layers cannot be told by Python class."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_MAX_DEPTH = 100


def module_kind(module: nn.Module) -> str:
    """The name of a module's class, as it was before it was compiled."""
    return str(getattr(module, "original_name", type(module).__name__))


def is_batchnorm(module: nn.Module) -> bool:
    """Whether a module is a BatchNorm layer, of PyTorch's own classes or compiled from one."""
    return isinstance(module, _BatchNorm) or is_scripted_batchnorm(module)


def is_scripted_batchnorm(module: nn.Module) -> bool:
    """Whether a submodule of a TorchScript file was a BatchNorm when it was compiled.

    A class of the name that has one inside is a wrapper around it.
    """
    named = is_batchnorm_kind(str(getattr(module, "original_name", "")))
    return named and not any(map(is_scripted_batchnorm, module.children()))


def is_batchnorm_kind(name: str) -> bool:
    """Whether a class of this name is one of PyTorch's BatchNorms."""
    return name.startswith(("BatchNorm", "SyncBatchNorm", "LazyBatchNorm"))


def anonymous_batchnorms(module: nn.Module) -> list[str]:
    """Paths of the TorchScript BatchNorms without any tensor, in the order the graph calls them.

    Only the calls of straight-line code have a fixed order; a layer inside a loop is listed once.
    """
    if not isinstance(module, torch.jit.ScriptModule):
        return []
    modules = dict(module.named_modules())
    batchnorms = [path for path in _called_paths(modules) if is_scripted_batchnorm(modules[path])]
    return [
        path
        for path in batchnorms
        if all(t.numel() <= 1 for t in (*modules[path].parameters(), *modules[path].buffers()))
    ]


def _called_paths(modules: dict[str, nn.Module], path: str = "", depth: int = 0) -> list[str]:
    """Paths of the submodules that a module's forward calls, in order, callees after callers."""
    graph = _graph(modules[path]) if depth <= _MAX_DEPTH else None
    if graph is None:
        return []
    paths: list[str] = []
    for node in graph.findAllNodes("prim::CallMethod"):
        relative = _attribute_path(next(iter(node.inputs())))
        full = ".".join(p for p in (path, relative) if p)
        if relative is not None and full in modules:
            paths += [full, *_called_paths(modules, full, depth + 1)]
    return paths


def _graph(module: nn.Module) -> Any:
    """The graph of a module's forward, None where it has none (a container)."""
    try:
        return getattr(module, "graph", None)
    except RuntimeError:  # TorchScript's own way of saying that there is no such attribute
        return None


def _attribute_path(value: Any) -> str | None:
    """The dotted path of `self.a.b` given the graph value that holds it."""
    names: list[str] = []
    node = value.node()
    while node.kind() == "prim::GetAttr":
        names.append(node.s("name"))
        node = next(iter(node.inputs())).node()
    return ".".join(reversed(names)) or None
