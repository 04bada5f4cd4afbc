"""How many layers are carried at once, and whether the sweep pays at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.measure.sweep.play import PER_LAYER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.measure.sweep.play import Site
    from bnaudit.measure.sweep.run import Prepared
    from bnaudit.measure.sweep.tape import Shape, Step, Tape

CACHED = 24 * 10**6
"""Bytes of a stack: above 32 MB glibc maps every block anew, and the page faults cost more than the
arithmetic; below, a stack also stays in the last-level cache between two calls."""


def size_in_bytes(shape: Shape) -> int:
    """Of one tensor of this shape."""
    count: int = shape.dtype.itemsize
    for d in shape.size:
        count *= d
    return count


def chunks(prepared: Prepared, memory: int | None) -> list[Sequence[Site]]:
    """The layers in execution order, in groups that are carried together.

    Args:
        prepared: the tape.
        memory: bytes that a group's stacks may take; None for what `Prepared` allows.
    """
    limit = prepared.allowance if memory is None else memory
    held, largest = _behind(prepared.tape, prepared.dead)
    groups: list[Sequence[Site]] = []
    group: list[Site] = []
    taken = widest = 0
    for site in prepared.sites:
        cost, width = PER_LAYER * held[site.index], PER_LAYER * largest[site.index]
        if group and (taken + cost > limit or widest + width > CACHED):
            groups.append(group)
            group, taken, widest = [], 0, 0
        group.append(site)
        taken, widest = taken + cost, widest + width
    return [*groups, group] if group else groups


def _behind(tape: Tape, dead: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Per step: bytes that a direction born there takes at most, and its largest stack."""
    live, alive = 0, {}
    peaks: list[int] = []
    for index, step in enumerate(tape.steps):
        for number, shape in zip(step.outputs, step.out_shapes, strict=True):
            alive[number] = size_in_bytes(shape)
            live += alive[number]
        peaks.append(live)
        for number in dead[index]:
            live -= alive.pop(number, 0)
    held, largest = [0] * len(peaks), [0] * len(peaks)
    saved = peak = wide = 0
    for index in range(len(peaks) - 1, -1, -1):
        step = tape.steps[index]
        peak = max(peak, peaks[index])
        wide = max([wide, *map(size_in_bytes, step.out_shapes)])
        held[index], largest[index] = saved + peak, wide
        saved += step.saved
    return held, largest


def sweep_pays(prepared: Prepared) -> bool:  # noqa: ARG001
    """Whether the sweep takes less time than double backward."""
    return True


def activations(steps: Sequence[Step]) -> int:
    """About the bytes that a training step keeps of these calls for its backward."""
    return sum(step.saved for step in steps)
