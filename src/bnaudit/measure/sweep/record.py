"""Records a tape: a dispatch mode below autograd that sees what a model of any format really calls.

What a tensor is called by: its storage and geometry, since TorchScript hands out new Python objects
for the same tensor. A weak reference to each storage keeps its address from being used again. A call
writes in place: what the storage was known by is forgotten, and the new value stands at that geometry.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import get_gradient_edge
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from bnaudit.measure.sweep.arguments import leaves_of, mapped, tensors_in
from bnaudit.measure.sweep.rules import needs
from bnaudit.measure.sweep.tape import Kept, Shape, Slot, Step, Tape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from bnaudit.measure.sweep.family import Needs
    from bnaudit.tap.call import BatchNormCall

Geometry = tuple[int, tuple[int, ...], tuple[int, ...]]


def _geometry(t: Tensor) -> Geometry:
    return int(t.storage_offset()), tuple(t.shape), tuple(t.stride())


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that a call writes into."""
    schema = func._schema
    if not schema.is_mutable:
        return []
    found: list[Tensor] = []
    for i, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[i] if i < len(args) else kwargs.get(argument.name)
            found += tensors_in(given)
    return found


def _has_active(argument: Any) -> bool:
    return any(t.requires_grad for t in tensors_in(argument))


class Recorder(TorchDispatchMode):
    """Writes the tape while a model runs under it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # The wrapper that this asks for imports all of TorchDynamo, two seconds, at the first call.
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = Tape()
        self.storages: dict[int, StorageWeakRef] = {}
        self.values: dict[int, dict[Geometry, int]] = {}
        self.kept: dict[int, list[Kept]] = {}
        self.pending: tuple[Step, list[Tensor]] | None = None
        self.call: BatchNormCall | None = None
        self.thread, self.elsewhere = threading.get_ident(), False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs a call, and writes it down where a tensor behind a BatchNorm goes in."""
        kwargs = kwargs or {}
        if self.on_another_thread():
            return func(*args, **kwargs)
        self.flush()
        written = _written(func, args, kwargs)
        noted = self._step(func, args, kwargs) if _has_active((args, kwargs)) else None
        for t in written:
            self._preserve(t)
        out = func(*args, **kwargs)
        for t in written:
            self.values.pop(self._storage(t), None)
        if noted is not None:
            self._outputs(*noted, out)
        return out

    def on_another_thread(self) -> bool:
        """Whether the model runs this on a thread of its own (fork of TorchScript): then there is no tape.

        Threads take the mode along. Between a call's return and its gradient edge another thread's calls
        would come, and the edge that is read then is none, or another call's.
        """
        self.elsewhere |= threading.get_ident() != self.thread
        return self.elsewhere

    def flush(self) -> None:
        """Reads the gradient edges of the last call's outputs, which autograd has set meanwhile."""
        if self.pending is None:
            return
        (step, tensors), self.pending = self.pending, None
        for t in tensors:
            if not t.requires_grad:
                step.edges.append(None)
            elif t._is_view():
                # The edge of a view that was written through is not on the way of the gradient.
                step.obstacle = f"{step.name} of a view in place"
                step.edges.append(None)
            else:
                step.edges.append(get_gradient_edge(t))

    def finish(self, loss: Tensor) -> Tape:
        """The tape, with the loss's number.

        Raises:
            RuntimeError: the model ran on several threads.
        """
        if self.elsewhere:
            raise RuntimeError("it runs on several threads")
        self.flush()
        self.tape.loss = self._lookup(loss)
        self.kept.clear()  # the steps hold what they need, and let go of it one by one
        return self.tape

    @contextmanager
    def at(self, call: BatchNormCall) -> Iterator[None]:
        """What runs inside is the BatchNorm of this call."""
        self.call = call
        try:
            yield
        finally:
            self.call = None

    def _storage(self, t: Tensor) -> int:
        storage = t.untyped_storage()
        key: int = storage._cdata
        if key not in self.storages:
            self.storages[key] = StorageWeakRef(storage)
        return key

    def _lookup(self, t: Tensor) -> int | None:
        known = self.values.get(self._storage(t))
        return None if known is None else known.get(_geometry(t))

    def _keep(self, t: Tensor, *, copy: bool = False) -> Kept:
        kept = Kept(t.detach().clone() if copy else t.detach())
        if not copy:
            self.kept.setdefault(self._storage(t), []).append(kept)
        return kept

    def _preserve(self, t: Tensor) -> None:
        for kept in self.kept.pop(self._storage(t), []):
            kept.tensor = kept.tensor.clone()

    def _step(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Step, Needs]:
        step = Step(func, (), {}, [], [], [])
        active = tuple(i for i, a in enumerate((*args, kwargs)) if _has_active(a))
        wanted = needs(step.name, active)

        def note(leaf: Any) -> Any:
            if not isinstance(leaf, torch.Tensor):
                return leaf
            if not leaf.requires_grad:
                return (
                    self._keep(leaf) if wanted.constants else Shape(tuple(leaf.shape), leaf.dtype)
                )
            number = self._lookup(leaf)
            if number is None:
                if leaf.is_complex():
                    step.obstacle = f"{step.name} of complex numbers"
                elif not leaf.is_leaf:
                    step.obstacle = "a tensor that was changed through another view of it"
                number = self._register(leaf)
            step.inputs.append(number)
            step.values.append(self._keep(leaf) if wanted.inputs else None)
            step.shapes.append(Shape(tuple(leaf.shape), leaf.dtype))
            return Slot(len(step.inputs) - 1)

        step.args, step.kwargs = mapped(note, (args, kwargs))
        return step, wanted

    def _register(self, t: Tensor) -> int:
        number = self.tape.new_value()
        self.values.setdefault(self._storage(t), {})[_geometry(t)] = number
        return number

    def _outputs(self, step: Step, wanted: Needs, out: Any) -> None:
        tensors: list[Tensor] = []
        for i, t in enumerate(leaves_of(out)):
            if not isinstance(t, torch.Tensor):
                continue
            if wanted.outputs is not None:
                step.extra += [self._keep(o) for o in wanted.outputs(i, t.detach())]
            if t.is_complex():
                step.obstacle = f"{step.name} makes complex numbers"
            if t.is_floating_point():
                step.positions.append(i)
                step.out_shapes.append(Shape(tuple(t.shape), t.dtype))
                step.outputs.append(self._register(t))
                tensors.append(t)
        if step.name == "native_batch_norm":
            step.key = None if self.call is None else self.call.key
        if wanted.curved:
            self.pending = (step, tensors)
        self.tape.steps.append(step)
