"""The sweep itself: a chunk of layers' directions forward over the tape, and what comes back.

At a layer two directions are born behind its BatchNorm, Jg and G. They travel to the loss, whose
own tangent is the directional derivative of the loss: <G, Jg> = |g|^2 and |G|^2, measured in forward
mode. Autograd records the way; its backward, in which every curved operator adds its own curvature
along the tangent that went through, returns Hz(Jg) and Hz G to the place of birth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from bnaudit.measure.sweep.norm import Norm, project

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from bnaudit.measure.sweep.tape import Tape

PER_LAYER = 2  # directions


@dataclass(slots=True)
class Site:
    """A layer of the sweep.

    Attributes:
        key: of its call.
        index: of its step on the tape.
        norm: its closed form.
    """

    key: tuple[str, int]
    index: int
    norm: Norm


@dataclass(frozen=True, slots=True)
class Born:
    """What came back to a layer.

    Attributes:
        g: dL/dx.
        jg: J g.
        hz_jg, hz_big_g: Hessian-vector products at the output.
    """

    g: Tensor
    jg: Tensor
    hz_jg: Tensor
    hz_big_g: Tensor


class _Birth(torch.autograd.Function):
    """Appends a layer's two directions to the stack at its output; receives what comes back."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, older: Tensor | None, row: int, site: Site, returned: Any
    ) -> Tensor:
        big_g = site.norm.grad
        assert big_g is not None
        g = project(big_g[None], site.norm)
        jg = project(g, site.norm)
        ctx.count = 0 if older is None else older.shape[0]
        ctx.row, ctx.site, ctx.returned = row, site, returned
        parts = [jg, big_g[None]]
        if row > ctx.count:
            parts.insert(0, jg.new_zeros(row - ctx.count, *jg.shape[1:]))
        return torch.cat(parts if older is None else [older, *parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        ctx.returned(ctx.site, grad[ctx.row], grad[ctx.row + 1])
        older = grad[: ctx.count] if ctx.count else None
        return None, older, None, None, None


def last_readers(tape: Tape) -> list[list[int]]:
    """Per step the values that nobody reads after it."""
    last: dict[int, int] = {}
    for i, step in enumerate(tape.steps):
        for number in (*step.inputs, *step.outputs):
            last[number] = i
    dead: list[list[int]] = [[] for _ in tape.steps]
    for number, i in last.items():
        if number != tape.loss:
            dead[i].append(number)
    return dead


def play(
    tape: Tape,
    dead: Sequence[Sequence[int]],
    sites: Sequence[Site],
    returned: Callable[[Site, Tensor, Tensor], None],
) -> Tensor:
    """Carries the directions of some layers to the loss and back.

    Args:
        tape: prepared.
        dead: of `last_readers`.
        sites: layers in execution order.
        returned: told (layer, Hz(Jg), Hz G) of each.

    Returns:
        (K,): the derivative of the loss along each direction, two a layer.
    """
    births = {site.index: (PER_LAYER * i, site) for i, site in enumerate(sites)}
    anchor = torch.zeros((), requires_grad=True)
    stacks: dict[int, Tensor] = {}
    with torch.enable_grad():
        for index in range(sites[0].index, len(tape.steps)):
            step = tape.steps[index]
            tangents = [stacks.get(number) for number in step.inputs]
            moves = step.apply is not None and any(t is not None for t in tangents)
            outputs = step.apply(tangents) if moves and step.apply is not None else []
            if index in births:
                row, site = births[index]
                older = outputs[0] if outputs else None
                outputs = [_Birth.apply(anchor, older, row, site, returned)]
            for number, t in zip(step.outputs, outputs, strict=False):
                if t is not None:
                    stacks[number] = t
            del tangents, outputs
            for number in dead[index]:
                stacks.pop(number, None)
    assert tape.loss is not None
    slopes = stacks.pop(tape.loss)
    stacks.clear()
    slopes.backward(torch.zeros_like(slopes))
    found = slopes.detach().flatten()
    missing = PER_LAYER * len(sites) - found.shape[0]
    return torch.nn.functional.pad(found, (0, missing))
