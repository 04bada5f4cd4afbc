"""The gradient-norm reduction measured without any BatchNorm backward.

With g = dL/dx at the layer's private input and G = dL/dz at its private output, the directional
derivatives of the loss along g/|g| and G/|G| are |g| and |G|. Both are taken as central differences

    (L(x + h g/|g|) - L(x - h g/|g|)) / 2h,        h = STEP |x|        (z and G likewise)

in float64, from forward passes alone; backward gives only the directions. The quotient of the two
is |g|/|G|. Float32 slopes would be off by as much as 12 %. A ReLU that changes side inside the
step leaves an error of order 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.errors import RunError
from bnaudit.measure.collect import measurable
from bnaudit.measure.moments import channel_moments
from bnaudit.measure.session import in_float64
from bnaudit.measure.theory import first_order
from bnaudit.records.layer import FiniteDifference
from bnaudit.records.values import Skipped
from bnaudit.tap.call import BatchNormCall, differentiable, normalise
from bnaudit.tap.dispatch import tapped
from bnaudit.tap.guard import untouched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.data.batch import Batch
    from bnaudit.measure.collect import Collected
    from bnaudit.measure.execution import Execution
    from bnaudit.measure.session import Session
    from bnaudit.progress import Progress
    from bnaudit.tap.naming import Namer

Key = tuple[str, int]


STEP = 1e-6


_AT_ONCE = 8  # layers whose directions are held in memory together


@dataclass(slots=True)
class _Direction:
    """Unit directions and steps at one layer, and what the theorem predicts there."""

    at_input: Tensor
    at_output: Tensor
    input_step: float
    output_step: float
    predicted: float


@dataclass(slots=True)
class _Capture:
    """Keeps g and G of chosen layers in one float64 backward."""

    mode: str
    keys: set[Key]
    found: dict[Key, _Direction | Skipped] = field(default_factory=dict)

    def __call__(self, call: BatchNormCall) -> Tensor:
        x = differentiable(call.x)
        z = normalise(call, x, self.mode)
        if call.key not in self.keys:
            return z
        if x.dtype != torch.float64:
            self.found[call.key] = Skipped(f"the model casts to {x.dtype} inside")
            return z
        if z.grad_fn is None:
            return z
        output_norm, values = float(torch.linalg.vector_norm(z.detach())), x.detach()

        def hook(grad_in: Sequence[Tensor | None], grad_out: Sequence[Tensor | None]) -> None:
            g, big_g = grad_in[0], grad_out[0]
            if g is not None and big_g is not None:
                self.found[call.key] = _direction(call, values, g, big_g, output_norm, self.mode)

        node: Any = z.grad_fn
        node.register_hook(hook)
        return z


def _direction(
    call: BatchNormCall, x: Tensor, g: Tensor, big_g: Tensor, output_norm: float, mode: str
) -> _Direction | Skipped:
    g_norm, big_g_norm = (float(torch.linalg.vector_norm(t)) for t in (g, big_g))
    if g_norm == 0 or big_g_norm == 0:
        return Skipped("the gradient at this layer is zero")
    gamma = None if call.gamma is None else call.gamma.detach().cpu()
    running = None if mode == "batch" or call.running_var is None else call.running_var.cpu()
    channels = first_order(channel_moments(x, big_g, g)[0], gamma, call.eps, call.m, running)
    return _Direction(
        at_input=g / g_norm,
        at_output=big_g / big_g_norm,
        input_step=STEP * float(torch.linalg.vector_norm(x)) or STEP,
        output_step=STEP * output_norm or STEP,
        predicted=float(channels.predicted_sq.sum().sqrt()) / big_g_norm,
    )


@dataclass(slots=True)
class _Push:
    """Shifts the private input or output of one call by `step` along a direction."""

    mode: str
    key: Key
    at_input: bool
    shift: Tensor

    def __call__(self, call: BatchNormCall) -> Tensor:
        if call.key != self.key:
            return normalise(call, call.x, self.mode)
        if self.at_input:
            return normalise(call, call.x + self.shift, self.mode)
        return normalise(call, call.x, self.mode) + self.shift


def spread_over_depth(keys: Sequence[Key], count: int) -> list[Key]:
    """`count` of the keys, evenly spaced, first and last among them; all for -1."""
    if count < 0 or count >= len(keys):
        return list(keys)
    if count == 1:
        return [keys[len(keys) // 2]]
    return [keys[round(i * (len(keys) - 1) / (count - 1))] for i in range(count)]


def finite_differences(
    execution: Execution,
    namer: Namer,
    batch: Batch,
    keys: Sequence[Key],
    mode: str,
    progress: Progress,
) -> dict[Key, FiniteDifference | Skipped]:
    """Measures the reduction at some layers on one batch; four forward passes a layer.

    Args:
        execution: the model in float64.
        namer: of its layers.
        batch: the first sample batch.
        keys: the layers.
        mode: "batch" or "running".
        progress: told of each layer.
    """
    progress.stage("finite differences", len(keys))
    results: dict[Key, FiniteDifference | Skipped] = {}
    for i in range(0, len(keys), _AT_ONCE):
        capture = _Capture(mode, set(keys[i : i + _AT_ONCE]))
        with tapped(namer, capture) as tap, torch.enable_grad():
            tap.start()
            loss = execution.value(batch, 0)
            if not loss.requires_grad:
                raise RunError("the model cannot be differentiated in float64")
            loss.backward()
        for key in keys[i : i + _AT_ONCE]:
            direction = capture.found.get(key, Skipped("no gradient reaches this layer"))
            results[key] = (
                direction
                if isinstance(direction, Skipped)
                else _quotient(execution, namer, batch, key, direction, mode)
            )
            progress.advance()
    return results


def _quotient(
    execution: Execution,
    namer: Namer,
    batch: Batch,
    key: Key,
    direction: _Direction,
    mode: str,
) -> FiniteDifference | Skipped:
    def slope(at_input: bool, along: Tensor, step: float) -> float:
        values = []
        for sign in (1, -1):
            push = _Push(mode, key, at_input, (sign * step) * along)
            with tapped(namer, push) as tap, torch.no_grad():
                tap.start()
                values.append(execution.value(batch, 0))
        return float(values[0].double() - values[1].double()) / (2 * step)

    inner = slope(True, direction.at_input, direction.input_step)
    outer = slope(False, direction.at_output, direction.output_step)
    if outer == 0:
        return Skipped("the loss does not move within the precision of float64")
    measured = abs(inner / outer)
    error = abs(measured - direction.predicted) / direction.predicted
    return FiniteDifference(measured, direction.predicted, error, STEP)


def verify_gradients(
    session: Session, collected: Collected, mode: str, count: int, progress: Progress
) -> dict[Key, FiniteDifference | Skipped]:
    """Finite differences at `count` layers spread over the depth, on the first batch.

    Args:
        session: the model and its batches.
        collected: the first-order pass; layers without a ratio are not candidates.
        mode: "batch" or "running".
        count: how many layers; -1 means all, 0 none.
        progress: told of each layer.
    """
    keys = measurable(collected, mode)
    if count == 0 or not keys:
        return {}
    chosen = spread_over_depth(keys, count)
    try:
        execution, namer = in_float64(session)
        with untouched(execution.module):
            return finite_differences(
                execution, namer, session.batches.items[0], chosen, mode, progress
            )
    except RunError as error:
        # The model ran as it is; that it does not in float64 is no reason to give up on the audit.
        return dict.fromkeys(chosen, Skipped(f"no run in float64: {error.message}"))
