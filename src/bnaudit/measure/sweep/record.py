"""Records a tape: a dispatch mode below autograd that sees what a model of any format really calls.

What a tensor is called by: its storage and geometry, since TorchScript hands out new Python objects
for the same tensor. A weak reference to each storage keeps its address from being used again. A call
writes in place: what the storage was known by is forgotten, and the new value stands at that geometry.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import get_gradient_edge
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from bnaudit.measure.sweep.rules import needs
from bnaudit.measure.sweep.tape import Kept, Shape, Slot, Step, Tape
from bnaudit.tap.call import aliased, walk
from bnaudit.tap.trees import leaves_of, mapped, tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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


Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A tape with the gradients at its curved calls, once backward has passed.

    Attributes:
        tape: not yet prepared.
        custom: layers in front of an autograd function of the model's own.
        seconds: that the pass took, forward and backward; 0 where it was not timed.
    """

    tape: Tape
    custom: frozenset[Key]
    seconds: float = 0.0


@dataclass(slots=True)
class Recording:
    """Records the pass that runs inside `forward`, its BatchNorms by what `around` returns."""

    recorder: Recorder = field(default_factory=Recorder)
    nodes: dict[Key, Any] = field(default_factory=dict)

    def around(self, inner: Callable[[BatchNormCall], Tensor]) -> Callable[[BatchNormCall], Tensor]:
        """A handler that carries calls out as `inner` does, and writes them down."""

        def handle(call: BatchNormCall) -> Tensor:
            if self.recorder.on_another_thread():
                return inner(call)
            # A private alias: what became of a tensor that the model changed behind the recorder's back
            # is this call's obstacle on the way in, not the layer's.
            alias = aliased(call.x) if call.x.requires_grad else call.x
            with self.recorder.at(call):
                z = inner(replace(call, x=alias))
            self.nodes[call.key] = z.grad_fn
            return z

        return handle

    @contextmanager
    def forward(self) -> Iterator[None]:
        """What runs inside is the forward pass."""
        # The fused kernels of attention have no second derivative; their plain form is a few products.
        with sdpa_kernel(SDPBackend.MATH), self.recorder:
            yield

    def backward_of(self, loss: Tensor) -> Recorded:
        """The tape; its gradients arrive while `loss.backward()` runs after this."""
        tape = self.recorder.finish(loss)
        custom = _behind_custom_functions(loss, self.nodes)
        self.nodes.clear()
        for step in tape.steps:
            _await_adjoints(step)
        return Recorded(tape, custom)


def _await_adjoints(step: Step) -> None:
    step.adjoints = [None] * max(len(step.outputs), 1)
    for position, edge in enumerate(step.edges):
        if edge is not None:
            _fill(step.adjoints, position, edge.node, edge.output_nr)
    step.edges = []  # the node holds the hook, and nothing that the hook holds leads back to the node


def _fill(adjoints: list[Tensor | None], position: int, node: Any, output: int) -> None:
    def hook(gradients: Sequence[Tensor | None]) -> None:
        found = gradients[output]
        adjoints[position] = None if found is None else found.detach()

    node.register_prehook(hook)


def _behind_custom_functions(loss: Tensor, nodes: dict[Key, Any]) -> frozenset[Key]:
    """Layers in front of an autograd function of the model's own: its backward is what it says."""
    custom = [node for node in walk(loss) if _is_custom(node)]
    if not custom:
        return frozenset()
    seen: set[Any] = set()
    stack = list(custom)
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack += [parent for parent, _ in node.next_functions]
    return frozenset(key for key, node in nodes.items() if node in seen)


def _is_custom(node: Any) -> bool:
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        return True
    # PyTorch's own nodes have plain names, but for these; CppNode<...> is a custom one in C++.
    return "::" in node.name() and not node.name().endswith(_PLAIN)


_PLAIN = ("::CopySlices", "::CopyBackwards", "::AccumulateGrad")
