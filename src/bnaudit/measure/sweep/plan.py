"""What is wanted of the sweep, how many layers are carried at once, and whether it pays at all."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import TYPE_CHECKING

from bnaudit.data.room import free_memory
from bnaudit.measure.sweep.play import PER_LAYER, Site

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from bnaudit.measure.sweep.tape import Shape, Step, Tape


class Detail(IntEnum):
    """What a layer's record holds; each step costs about as much again as all before it.

    Attributes:
        CURVATURE: g'Hx g and its two parts.
        BOUND: G'HzG and the bound with it besides.
        CHANNELS: all of it by channel.
    """

    CURVATURE = 0
    BOUND = 1
    CHANNELS = 2


@dataclass(slots=True)
class Prepared:
    """A tape ready to be swept.

    Attributes:
        tape: with every step prepared.
        dead: per step the values that nobody reads after it.
        sites: the layers that can be swept, in execution order.
        obstacles: why the others cannot.
        allowance: bytes that stacks may take where the user set no limit.
        slowness: of this machine against the one that the estimates were fitted to.
    """

    tape: Tape
    dead: list[list[int]]
    sites: list[Site]
    obstacles: dict[Key, str]
    allowance: int
    slowness: float = 1.0


Key = tuple[str, int]

CACHED = 16 * 10**6
"""Bytes of a stack: above 32 MB glibc maps every block anew, and the page faults cost more than the
arithmetic; below, a stack also stays in the last-level cache between two calls."""


_LEAST = 128 * 10**6
"""Bytes for the stacks of even the smallest model."""


WIDTH = {Detail.CURVATURE: 1, Detail.BOUND: 3, Detail.CHANNELS: PER_LAYER}
"""Directions that a layer gives birth to."""


def size_in_bytes(shape: Shape) -> int:
    """Of one tensor of this shape."""
    count: int = shape.dtype.itemsize
    for d in shape.size:
        count *= d
    return count


def chunks(prepared: Prepared, memory: int | None, detail: Detail) -> list[Sequence[Site]]:
    """The layers in execution order, in groups that are carried together.

    Args:
        prepared: the tape.
        memory: bytes that a group's stacks may take; None for what `Prepared` allows.
        detail: what is wanted of a layer.
    """
    width, back = WIDTH[detail], detail is Detail.CHANNELS
    limit = prepared.allowance if memory is None else memory
    on_cpu = any(site.norm.xhat.device.type == "cpu" for site in prepared.sites)
    held, largest = _behind(prepared.tape, prepared.dead, back=back)
    groups: list[Sequence[Site]] = []
    group: list[Site] = []
    taken = widest = 0
    for site in prepared.sites:
        cost, wide = width * held[site.index], width * largest[site.index]
        if group and (taken + cost > limit or (on_cpu and widest + wide > CACHED)):
            groups.append(group)
            group, taken, widest = [], 0, 0
        group.append(site)
        taken, widest = taken + cost, widest + wide
    return [*groups, group] if group else groups


def _behind(
    tape: Tape, dead: Sequence[Sequence[int]], *, back: bool
) -> tuple[list[int], list[int]]:
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
        saved += step.saved if back else 0
    return held, largest


def sweep_pays(prepared: Prepared, detail: Detail) -> bool:
    """Whether the sweep is estimated to take less time than double backward.

    It nearly always does: a stack of directions passes an operator in one call, by arithmetic of its own
    and not through autograd's graph of the backward. What costs it dear are operators without a
    rule, which take direction by direction.

    Args:
        prepared: the tape.
        detail: what is wanted of a layer.
    """
    steps, sites = prepared.tape.steps, prepared.sites
    if not sites:
        return False
    before = [0] * len(steps)
    for site in sites:
        before[site.index] = 1
    layers = list(accumulate(before))
    behind = sum(layers)
    work = sum(n * step.work for n, step in zip(layers, steps, strict=True))
    touched = sum(n * _touched(step) for n, step in zip(layers, steps, strict=True))
    back = detail is Detail.CHANNELS
    sweep = (2 if back else 1) * _CALL * len(steps) + sum(costs(prepared, detail))
    products = 1 if detail is Detail.CURVATURE else 2
    double = _CALL * len(steps) + products * (
        _NODE * behind + work / _DOUBLE_FLOPS + touched / _DOUBLE_BYTES
    )
    return sweep < double


def costs(prepared: Prepared, detail: Detail) -> list[float]:
    """Estimated seconds of each site: all that lies behind it, once for each of its directions.

    Args:
        prepared: the tape.
        detail: what is wanted of a layer.
    """
    ways = WIDTH[detail] * (2 if detail is Detail.CHANNELS else 1)
    behind, tail = 0.0, [0.0] * len(prepared.tape.steps)
    for index in range(len(tail) - 1, -1, -1):
        behind += _cost(prepared.tape.steps[index])
        tail[index] = behind
    return [ways * tail[site.index] for site in prepared.sites]


def expected(prepared: Prepared, detail: Detail) -> tuple[float, dict[Key, float]]:
    """Seconds of all sites on this machine, and each one's share in mean ones.

    Args:
        prepared: the tape.
        detail: what is wanted of a layer.
    """
    each = costs(prepared, detail)
    mean = sum(each) / max(len(each), 1)
    shares = {site.key: cost / mean for site, cost in zip(prepared.sites, each, strict=True)}
    return prepared.slowness * sum(each), shares


def pass_seconds(tape: Tape) -> float:
    """What forward and backward of these calls take on the machine that the constants were fitted to."""
    steps = tape.steps
    work = sum(step.work for step in steps) / _FLOPS
    touched = sum(map(_touched, steps)) / _BYTES
    return 1.4 * work + 4.1 * touched + 2.1e-4 * len(steps)


def _cost(step: Step) -> float:
    if step.local:  # autograd's graph of its backward, as in double backward
        alone = step.work / _DOUBLE_FLOPS + _touched(step) / _DOUBLE_BYTES
        return alone + (_SINGLE if step.singly else 0.0)
    return step.work / _FLOPS + _touched(step) / _BYTES


# Fitted to the processor time of 78 audits on one core, from a perceptron with two layers to DenseNet-121,
# with and without the bound: four of five estimates of the sweep were within 25 %, every choice was right.
# By channel, which was not fitted, 26 of 33 choices were right, the others cost at most a quarter more.
_FLOPS, _BYTES = 2e11, 7e9  # a second


_CALL, _SINGLE = 1.1e-4, 6e-5  # seconds: a call of whatever stack, a direction that goes alone


_DOUBLE_FLOPS, _DOUBLE_BYTES = 3e10, 1.8e9  # a second


_NODE = 1.8e-5  # seconds


def _touched(step: Step) -> int:
    return sum(map(size_in_bytes, step.out_shapes))


def last_readers(tape: Tape) -> list[list[int]]:
    """Per step the values that nobody reads after it."""
    last: dict[int, int] = {}
    for i, step in enumerate(tape.steps):
        last |= dict.fromkeys((*step.inputs, *step.outputs), i)
    dead: list[list[int]] = [[] for _ in tape.steps]
    for number, i in last.items():
        if number != tape.loss:
            dead[i].append(number)
    return dead


def allowance(tape: Tape, parameters: int, device: torch.device) -> int:
    """Bytes for the stacks with which the sweep stays near what a training step takes.

    A step keeps the activations about three times (what BatchNorm, the rectifier and the convolution
    read, and the gradients that are on the way) and a gradient of every parameter. The tape itself
    holds them twice, and the allocator's holes take about as much again as the stacks.

    Args:
        tape: prepared.
        parameters: bytes of the model's parameters.
        device: which memory.
    """
    activations = sum(step.saved for step in tape.steps)
    wanted = max(_LEAST, 2 * activations + parameters)
    return min(wanted, free_memory(device) // 2)


def give_back(device: torch.device) -> None:
    """Lets the C library return what it has freed: a chunk's stacks fragment the heap of the next."""
    if device.type == "cpu" and sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
        if trim is not None:
            trim(0)
