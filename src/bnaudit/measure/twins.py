"""The model against its twins: equal forward values, BatchNorm's backward replaced.

With z the layer's output on batch statistics, D = gamma/sigma and sg(.) the value without gradient:

    frozen     z' = sg(z) + sg(D) (x - sg(x))      backward D G: the scaling without the projection
    identity   z' = sg(z) + (x - sg(x))            backward G: as if the layer were not there

x - sg(x) is exactly zero, so every activation and the loss keep their values, and the gradients of all
parameters in front of the replaced layers show the end-to-end effect. Ratios of single layers must
not be multiplied through depth instead: with skip connections the product is off by orders of magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from bnaudit.errors import UsageError
from bnaudit.records.twins import ParameterEffect, Twin
from bnaudit.records.values import Skipped
from bnaudit.tap.call import BatchNormCall, differentiable, walk
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bnaudit.measure.collect import Collected, Found
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress

KINDS = ("frozen", "identity")

_FORWARD_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


@dataclass(slots=True)
class _Replace:
    """Carries out the chosen calls as a twin, and notes which parameters stand in front of them.

    Attributes:
        kind: "frozen", "identity", or None for the model as it is.
        label: of the layer to replace, None for all.
        upstream: identities of the parameters in front of a chosen layer.
        own: identities of the chosen layers' gamma and beta, which a twin cannot have.
        seen: labels of all calls.
    """

    kind: str | None
    label: str | None
    upstream: set[int] = field(default_factory=set)
    own: set[int] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)

    def __call__(self, call: BatchNormCall) -> Tensor:
        label = call.name if call.occurrence == 1 else f"{call.name}#{call.occurrence}"
        self.seen.append(label)
        x = differentiable(call.x)
        # gamma and beta receive their gradients too.
        z: Tensor = torch.ops.aten.native_batch_norm.default(
            x, call.gamma, call.beta, None, None, True, 0.0, call.eps
        )[0]
        if self.label is not None and label != self.label:
            return z
        # The parameters that the graph behind x ends in.
        self.upstream |= {id(node.variable) for node in walk(call.x) if hasattr(node, "variable")}
        self.own |= {id(p) for p in (call.gamma, call.beta) if p is not None}
        return z if self.kind is None else _twin(self.kind, call, x, z)


def _twin(kind: str, call: BatchNormCall, x: Tensor, z: Tensor) -> Tensor:
    zero = x - x.detach()
    if kind == "identity":
        return z.detach() + zero
    dims = [d for d in range(x.dim()) if d != 1]
    shape = [-1 if d == 1 else 1 for d in range(x.dim())]
    var = x.detach().double().var(dims, correction=0)
    gain = (var + call.eps).rsqrt()
    if call.gamma is not None:
        gain = gain * call.gamma.detach()
    return z.detach() + gain.to(x.dtype).view(shape) * zero


def measure_twins(
    session: Session, _collected: Collected, options: AuditOptions, progress: Progress
) -> Found:
    """Both twins of all layers at once and, where a label is given, of that layer alone.

    Args:
        session: the model and its batches; the first batch is used.
        options: the mode, and the label of one layer.
        progress: told of each forward and backward.

    Raises:
        UsageError: no layer has this label.
    """
    if options.mode == "running":
        reason = "twins replace the backward of batch statistics (--mode batch)"
        return {"twins": Skipped(reason)}
    return {"twins": _twins(session, options.twins, progress)}


def _twins(session: Session, label: str | None, progress: Progress) -> tuple[Twin, ...] | Skipped:
    name = session.placed.loaded.parameter_name
    parameters = {name(k): p for k, p in session.placed.module.named_parameters()}
    if not parameters:
        return Skipped("the model has no parameters (a frozen file holds constants)")
    for p in parameters.values():
        p.requires_grad_(p.is_floating_point())
    targets = [None] if label is None else [None, label]
    progress.stage("twins", 3 * len(targets))
    try:
        found = [
            twin for target in targets for twin in _of_target(session, parameters, target, progress)
        ]
    except RuntimeError as error:
        first = next(iter(str(error).splitlines()), "unknown error")
        return Skipped(f"the weights cannot be differentiated: {first[:160]}")
    finally:
        for p in parameters.values():
            p.requires_grad_(False)
    if not found:
        return Skipped("no parameter stands in front of a BatchNorm layer")
    # Only twins whose forward is the model's own say anything.
    worst = max(twin.loss_difference / (1 + abs(loss)) for loss, twin in found)
    if not worst <= _FORWARD_TOLERANCE.get(session.placed.dtype, 1e-2):
        return Skipped(
            f"the twins' loss differs by {worst:.1e}: the model's forward is not repeatable"
        )
    return tuple(twin for _, twin in found)


@dataclass(frozen=True, slots=True)
class _Run:
    """Loss and gradient norms of one forward and backward."""

    loss: float
    norms: dict[str, float]


def _of_target(
    session: Session, parameters: dict[str, nn.Parameter], label: str | None, progress: Progress
) -> list[tuple[float, Twin]]:
    """The loss of the model as it is with each twin."""
    plain = _Replace(None, label)
    base = _run(session, plain, parameters)
    progress.advance()
    if label is not None and label not in plain.seen:
        raise UsageError(
            f"--twins {label!r}: no such layer", hint=f"the layers are: {', '.join(plain.seen[:8])}"
        )
    upstream = [
        name for name, p in parameters.items() if id(p) in plain.upstream and id(p) not in plain.own
    ]
    twins: list[tuple[float, Twin]] = []
    for kind in KINDS if upstream else ():
        twin = _run(session, replace(plain, kind=kind), parameters)
        progress.advance()
        total, other = (
            float(torch.tensor([run.norms[n] for n in upstream], dtype=torch.float64).norm())
            for run in (base, twin)
        )
        effects = tuple(ParameterEffect(n, base.norms[n], twin.norms[n]) for n in upstream)
        off = abs(base.loss - twin.loss)
        twins.append((base.loss, Twin(kind, label, off, total, other, effects)))
    return twins


def _run(session: Session, handler: _Replace, parameters: dict[str, nn.Parameter]) -> _Run:
    with tapped(session.placed.namer, handler) as tap, torch.enable_grad():
        tap.start()
        loss = session.execution.value(session.batches.items[0], 0)
        wanted = [p for p in parameters.values() if p.requires_grad]
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    norms = {
        id(p): 0.0 if g is None else float(torch.linalg.vector_norm(g.detach().double()))
        for p, g in zip(wanted, gradients, strict=True)
    }
    return _Run(float(loss.detach()), {n: norms.get(id(p), 0.0) for n, p in parameters.items()})
