"""The model against its twins: one forward pass, BatchNorm's backward replaced.

With G = dL/dz at a layer's output and D = gamma/sigma, what the layer sends back is

    as it is    D (G - Gbar - xh s/m)
    frozen      D G      the scaling without the projection
    identity    G        as if the layer were not there

Activations and the loss are those of the model, since all three go back through one graph: the gradients of
all parameters in front of the replaced layers show the end-to-end effect. Ratios of single layers must
not be multiplied through depth instead: with skip connections the product is off by orders of magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.errors import RunError, UsageError
from bnaudit.records.twins import ParameterEffect, Twin, Upstream
from bnaudit.records.values import Skipped
from bnaudit.tap.call import BatchNormCall, differentiable
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from bnaudit.measure.collect import Collected, Found
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress

KINDS = ("frozen", "identity")

_RUNNING = Skipped("twins replace the backward of batch statistics (--mode batch)")
# The model's own autograd functions raise what they like, and no other metric asks them for the weights.
_OF_A_BACKWARD = (RuntimeError, ValueError, TypeError, AttributeError, AssertionError)

_MADE_UP = Skipped("the inputs are made up")


@dataclass(slots=True)
class _Switch:
    """What the layers send back in the next backward pass.

    Attributes:
        kind: "frozen", "identity", or None for the model as it is.
        label: of the layer that is replaced, None for all.
    """

    kind: str | None = None
    label: str | None = None

    def of(self, label: str) -> str | None:
        return self.kind if self.label in (None, label) else None


class _Switched(torch.autograd.Function):
    """BatchNorm on batch statistics, whose backward asks the switch."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor | None, beta: Tensor | None, *how: Any
    ) -> Tensor:
        eps = how[0]
        if x.dim() > 3 and x.shape[0] == 1:
            # One image with the channels last: PyTorch's backward takes gradients in the wrong order.
            x = x.clone(memory_format=torch.contiguous_format)
        z, mean, invstd = torch.ops.aten.native_batch_norm.default(
            x, gamma, beta, None, None, True, 0.0, eps
        )
        ctx.save_for_backward(x, gamma, mean, invstd)
        ctx.how = how
        return z  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, gamma, mean, invstd = ctx.saved_tensors
        eps, label, switch = ctx.how
        (grad,), kind = grads, switch.of(label)
        if kind == "identity":
            return grad, *[None] * 5
        if kind == "frozen":
            gain = invstd if gamma is None else invstd * gamma
            shape = [-1 if d == 1 else 1 for d in range(grad.dim())]
            return grad * gain.to(grad.dtype).view(shape), *[None] * 5
        wanted = list(ctx.needs_input_grad[:3])
        return *torch.ops.aten.native_batch_norm_backward.default(
            grad.contiguous(), x, gamma, None, None, mean, invstd, True, eps, wanted
        ), *[None] * 3


@dataclass(slots=True)
class _Fronts:
    """Carries out every call with a switched backward, and notes the parameters in front of it.

    Attributes:
        switch: what the calls will send back.
        chosen: label of a layer whose own front is wanted, None for none.
        fronts: identities of the parameters in front of any layer (None) and of the chosen one.
        own: likewise, those of gamma and beta, which a twin cannot have.
        seen: labels of all calls.
        visited: nodes of the graph that were walked.
    """

    switch: _Switch
    chosen: str | None
    fronts: dict[str | None, set[int]] = field(default_factory=dict)
    own: dict[str | None, set[int]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    visited: set[Any] = field(default_factory=set)

    def __call__(self, call: BatchNormCall) -> Tensor:
        label = call.name if call.occurrence == 1 else f"{call.name}#{call.occurrence}"
        self.seen.append(label)
        self._note(None, call, self.visited)
        if label == self.chosen:
            self._note(label, call, set())
        apply: Any = _Switched.apply
        x = differentiable(call.x)
        z: Tensor = apply(x, call.gamma, call.beta, call.eps, label, self.switch)
        return z

    def _note(self, key: str | None, call: BatchNormCall, visited: set[Any]) -> None:
        stack: list[Any] = [call.x.grad_fn]
        front = self.fronts.setdefault(key, set())
        while stack:
            node = stack.pop()
            if node is None or node in visited:
                continue
            visited.add(node)
            if hasattr(node, "variable"):
                front.add(id(node.variable))
            stack += [parent for parent, _ in node.next_functions]
        own = self.own.setdefault(key, set())
        own |= {id(p) for p in (call.gamma, call.beta) if p is not None}


def measure_upstream(
    session: Session, _collected: Collected, options: AuditOptions, progress: Progress
) -> Found:
    """The identity twin of all layers at once, summed over the parameters, on data that somebody gave."""
    if "twins" in options.metrics:
        return {}  # has it
    if options.mode == "running":
        return {"upstream": _RUNNING}
    if session.batches.info.made_up:
        return {"upstream": _MADE_UP}
    try:
        found = _twins(session, (("identity", None),), progress)
    except RunError as error:  # a default metric does not end an audit
        found = Skipped(
            f"the model does not run while its weights are differentiated: {error.message}"
        )
    return {"upstream": found if isinstance(found, Skipped) else _upstream(found)}


def measure_twins(
    session: Session, _collected: Collected, options: AuditOptions, progress: Progress
) -> Found:
    """Both twins of all layers at once and, where a label is given, of that layer alone.

    Args:
        session: the model and its batches; the first batch is used.
        options: the mode, and the label of one layer.
        progress: told of each backward.

    Raises:
        UsageError: no layer has this label.
    """
    if options.mode == "running":
        return {"twins": _RUNNING, "upstream": _RUNNING}
    labels = (None,) if options.twins is None else (None, options.twins)
    found = _twins(session, tuple((kind, label) for label in labels for kind in KINDS), progress)
    return {
        "twins": found,
        "upstream": found if isinstance(found, Skipped) else _upstream(found),
    }


def _upstream(twins: tuple[Twin, ...]) -> Upstream | Skipped:
    whole = next(twin for twin in twins if twin.kind == "identity" and twin.layer is None)
    if not isfinite(whole.grad_norm + whole.twin_grad_norm):
        return Skipped("the gradients are not finite")
    return Upstream(whole.grad_norm, whole.twin_grad_norm, len(whole.parameters))


def _twins(
    session: Session, wanted: tuple[tuple[str, str | None], ...], progress: Progress
) -> tuple[Twin, ...] | Skipped:
    name = session.placed.loaded.parameter_name
    parameters = {name(k): p for k, p in session.placed.module.named_parameters()}
    if not parameters:
        return Skipped("the model has no parameters (a frozen file holds constants)")
    for p in parameters.values():
        p.requires_grad_(p.is_floating_point())
    progress.stage("twins", 1 + len(wanted))
    try:
        return _measured(session, parameters, wanted, progress)
    except _OF_A_BACKWARD as error:
        first = next(iter(str(error).splitlines()), "unknown error")
        return Skipped(f"the weights cannot be differentiated: {first[:160]}")
    finally:
        for p in parameters.values():
            p.requires_grad_(False)


def _measured(
    session: Session,
    parameters: dict[str, nn.Parameter],
    wanted: tuple[tuple[str, str | None], ...],
    progress: Progress,
) -> tuple[Twin, ...] | Skipped:
    switch = _Switch()
    chosen = next((label for _, label in wanted if label is not None), None)
    fronts = _Fronts(switch, chosen)
    with tapped(session.placed.namer, fronts) as tap, torch.enable_grad():
        tap.start()
        loss = session.execution.value(session.batches.items[0], 0)
        if chosen is not None and chosen not in fronts.seen:
            shown = ", ".join(fronts.seen[:8])
            raise UsageError(f"--twins {chosen!r}: no such layer", hint=f"the layers are: {shown}")
        upstream = {n: p for n, p in parameters.items() if id(p) in fronts.fronts.get(None, ())}
        if not upstream:
            return Skipped("no parameter stands in front of a BatchNorm layer")
        as_is = _norms(loss, upstream)
        progress.advance()
        twins = []
        for kind, label in wanted:
            switch.kind, switch.label = kind, label
            norms = _norms(loss, upstream)
            progress.advance()
            front = fronts.fronts[label] - fronts.own[label]
            effects = tuple(
                ParameterEffect(n, as_is[n], norms[n])
                for n, p in upstream.items()
                if id(p) in front
            )
            if effects:
                whole = _together(e.grad_norm for e in effects)
                other = _together(e.twin_grad_norm for e in effects)
                twins.append(Twin(kind, label, 0.0, whole, other, effects))
    return tuple(twins) or Skipped("no parameter stands in front of a BatchNorm layer")


def _together(norms: Iterable[float]) -> float:
    return sqrt(sum(norm**2 for norm in norms))


def _norms(loss: Tensor, parameters: dict[str, nn.Parameter]) -> dict[str, float]:
    """Of the gradients, by name; the graph stays."""
    differentiated = {n: p for n, p in parameters.items() if p.requires_grad}
    gradients = torch.autograd.grad(
        loss, list(differentiated.values()), retain_graph=True, allow_unused=True
    )
    return dict.fromkeys(parameters, 0.0) | {
        n: 0.0 if g is None else float(torch.linalg.vector_norm(g.detach(), dtype=torch.float64))
        for n, g in zip(differentiated, gradients, strict=True)
    }
