"""The sweep itself: a chunk of layers' directions forward over the tape, and what comes back.

At a layer two directions are born behind its BatchNorm, Jg and G. They travel to the loss, whose
own tangent is the directional derivative of the loss: <G, Jg> = |g|^2 and |G|^2, measured in forward
mode. Autograd records the way; its backward, in which every curved operator adds its own curvature
along the tangent that went through, returns Hz(Jg) and Hz G to the place of birth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from bnaudit.measure.sweep.norm import Birth, Norm, carry
from bnaudit.measure.sweep.walk import walk_tape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from bnaudit.measure.sweep.tape import Step, Tape

    Stacks = list[Tensor | None]

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
        return _moved(step, tangents, anchor, births.get(index))

    with torch.enable_grad():
        slopes = walk_tape(tape, dead, sites[0].index, moved)
    if slopes is None:
        return torch.zeros(PER_LAYER * len(sites))
    slopes.backward(torch.zeros_like(slopes))
    along = slopes.detach().flatten()
    return torch.nn.functional.pad(along, (0, PER_LAYER * len(sites) - along.shape[0]))


def _moved(step: Step, tangents: Stacks, anchor: Tensor, birth: Birth | None) -> Stacks:
    if step.norm is not None:
        return [carry(anchor, tangents[0], step, step.norm, birth)]
    if step.apply is None or all(t is None for t in tangents):
        return []
    return step.apply(tangents)
