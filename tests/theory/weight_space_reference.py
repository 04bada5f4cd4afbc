"""Theorem 4.4 by definition, in float64: U column by column, its SVD, and matrix products."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bnaudit.load.live import load_live
from bnaudit.measure.collect import Selection, collect
from bnaudit.measure.session import Session, open_session, place_model
from bnaudit.measure.weight_space import measure_weight_space
from bnaudit.options import AuditOptions
from bnaudit.progress import Silent
from bnaudit.records.values import Skipped, Spread
from bnaudit.records.weights import WeightSpace
from bnaudit.tap.guard import untouched
from tests import reference

Key = tuple[str, int]
Results = dict[Key, WeightSpace | Skipped]


def run(
    model: nn.Module | Session, x: Tensor | None = None, mode: str = "batch", dtype: str = "float64"
) -> Results:
    """Weight space at every BatchNorm call; labels are the rows modulo 3."""
    if isinstance(model, Session):
        session, options = model, AuditOptions(mode=mode)
    else:
        assert x is not None
        options = AuditOptions(
            data=x, labels=torch.arange(len(x)) % 3, batch_size=len(x), dtype=dtype, mode=mode
        )
        placed = place_model(load_live(model), options)
        with untouched(placed.module):
            session = open_session(placed, options)
    session = replace(session, batches=replace(session.batches, items=session.batches.items[:1]))
    with untouched(session.placed.module):
        collected = collect(
            session.execution,
            session.placed.namer,
            session.batches.items,
            mode,
            Selection(None),
            Silent(),
        )
        found: Results = measure_weight_space(session, collected, options, Silent())["weight_space"]
        return found


def only(results: Results) -> WeightSpace:
    """The record of a net with one BatchNorm call."""
    (space,) = results.values()
    assert isinstance(space, WeightSpace), space
    return space


def reason(results: Results, name: str, occurrence: int = 1) -> str:
    skipped = results[name, occurrence]
    assert isinstance(skipped, Skipped), skipped
    return skipped.reason


def numbers(space: WeightSpace) -> dict[str, float]:
    """The eight metrics by name."""
    names = "spectral_norm spectral_norm_centred grad_norm bound bound_centred bound_without"
    found = {}
    for name in (*names.split(), "tightness", "weight_ratio", "projection"):
        value = getattr(space, name)
        assert isinstance(value, Spread), (name, value)
        found[name] = value.median
    return found


class OneLayer(nn.Module):
    """`layer`, a BatchNorm over dimension 1 and a fixed nonlinear head, with everything random."""

    def __init__(self, layer: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.layer = layer
        with torch.no_grad():
            shape = layer.double()(x).shape
        self.bn = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[
            len(shape)
        ](shape[1])
        nn.init.normal_(self.bn.weight)
        nn.init.normal_(self.bn.bias)
        self.head = nn.Linear(shape[1:].numel(), 3)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.bn(self.layer(x))).flatten(1))


def channels_first(t: Tensor, groups: int) -> Tensor:
    """(N, C, ...) -> (groups, m, C / groups)."""
    return reference.columns(t).view(-1, groups, t.shape[1] // groups).movedim(0, 1)


def explicit(layer: nn.Module, x: Tensor, groups: int) -> Tensor:
    """U of every group, (groups, m, d): the layer's output for each weight that is 1 in one place."""
    weight = layer.get_parameter("weight")
    transposed = "Transpose" in type(layer).__name__
    zeros = {name: torch.zeros_like(p) for name, p in layer.named_parameters()}
    fan = weight.shape[0] // groups if transposed else weight.shape[1]
    kernel = weight.shape[2:]
    found = []
    for position in range(fan * kernel.numel()):
        channel, offset = divmod(position, kernel.numel())
        one = torch.zeros_like(weight).detach()
        flat = one.view(*weight.shape[:2], -1)
        for group in range(groups):
            if transposed:
                flat[group * fan + channel, 0, offset] = 1
            else:
                flat[group * (weight.shape[0] // groups), channel, offset] = 1
        with torch.no_grad():
            image = functional_call(layer, {**zeros, "weight": one}, (x,))
        found.append(channels_first(image, groups)[:, :, 0])
    return torch.stack(found, 2)


def weight_rows(layer: nn.Module, gradient: Tensor, groups: int) -> Tensor:
    """dL/dW as (groups, d, C / groups)."""
    if "Transpose" not in type(layer).__name__:
        return gradient.reshape(groups, -1, gradient[0].numel()).movedim(1, 2)
    inputs, width = gradient.shape[:2]
    by_group = gradient.reshape(groups, inputs // groups, width, -1)
    return by_group.movedim(2, 3).reshape(groups, -1, width)


@dataclass
class Definition:
    """The numbers of one layer, and what they are made of: (groups, rows, C / groups)."""

    numbers: dict[str, float]
    measured: Tensor
    adjoint: Tensor


def define(net: OneLayer, x: Tensor, groups: int) -> Definition:
    """Everything from explicit matrices; BatchNorm from elementary operations."""
    weight = net.layer.get_parameter("weight").requires_grad_(True)
    own = net.layer(x) * 1.0
    z = reference.batch_norm(own, net.bn.weight, net.bn.bias, net.bn.eps)
    logits = net.head(torch.tanh(z).flatten(1))
    loss = nn.functional.cross_entropy(logits, torch.arange(len(x)) % 3)
    gradient, grad_in, grad_out = torch.autograd.grad(loss, [weight, own, z])
    u = explicit(net.layer, x, groups)
    centred = u - u.mean(1, keepdim=True)
    g, big_g = channels_first(grad_in, groups), channels_first(grad_out, groups)
    sigma = (
        own.detach().double().movedim(1, 0).flatten(1).var(1, correction=0) + net.bn.eps
    ).sqrt()
    gain = (net.bn.weight.detach().abs() / sigma).view(groups, 1, -1)
    norm, norm_centred = (torch.linalg.svdvals(t)[:, 0] for t in (u, centred))
    measured = weight_rows(net.layer, gradient, groups)
    adjoint, without = u.mT @ g, u.mT @ big_g
    allowed = norm[:, None] * g.norm(dim=1)
    values = {
        "spectral_norm": norm.max(),
        "spectral_norm_centred": norm_centred.max(),
        "grad_norm": measured.norm(),
        "bound": allowed.norm(),
        "bound_centred": (norm_centred[:, None] * g.norm(dim=1)).norm(),
        "bound_without": (norm[:, None] * big_g.norm(dim=1)).norm(),
        "tightness": (measured.norm(dim=1) / allowed).max(),
        "weight_ratio": adjoint.norm() / without.norm(),
        "projection": (adjoint.norm() / (gain * without).norm()) ** 2,
    }
    return Definition({k: float(v) for k, v in values.items()}, measured, adjoint)
