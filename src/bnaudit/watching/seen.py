"""One BatchNorm call of a training pass: what it was given, and what backward makes of it.

Theorem 4.1 (`bnaudit.measure.theory`) with s = <xhat, G> and m values per channel:

    |g|^2 = D^2 (|G|^2 - a - b),   a = <1, G>^2/m,   b = (1 + leak) s^2/m.

<1, G> and s are the gradients of beta and gamma, which the node hands on, and sigma is what it has saved: two
norms, of G and g, are all that is left to take, some 5 % of a training step. Where that is not at hand
(no gradient of gamma, saved tensors that hooks have taken, channels last) or too little survives for a
difference in float32, the sums are those of an audit, over x, G and g.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from bnaudit.errors import first_line
from bnaudit.measure.moments import channel_moments
from bnaudit.measure.theory import FirstOrderChannels, first_order
from bnaudit.records.inspection import BatchNormStatics
from bnaudit.records.values import Skipped
from bnaudit.runs.states import state_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bnaudit.measure.moments import Moments
    from bnaudit.records.training import LayerState, Number
    from bnaudit.tap.call import BatchNormCall

NO_GRAD = "no gradient is formed here (reentrant checkpointing, no_grad, or frozen in front)"
NOT_REACHED = "no backward pass reached it"
NOT_CALLED = "no call of torch's batch_norm was seen in this pass"
_NO_INPUT_GRAD = "its input needs no gradient"


_SURVIVES = 1e-2
"""Of |G|^2: two digits of float32's seven may cancel."""
_RANGE = 1e-24, 1e30
"""Of a mean square, as in `bnaudit.measure.moments`: beyond, float32 loses squares."""


@dataclass(slots=True)
class SeenCall:
    """A call, with its input until backward has passed.

    Attributes:
        label: name of the layer, "#2" behind it for its second call.
        x: the input; None once it was measured.
        m: values per channel.
        eps: of the layer.
        own: whether the statistics of the batch normalised it.
        gamma: as it was in the pass, as all vectors here (C,) float64 on the CPU.
        running_mean: after the pass.
        running_var: after the pass.
        invstd: 1/sigma of the batch, (C,), as the node has saved it; None where it is not at hand.
        moments: of the pass; without gradients where none came.
        order: the first order of the pass, once it is known.
        why: why there are no gradients.
    """

    label: str
    x: Tensor | None
    m: int
    eps: float
    own: bool
    gamma: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    invstd: Tensor | None
    moments: Moments | None = None
    order: FirstOrderChannels | None = None
    why: str = NOT_REACHED

    @classmethod
    def of(cls, call: BatchNormCall, z: Tensor) -> SeenCall:
        """What the forward pass knows."""
        return cls(
            label=call.name if call.occurrence == 1 else f"{call.name}#{call.occurrence}",
            x=call.x.detach(),
            m=call.m,
            eps=call.eps,
            own=call.training or call.running_mean is None,
            gamma=_kept(call.gamma),
            running_mean=_kept(call.running_mean),
            running_var=_kept(call.running_var),
            invstd=_invstd(z),
        )

    def measure(
        self,
        big_g: Tensor | None,
        g: Tensor | None,
        affine: tuple[Tensor | None, ...] = (None, None),
    ) -> None:
        """Reduces the input and its gradients; the input is let go.

        Args:
            big_g: at the output; None where backward never came.
            g: at the input.
            affine: the gradients of gamma and beta, of this call alone.
        """
        x, self.x = self.x, None
        if x is None:
            return
        if big_g is not None and g is not None and self._quick(big_g, g, affine):
            self.why = ""
            return
        if big_g is not None:
            self.why = _NO_INPUT_GRAD if g is None else ""
        try:
            with torch.no_grad():
                self.moments, _ = channel_moments(x, big_g, g)
        except RuntimeError as error:  # out of memory, most likely, and no reason to end a training
            self.why = f"not measured: {first_line(error)}"

    def _quick(self, big_g: Tensor, g: Tensor, affine: tuple[Tensor | None, ...]) -> bool:
        """Whether two norms were enough for the first order."""
        along, total = affine
        m = self.m
        if not self.own or self.invstd is None or along is None or total is None:
            return False
        if not big_g.is_contiguous() or not g.is_contiguous():
            return False
        with torch.no_grad():
            squares = [_squares(t) for t in (big_g, g)]
            low, high = (m * bound for bound in _RANGE)
            if not all(bool(((t > low) & (t < high)).all()) for t in squares):
                return False
            invstd, s, sum_g = (t.to("cpu", torch.float64) for t in (self.invstd, along, total))
        grad_out_sq, grad_in_sq = squares
        leak = self.eps * invstd**2
        mean_term, xhat_term = sum_g**2 / m, (1 + leak) * s**2 / m
        rest = grad_out_sq - mean_term - xhat_term
        if not bool((rest > _SURVIVES * grad_out_sq).all()):
            return False
        gain = invstd if self.gamma is None else self.gamma.abs() * invstd
        predicted_sq = gain**2 * rest
        self.order = FirstOrderChannels(
            sigma=1 / invstd,
            leak=leak,
            gain=gain,
            grad_out_sq=grad_out_sq,
            grad_in_sq=grad_in_sq,
            predicted_sq=predicted_sq,
            mean_term=mean_term,
            xhat_term=xhat_term,
            residual=torch.full_like(leak, torch.nan),  # nobody judges it here
        )
        return True

    def state(self) -> LayerState:
        """The layer, with whatever of the pass was seen."""
        state = _stored(self.label, self.eps, self.gamma, self.running_mean, self.running_var)
        if self.order is None and self.moments is not None:
            running = None if self.own else self.running_var
            self.order = first_order(self.moments, self.gamma, self.eps, self.m, running)
        order = self.order
        if order is None:
            return with_reason(state, self.why)
        state = replace(
            state,
            channels=order.gain.numel(),
            batch_gain=_middle(order.gain),
            batch_leak=_middle(order.leak),
        )
        if self.why:
            return _without_gradient(state, self.why)
        energy, whole = order.grad_out_sq.sum(), (order.gain**2 * order.grad_out_sq).sum()
        taken = (order.gain**2 * (order.mean_term + order.xhat_term)).sum()
        return replace(
            state,
            measured=_share(order.grad_in_sq.sum(), energy, root=True),
            predicted=_share(order.predicted_sq.sum(), energy, root=True),
            removed=_share(taken, whole),
            dead_gradient=int((order.grad_out_sq == 0).sum()),
        )


def stored_state(name: str, layer: nn.Module) -> LayerState:
    """A BatchNorm module that was not seen at work."""
    found = (getattr(layer, n, None) for n in ("weight", "running_mean", "running_var"))
    gamma, mean, var = (_kept(t) if isinstance(t, torch.Tensor) else None for t in found)
    eps = getattr(layer, "eps", None)
    return _stored(name, eps if isinstance(eps, float) else None, gamma, mean, var)


def with_reason(state: LayerState, why: str) -> LayerState:
    """A state of which the pass told nothing."""
    reason = Skipped(why)
    return _without_gradient(replace(state, batch_gain=reason, batch_leak=reason), why)


def _without_gradient(state: LayerState, why: str) -> LayerState:
    reason = Skipped(why)
    return replace(state, measured=reason, predicted=reason, removed=reason, dead_gradient=reason)


def _invstd(z: Tensor) -> Tensor | None:
    """What BatchNorm's node keeps of the batch; None where hooks would be asked for it."""
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
        return None
    found = getattr(z.grad_fn, "_saved_result2", None)
    return found.detach() if isinstance(found, torch.Tensor) and found.numel() else None


def _squares(t: Tensor) -> Tensor:
    """|t|^2 by channel, (C,) float64 on the CPU, of a contiguous (N, C, ...)."""
    n, channels = t.shape[:2]
    if t.dim() == 2:
        return t.double().square().sum(0).cpu()
    wide = torch.float64 if t.dtype == torch.float64 else torch.float32
    norms = torch.linalg.vector_norm(t.view(n * channels, -1), dim=1, dtype=wide)
    found: Tensor = norms.double().square().view(n, channels).sum(0).cpu()
    return found


def _kept(t: Tensor | None) -> Tensor | None:
    """A copy: the optimizer and the next pass change the vector itself."""
    return None if t is None else t.detach().to("cpu", torch.float64, copy=True)


def _stored(
    name: str, eps: float | None, gamma: Tensor | None, mean: Tensor | None, var: Tensor | None
) -> LayerState:
    vectors = [None if t is None else tuple(t.tolist()) for t in (gamma, mean, var)]
    first = next((v for v in vectors if v is not None), ())
    return state_of(
        BatchNormStatics(
            name=name,
            origin="",
            channels=len(first),
            eps=eps,
            gamma=vectors[0],
            running_mean=vectors[1],
            running_var=vectors[2],
        )
    )


def _middle(values: Tensor) -> Number:
    """The median of the finite ones."""
    found = values[values.isfinite()].sort().values
    if not found.numel():
        return Skipped("not finite in any channel")
    return float(found[(found.numel() - 1) // 2] + found[found.numel() // 2]) / 2


def _share(part: Tensor, whole: Tensor, *, root: bool = False) -> Number:
    value = float(part) / float(whole) if float(whole) else float("nan")
    if not 0 <= value < float("inf"):
        return Skipped(
            "the gradient is zero" if float(whole) == 0 else "the gradient is not finite"
        )
    return value**0.5 if root else value
