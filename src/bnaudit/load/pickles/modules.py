"""Whole modules that were pickled: their tree of submodules, parameters and buffers, from attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnaudit.load.pickles.objects import DamagedError, Opaque, StoredTensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAX_DEPTH = 100
_MAX_MODULES = 1_000_000


def is_module(value: Any) -> bool:
    """Whether an object has what every `torch.nn.Module` has."""
    return isinstance(value, Opaque) and isinstance(value.state.get("_modules"), dict)


def attributes(module: Opaque, kind: str) -> Mapping[str, Any]:
    """Its `_parameters`, `_buffers` or `_modules` that have a name and are set."""
    found = module.state.get(kind)
    if not isinstance(found, dict):
        return {}
    return {n: v for n, v in found.items() if isinstance(n, str) and v is not None}


def named_modules(root: Opaque, *, once: bool) -> Iterator[tuple[str, Opaque]]:
    """Path and module, parents before children, in the order of registration.

    Args:
        root: the module; its own path is "".
        once: a module registered under several names comes under the first only, as
            `torch.nn.Module.named_modules` has it; otherwise as `state_dict` has it.

    Raises:
        DamagedError: there is no end to it.
    """
    seen: set[int] = set()
    waiting: list[tuple[str, Opaque, int]] = [("", root, 0)]
    for _ in range(_MAX_MODULES):
        if not waiting:
            return
        path, module, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise DamagedError("its modules contain each other without end")
        if once and id(module) in seen:
            continue
        seen.add(id(module))
        yield path, module
        below = attributes(module, "_modules").items()
        children = [(n, m) for n, m in below if is_module(m)]
        waiting += [(f"{path}.{n}" if path else n, m, depth + 1) for n, m in reversed(children)]
    raise DamagedError("its modules contain each other without end")


def module_tensors(root: Opaque) -> Iterator[tuple[str, Any]]:
    """The names and tensors that its `state_dict()` would have."""
    for path, module in named_modules(root, once=False):
        hidden = module.state.get("_non_persistent_buffers_set")
        hidden = hidden if isinstance(hidden, list) else []
        for kind in ("_parameters", "_buffers"):
            for name, value in attributes(module, kind).items():
                if isinstance(value, StoredTensor) and not (kind == "_buffers" and name in hidden):
                    yield (f"{path}.{name}" if path else name), value
