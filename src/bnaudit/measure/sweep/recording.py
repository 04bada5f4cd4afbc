"""A tape from one forward and backward pass, whoever runs it.

The gradients at curved calls are read by hooks on the nodes that made their outputs, so that the backward
pass which measures the first order serves the second as well.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from bnaudit.measure.sweep.record import Recorder
from bnaudit.tap.call import aliased, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from bnaudit.measure.sweep.tape import Step, Tape
    from bnaudit.tap.call import BatchNormCall

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A tape with the gradients at its curved calls, once backward has passed.

    Attributes:
        tape: not yet prepared.
        custom: layers in front of an autograd function of the model's own.
    """

    tape: Tape
    custom: frozenset[Key]


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
