"""Scale invariance of a weight before BatchNorm, on one batch, in float64.

With x_j = U w_j + b_j 1 the input of channel j, g_j = dL/dx_j and c = x - mean x:

    <w_j, dL/dw_j> = <U w_j, g_j> = <x_j, g_j> - b_j <1, g_j> = <c_j, g_j>          (<1,g> = 0)
                   = sigma <xhat, D (G - Gbar - xhat s/m)> = gamma s (1 - |xhat|^2/m)
                   = leak * gamma * dL/dgamma_j                       (s = <xhat,G> = dL/dgamma_j)

An equality, bias or not; a weight used in several places sums over them. The two sides come from
different ends of backward: dL/dw from the feeding operator, dL/dgamma from the BatchNorm. They are
compared relative to |w_j| |dL/dw_j|, since both vanish with eps.

L(kW) for k > 0 is L(W) with eps/k^2 for eps: powers of two, so that kW is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bnaudit.initialisation.lemma import rows_of
from bnaudit.records.initialisation import ScaleTest, Value
from bnaudit.records.values import Skipped
from bnaudit.tap.call import BatchNormCall, plain
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.data.batch import Batch
    from bnaudit.load.weights.model import Layout
    from bnaudit.measure.execution import Execution
    from bnaudit.measure.weight_space.graph import Node
    from bnaudit.tap.naming import Namer

FACTORS = (0.25, 0.5, 2.0, 4.0)
TOLERANCE = 1e-10
_NO_GRADIENT = Skipped("no gradient reaches this weight")
# Of two values per channel xhat is +-1 whatever x is: g is what leak leaves of G, mostly rounding.
_TWO_VALUES = Skipped("two values per channel (m = 2): only leak survives the projection")


@dataclass(slots=True)
class Call:
    """One BatchNorm call of the differentiated run.

    Attributes:
        name: of the layer.
        node: the autograd node of its output; None where nothing before it is differentiated.
        m: values per channel.
        dtype: of its input.
        gamma: a leaf of this call's own, so that its gradient is this call's.
        leak: eps / sigma^2, shape (C,).
        gamma_grad: dL/dgamma of this call, once backward has passed.
    """

    name: str
    node: Node
    m: int
    dtype: torch.dtype
    gamma: Tensor
    leak: Tensor
    gamma_grad: Tensor | None = None


class Recorder:
    """Carries BatchNorm calls out with batch statistics, and keeps what the identity needs."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __call__(self, call: BatchNormCall) -> Tensor:
        """See `bnaudit.tap.dispatch.tapped`."""
        given, channels = call.gamma, call.x.shape[1]
        ones = torch.ones(channels, dtype=call.x.dtype, device=call.x.device)
        gamma = (ones if given is None else given.detach().clone()).requires_grad_()
        beta = torch.zeros_like(ones) if call.beta is None else call.beta.detach()
        z, _, inverse_sigma = torch.ops.aten.native_batch_norm.default(
            call.x, gamma, beta, None, None, True, 0.0, call.eps
        )
        leak = call.eps * inverse_sigma.detach().double() ** 2
        self.calls.append(Call(call.name, z.grad_fn, call.m, call.x.dtype, gamma, leak))
        output: Tensor = z
        return output


@dataclass(frozen=True, slots=True)
class Group:
    """One weight of the report, as the running network has it.

    Attributes:
        parameters: usually one; an ONNX weight that two nodes read is loaded twice.
        gradients: dL/dw of each, None where none arrived.
        calls: the BatchNorm calls that it feeds.
        layout: where the output channels are.
    """

    parameters: Sequence[Tensor]
    gradients: Sequence[Tensor | None]
    calls: Sequence[Call]
    layout: Layout


def scale_test(
    group: Group, execution: Execution, namer: Namer, batch: Batch, loss: float
) -> ScaleTest:
    """Both tests of one weight; four forward passes.

    Args:
        group: the weight.
        execution: the network in float64.
        namer: of its layers.
        batch: what it is run on.
        loss: at the weights as they are.
    """
    changes = tuple(
        (factor, _change(group, execution, namer, batch, loss, factor)) for factor in FACTORS
    )
    numbers = [change for _, change in changes if not isinstance(change, Skipped)]
    largest: Value = (
        max(numbers)
        if numbers
        else next(change for _, change in changes if isinstance(change, Skipped))
    )
    radial, residual = _identity(group)
    return ScaleTest(changes, largest, radial, residual, TOLERANCE)


def _change(
    group: Group, execution: Execution, namer: Namer, batch: Batch, loss: float, factor: float
) -> Value:
    if loss == 0:
        return Skipped("the loss is 0")
    saved = [p.detach().clone() for p in group.parameters]
    try:
        with tapped(namer, plain("batch")) as tap, torch.no_grad():
            for p in group.parameters:
                p.mul_(factor)
            tap.start()
            value = float(execution.value(batch, 0))
    finally:
        with torch.no_grad():
            for p, original in zip(group.parameters, saved, strict=True):
                p.copy_(original)
    change = abs(value - loss) / abs(loss)
    return change if change < float("inf") else Skipped(f"the loss at {factor:g} W is not finite")


def _identity(group: Group) -> tuple[Value, Value]:
    """(radial, residual) of `ScaleTest`."""
    if any(c.m == 2 for c in group.calls):
        return _TWO_VALUES, _TWO_VALUES
    narrow = next((c.dtype for c in group.calls if c.dtype != torch.float64), None)
    if narrow is not None:
        reason = Skipped(f"the network casts to {str(narrow).removeprefix('torch.')} inside")
        return reason, reason
    gradients = [g for g in group.gradients if g is not None]
    if not gradients or any(c.gamma_grad is None for c in group.calls):
        return _NO_GRADIENT, _NO_GRADIENT
    weight = rows_of(group.parameters[0].detach().cpu().numpy(), group.layout)
    gradient = rows_of(torch.stack(gradients).sum(0).cpu().numpy(), group.layout)
    left = torch.from_numpy((weight * gradient).sum(1))
    right = torch.stack(
        [
            c.leak.cpu() * c.gamma.detach().cpu() * c.gamma_grad.cpu()
            for c in group.calls
            if c.gamma_grad is not None
        ]
    ).sum(0)
    if left.shape != right.shape:
        reason = Skipped("its rows are not the channels of the BatchNorm")
        return reason, reason
    scale = torch.from_numpy((weight**2).sum(1) * (gradient**2).sum(1)).sqrt()
    used = scale > 0
    if not bool(used.any()):
        return _NO_GRADIENT, _NO_GRADIENT
    radial, residual = left.abs()[used] / scale[used], (left - right).abs()[used] / scale[used]
    return float(radial.max()), float(residual.max())
