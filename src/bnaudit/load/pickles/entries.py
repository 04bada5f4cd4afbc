"""Where in a checkpoint the weights are: training scripts wrap them in many ways."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bnaudit.load.pickles.modules import is_module, module_tensors
from bnaudit.load.pickles.objects import DamagedError, Opaque, StoredTensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Where training scripts put the weights, the plain ones before their moving averages.
_ENTRIES = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "ema",
    "ema_state_dict",
    "model_ema",
    "state_dict_ema",
    "params_ema",
)
_OPTIMIZER = "optim"
_MAX_DEPTH = 4
_MAX_STEPS = 2_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """The weights of a checkpoint.

    Attributes:
        path: the keys that lead there, dotted; "" where the checkpoint is nothing else.
        beside: other entries that hold weights too, by key: moving averages, a second network.
        tensors: name -> tensor, in the file's order.
        module: the whole module, where one was pickled.
    """

    path: str
    beside: Mapping[str, Entry]
    tensors: Mapping[str, StoredTensor]
    module: Opaque | None = None


def find_entry(content: Any, wanted: str | None = None) -> Entry:
    """The weights in an object that was saved.

    Args:
        content: the object.
        wanted: the keys of the entry to read, dotted; None for the first that holds a network. A key may
            hold dots itself: the longest that fits is taken.

    Raises:
        DamagedError: there is no end to it.
        TypeError: it is neither a mapping nor a module; the text names what it is.
        KeyError: it has no such entry.
    """
    if wanted is None:
        return _Walk().entry(content, 0)
    rest = wanted
    while rest:
        keys = [key for key in mapping(content) or {} if f"{rest}.".startswith(f"{key}.")]
        key = max(keys, key=len, default=rest)
        content, rest = (mapping(content) or {})[key], rest[len(key) + 1 :]
    found = _Walk().entry(content, 0)
    return replace(found, path=f"{wanted}.{found.path}" if found.path else wanted, beside={})


class _Walk:
    """One search; the same dict may stand in a pickle a million times, so that steps are counted."""

    def __init__(self) -> None:
        self._steps = 0
        self._known: dict[tuple[int, int], bool] = {}

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise DamagedError("it has more entries than any checkpoint")

    def entry(self, content: Any, depth: int) -> Entry:
        if is_module(content):
            return Entry("", {}, dict(self._counted(module_tensors(content))), content)
        state = mapping(content)
        if state is None:
            raise TypeError(kind_of(content))
        found = [key for key in _ENTRIES if self._holds_tensors(state.get(key), depth)]
        if not found:
            return Entry("", {}, dict(self._flatten(state, "", depth)))
        inner = self.entry(state[found[0]], depth + 1)
        path = f"{found[0]}.{inner.path}" if inner.path else found[0]
        others = [*found[1:], *(k for k in state if isinstance(k, str) and k not in found)]
        beside = {
            key: self.entry(state[key], depth + 1)
            for key in others
            if _OPTIMIZER not in key and self._holds_tensors(state[key], depth)
        }
        # Callbacks and schedulers have tensors too; under another key only statistics tell of a network.
        told = {
            key: entry
            for key, entry in beside.items()
            if key in found or any(name.endswith("_mean") for name in entry.tensors)
        }
        return Entry(path, {**inner.beside, **told}, inner.tensors, inner.module)

    def _counted(self, pairs: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        for pair in pairs:
            self._step()
            yield pair

    def _holds_tensors(self, value: Any, depth: int) -> bool:
        """A module, or names to tensors or to such mappings; `net` may also name a submodule."""
        if is_module(value):
            return True
        state = mapping(value)
        if state is None or depth >= _MAX_DEPTH:
            return False
        known = (id(state), depth)
        if known not in self._known:
            self._known[known] = False
            for inner in state.values():
                self._step()
                if isinstance(inner, StoredTensor) or self._holds_tensors(inner, depth + 1):
                    self._known[known] = True
                    break
        return self._known[known]

    def _flatten(
        self, state: Mapping[Any, Any], prefix: str, depth: int
    ) -> Iterator[tuple[str, StoredTensor]]:
        for name, value in state.items():
            self._step()
            if not isinstance(name, str):
                continue  # an optimizer numbers its parameters
            inner = mapping(value)
            if isinstance(value, StoredTensor):
                yield prefix + name, value
            elif is_module(value):
                for path, tensor in self._counted(module_tensors(value)):
                    yield f"{prefix}{name}.{path}", tensor
            elif inner is not None and depth < _MAX_DEPTH and not name.startswith(_OPTIMIZER):
                yield from self._flatten(inner, f"{prefix}{name}.", depth + 1)


def mapping(value: Any) -> Mapping[Any, Any] | None:
    """A dict, or what is in an object of a subclass of dict; None for anything else."""
    if isinstance(value, dict):
        return value
    return value.items if isinstance(value, Opaque) and value.items else None


def kind_of(value: Any) -> str:
    """What an object is, for a message."""
    if isinstance(value, StoredTensor):
        return "Tensor"
    if isinstance(value, Opaque):
        return value.kind or "object"
    return type(value).__name__
