"""Nothing in the model changes: flags are put back, and parameters and buffers compared."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnaudit.errors import RunError
from bnaudit.tap.trees import mapped, tensors_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_BLOCK_BYTES = 32768


def _fingerprint(tensor: Tensor) -> tuple[int, int, int]:
    """Sums of the raw bits, plain and position-weighted: any single changed value shows.

    A copy of every parameter would cost as much memory as the gradients that are saved by
    freezing them.
    """
    raw = tensor.detach().contiguous().view(-1).view(torch.uint8)
    whole = raw.numel() // _BLOCK_BYTES * _BLOCK_BYTES
    tail = torch.nn.functional.pad(raw[whole:], (0, whole + _BLOCK_BYTES - raw.numel()))
    rows = torch.cat(
        [t.view(torch.int64).view(-1, _BLOCK_BYTES // 8).sum(1) for t in (raw[:whole], tail)]
    )
    # Odd weights, wrapping arithmetic: blocks that trade places change the sum.
    weights = 2 * torch.arange(rows.numel(), device=rows.device) + 1
    return (raw.numel(), int(rows.sum()), int((rows * weights).sum()))


_OWN = frozenset(vars(nn.Module()))
"""What every module has: parameters, buffers, submodules, hooks."""


def _versions(tree: Any) -> list[int]:
    """Counts of the writes into each tensor."""
    return [-1 if t.is_inference() else t._version for t in tensors_in(tree)]


def _copied(tree: Any) -> Any:
    """With tensors of its own; parameters are compared, not copied, see `_fingerprint`."""

    def copied(leaf: Any) -> Any:
        own = isinstance(leaf, torch.Tensor) and not isinstance(leaf, nn.Parameter)
        return leaf.detach().clone() if own else leaf

    return mapped(copied, tree)


@dataclass(frozen=True, slots=True)
class _Held:
    """A value as it was: itself, the writes into its tensors so far, and a copy of it."""

    value: Any
    versions: list[int]
    copy: Any

    @classmethod
    def of(cls, value: Any) -> _Held:
        return cls(value, _versions(value), _copied(value))


class State:
    """What a model holds besides its parameters: buffers, and tensors in attributes of its modules.

    A membrane, a hidden state, a cache of keys: every pass has to see the same, or its numbers depend on
    what ran before it.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._endless: set[tuple[str, str]] = set()
        self._plain: dict[tuple[str, str], _Held] = {}
        for key, value in list(self._attributes()):
            try:
                self._plain[key] = _Held.of(value)
            except RecursionError:  # a list that holds itself
                self._endless.add(key)
        self._buffers = {path: _Held.of(b) for path, b in module.named_buffers()}

    def kept(self) -> dict[str, list[Any]]:
        """What leads into the graph of an earlier call: its name ("2.v") and the nodes there."""
        named = [(".".join(filter(None, key)), value) for key, value in self._attributes()]
        named += self._module.named_buffers()
        nodes = {
            name: [t.grad_fn for t in tensors_in(v) if t.grad_fn is not None] for name, v in named
        }
        return {name: found for name, found in nodes.items() if found}

    def restore(self) -> None:
        """Puts back what was replaced, and what was written into."""
        modules = dict(self._module.named_modules())
        with torch.no_grad():
            for (path, name), value in list(self._attributes()):
                held = self._plain.get((path, name))
                if held is None:
                    if tensors_in(value):
                        delattr(modules[path], name)
                elif _versions(held.value) != held.versions:
                    setattr(modules[path], name, _copied(held.copy))
                elif value is not held.value and tensors_in((value, held.value)):
                    setattr(modules[path], name, held.value)
            for path, held in self._buffers.items():
                owner, _, name = path.rpartition(".")
                # The tensor itself comes back: layers are told by where their buffers lie.
                if _versions(held.value) != held.versions:
                    if held.value.grad_fn is not None and not held.value._is_view():
                        held.value.detach_()
                    held.value.detach().copy_(held.copy)
                    self._buffers[path] = _Held(held.value, _versions(held.value), held.copy)
                now = getattr(modules[owner], name, None)
                if now is None or now.data_ptr() != held.value.data_ptr():
                    setattr(modules[owner], name, held.value)

    def _attributes(self) -> Iterator[tuple[tuple[str, str], Any]]:
        """(module's path, name) -> value; TorchScript has its state in buffers."""
        for path, sub in self._module.named_modules():
            if not isinstance(sub, torch.jit.ScriptModule):
                for name, value in vars(sub).items():
                    if name not in _OWN and (path, name) not in self._endless:
                        yield (path, name), value


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Freezes the model for measurement and gives it back exactly as it was.

    Inside, every submodule is in eval mode and no parameter requires a gradient (weight gradients
    are not needed for gradients at activations, and cost a third of the backward). On the way out,
    also after an exception, the training flags, the requires_grad flags, and the state that the model
    itself wrote or replaced (a traced `num_batches_tracked += 1`) are restored.

    Raises:
        RunError: the model changed one of its own parameters while it ran, or has parameters that
            autograd may not touch.
    """
    if any(p.is_inference() for p in module.parameters()):
        raise RunError(
            "the model's parameters were made under torch.inference_mode()",
            hint="build or load the model outside of it",
        )
    # A frozen TorchScript module has no such flag.
    training = [(s, s.training) for s in module.modules() if hasattr(s, "training")]
    parameters = list(module.named_parameters())
    requires_grad = [(p, p.requires_grad) for _, p in parameters]
    state = State(module)
    before = {name: _fingerprint(p) for name, p in parameters}
    try:
        for sub, _ in training:
            sub.training = False
        for _, p in parameters:
            p.requires_grad_(False)
        yield
    finally:
        for sub, flag in training:
            sub.training = flag
        for p, flag in requires_grad:
            p.requires_grad_(flag)
        state.restore()
    changed = [name for name, p in parameters if _fingerprint(p) != before[name]]
    if changed:
        raise RunError(
            f"the model changed its own parameter {changed[0]!r} while it ran",
            hint="bnaudit measures models that leave their parameters alone in a forward pass",
        )
