"""The way over a tape that both sweeps take."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

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
