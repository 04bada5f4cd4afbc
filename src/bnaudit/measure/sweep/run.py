"""From a model and a batch to a prepared tape with its layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from bnaudit.measure.sweep.fuse import fuse
from bnaudit.measure.sweep.plan import allowance, last_readers
from bnaudit.measure.sweep.play import Site
from bnaudit.measure.sweep.record import Recorder
from bnaudit.measure.sweep.rules import prepare
from bnaudit.tap.call import BatchNormCall, differentiable, normalise, walk
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from bnaudit.measure.session import Session
    from bnaudit.measure.sweep.tape import Tape

Key = tuple[str, int]


@dataclass(slots=True)
class Prepared:
    """A tape ready to be swept.

    Attributes:
        tape: with every step prepared.
        dead: per step the values that nobody reads after it.
        sites: the layers that can be swept, in execution order.
        obstacles: why the others cannot.
        allowance: bytes that stacks may take where the user set no limit.
    """

    tape: Tape
    dead: list[list[int]]
    sites: list[Site]
    obstacles: dict[Key, str]
    allowance: int


@dataclass(slots=True)
class _Handler:
    """Normalises under the recorder, and keeps each layer's node of the autograd graph."""

    recorder: Recorder
    nodes: dict[Key, Any] = field(default_factory=dict)

    def __call__(self, call: BatchNormCall) -> Tensor:
        x = differentiable(call.x)
        with self.recorder.at(call):
            z = normalise(call, x.view_as(x), "batch")
        self.nodes[call.key] = z.grad_fn
        return z


def prepare_tape(session: Session, keys: Collection[Key]) -> Prepared:
    """One forward pass under the recorder, one backward for the gradients at curved calls.

    Args:
        session: the model and its batches; the first batch is run.
        keys: the layers that are wanted.

    Raises:
        RuntimeError: the model cannot be run or differentiated.
    """
    recorder = Recorder()
    handler = _Handler(recorder)

    def replay(call: BatchNormCall) -> Tensor:
        return normalise(call, differentiable(call.x), "batch")

    # The fused kernels of attention have no second derivative; their plain form is a few products.
    with tapped(session.placed.namer, handler, replay) as tap, sdpa_kernel(SDPBackend.MATH):
        tap.start()
        with torch.enable_grad():
            with recorder:
                loss = session.execution.value(session.batches.items[0], 0)
            tape = recorder.finish(loss)
            custom = _behind_custom_functions(loss, handler.nodes)
            _differentiate(loss, tape)
    for step in tape.steps:
        prepare(step)
    fuse(tape)
    found = _with_sites(tape, frozenset(keys), custom)
    parameters = sum(p.numel() * p.element_size() for p in session.placed.module.parameters())
    found.allowance = allowance(tape, parameters, session.placed.device)
    return found


def _differentiate(loss: Tensor, tape: Tape) -> None:
    where = [(step, i) for step in tape.steps for i, e in enumerate(step.edges) if e is not None]
    edges = [step.edges[i] for step, i in where]
    found = torch.autograd.grad(loss, edges, allow_unused=True) if edges else ()  # type: ignore[arg-type]
    for step in tape.steps:
        step.adjoints = [None] * max(len(step.outputs), 1)
    for (step, i), adjoint in zip(where, found, strict=True):
        step.adjoints[i] = adjoint


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
    return "::" in node.name() and not node.name().endswith(("::CopySlices", "::AccumulateGrad"))


def _with_sites(tape: Tape, keys: frozenset[Key], custom: frozenset[Key]) -> Prepared:
    """Follows from which layers each call can be reached, and gives up those that meet an obstacle."""
    reached = [0] * tape.count
    found: list[Site] = []
    blocked: dict[int, str] = {}
    for index, step in enumerate(tape.steps):
        mask = 0
        for number in step.inputs:
            mask |= reached[number]
        if step.obstacle is not None:
            # What a lost tensor depends on is not known: nothing in front of it is trusted.
            lost = (1 << len(found)) - 1 if "another view" in step.obstacle else mask
            blocked.update({i: step.obstacle for i in range(len(found)) if lost >> i & 1})
        norm = step.norm
        if norm is not None and norm.reached and step.key is not None and step.key in keys:
            mask |= 1 << len(found)
            found.append(Site(step.key, index, norm))
        for number in step.outputs:
            reached[number] = mask
    obstacles = {found[i].key: reason for i, reason in blocked.items()}
    obstacles |= dict.fromkeys(
        custom & keys, "an autograd function of the model's own is behind it"
    )
    sites = [site for site in found if site.key not in obstacles]
    return Prepared(tape, last_readers(tape), sites, obstacles, 0)
