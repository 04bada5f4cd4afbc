"""The sweep without a way back: curvature summed on the way to the loss.

At a layer some directions are born behind its BatchNorm. Each curved operator adds its own second
derivative along them, see `form`; a tangent is let go of as soon as its last reader has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bnaudit.measure.sweep.bent_norm import project_and_bend
from bnaudit.measure.sweep.norm import project, stack_like, write_projected
from bnaudit.measure.sweep.walk import walk_tape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.measure.sweep.form import Pairs
    from bnaudit.measure.sweep.norm import Norm
    from bnaudit.measure.sweep.play import Site
    from bnaudit.measure.sweep.tape import Step, Tape

    Stacks = list[Tensor | None]


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
        return _moved(step, tangents, births.get(index), pairs, forms)

    slopes = walk_tape(tape, dead, sites[0].index, moved)
    along = torch.zeros(len(sites) * pairs.width, dtype=torch.float64)
    if slopes is not None:
        along[: slopes.shape[0]] = slopes.flatten().cpu().double()
    return Carried(along.unflatten(0, (-1, pairs.width)), forms.cpu())


def _moved(step: Step, tangents: Stacks, birth: int | None, pairs: Pairs, forms: Tensor) -> Stacks:
    if step.norm is not None:
        return [_through(step, step.norm, tangents[0], birth, pairs, forms)]
    if step.apply is None or all(t is None for t in tangents):
        return []
    if step.form is not None and (len(tangents) == 1 or step.singly or None not in tangents):
        _add(forms, step.form(tangents, pairs))
    return step.apply(tangents)


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
