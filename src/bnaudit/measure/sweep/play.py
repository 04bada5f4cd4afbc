"""The sweep itself: a chunk of layers' directions over the tape, forwards alone or there and back.

Forwards alone, the directions of `Pairs` are born behind a layer's BatchNorm, and each curved operator adds
its own second derivative along them, see `stack`; a tangent is let go of as soon as its last reader
has passed.

There and back, two directions are born, Jg and G. They travel to the loss, whose own tangent is the
directional derivative of the loss: <G, Jg> = |g|^2 and |G|^2, measured in forward mode. Autograd records the
way; its backward, in which every curved operator adds its own curvature along the tangent that went through,
returns Hz(Jg) and Hz G to the place of birth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from bnaudit.measure.sweep.closed_form import (
    Norm,
    project,
    project_and_bend,
    stack_like,
    write_projected,
)
from bnaudit.measure.sweep.norm import Birth, carry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from bnaudit.measure.sweep.stack import Pairs
    from bnaudit.measure.sweep.tape import Step, Tape

    Stacks = list[Tensor | None]


def walk_tape(
    tape: Tape,
    dead: Sequence[Sequence[int]],
    first: int,
    moved: Callable[[int, Step, Stacks], Stacks],
) -> Tensor | None:
    """Hands the stacks from call to call, and lets go of each behind its last reader.

    Args:
        tape: prepared.
        dead: of `last_readers`.
        first: index of the step to begin with.
        moved: (index, step, stacks at its inputs) -> stacks at its outputs.

    Returns:
        The stack at the loss, or None where nothing arrives.
    """
    stacks: dict[int, Tensor] = {}
    for index in range(first, len(tape.steps)):
        step = tape.steps[index]
        # Nothing but `stacks` may hold a stack here, or the dead ones would live until the next call.
        found = moved(index, step, [stacks.get(number) for number in step.inputs])
        stacks.update({n: t for n, t in zip(step.outputs, found, strict=False) if t is not None})
        del found
        for number in dead[index]:
            stacks.pop(number, None)
    return None if tape.loss is None else stacks.get(tape.loss)


PER_LAYER = 2
"""Directions that a layer gives birth to."""


@dataclass(frozen=True, slots=True)
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
    births = {
        site.index: Birth(PER_LAYER * i, partial(returned, site)) for i, site in enumerate(sites)
    }
    anchor = torch.zeros((), requires_grad=True)

    def moved(index: int, step: Step, tangents: Stacks) -> Stacks:
        if step.norm is not None:
            return [carry(anchor, tangents[0], step, step.norm, births.get(index))]
        if step.apply is None or all(t is None for t in tangents):
            return []
        return step.apply(tangents)

    with torch.enable_grad():
        slopes = walk_tape(tape, dead, sites[0].index, moved)
    if slopes is None:
        return torch.zeros(PER_LAYER * len(sites))
    with torch.enable_grad():
        nothing = (slopes * 0).sum()
    nothing.backward()
    along = slopes.detach().flatten()
    return torch.nn.functional.pad(along, (0, PER_LAYER * len(sites) - along.shape[0]))


@dataclass(frozen=True, slots=True)
class Carried:
    """What some layers' directions met on their way.

    Attributes:
        slopes: (layers, width), the loss's derivative along each direction.
        forms: (layers, pairs), float64, d2L along each pair.
    """

    slopes: Tensor
    forms: Tensor


@torch.no_grad()
def carry_forwards(
    tape: Tape, dead: Sequence[Sequence[int]], sites: Sequence[Site], pairs: Pairs
) -> Carried:
    """Carries the directions of some layers to the loss.

    Args:
        tape: prepared.
        dead: of `last_readers`.
        sites: layers in execution order.
        pairs: the directions and which of their products are wanted.
    """
    births = {site.index: pairs.width * i for i, site in enumerate(sites)}
    device = sites[0].norm.xhat.device
    # mps has no float64; elsewhere the sums stay on the device, which then is not waited for.
    keeper = torch.device("cpu") if device.type == "mps" else device
    forms = torch.zeros(len(sites), len(pairs.pairs), dtype=torch.float64, device=keeper)

    def moved(index: int, step: Step, tangents: Stacks) -> Stacks:
        if step.norm is not None:
            return [_through(step, step.norm, tangents[0], births.get(index), pairs, forms)]
        if step.apply is None or all(t is None for t in tangents):
            return []
        if step.form is not None and (len(tangents) == 1 or step.local or None not in tangents):
            _add(forms, step.form(tangents, pairs))
        return step.apply(tangents)

    slopes = walk_tape(tape, dead, sites[0].index, moved)
    along = torch.zeros(len(sites) * pairs.width, dtype=torch.float64)
    if slopes is not None:
        along[: slopes.shape[0]] = slopes.flatten().cpu().double()
    return Carried(along.unflatten(0, (-1, pairs.width)), forms.cpu())


def _add(forms: Tensor, found: Tensor) -> None:
    forms[: found.shape[0]] += found.to(forms.device)


def _through(
    step: Step, norm: Norm, t: Tensor | None, birth: int | None, pairs: Pairs, forms: Tensor
) -> Tensor | None:
    """A stack through a BatchNorm, and the layer's own directions where it is measured."""
    if t is None and birth is None:
        return None
    count = 0 if t is None else t.shape[0]
    whole = stack_like(t, norm, count if birth is None else birth + pairs.width)
    if t is not None:
        _add(forms, project_and_bend(t, norm, whole[:count], step.fused, pairs))
    if birth is not None:
        whole[count:birth].zero_()
        big_g = norm.grad[None]
        write_projected(project(big_g, norm), norm, whole[birth : birth + 1])
        if pairs.width == 3:
            whole[birth + 2].copy_(norm.grad)
            shape = [-1 if d == 1 else 1 for d in range(norm.grad.dim())]
            torch.mul(norm.grad, norm.scale.square().view(shape), out=whole[birth + 1])
        if step.fused is not None:
            whole[birth:].mul_(step.fused.to(whole.dtype))
    return whole
