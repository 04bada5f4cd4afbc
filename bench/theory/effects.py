"""Tables about what depends on more than one layer: rescaling, twins, cross-channel curvature."""

from __future__ import annotations

import copy
import math
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from fixtures.nets import NETS
from torch import Tensor, nn

from bench.theory.nets import held
from bench.theory.runs import BATCH, FIXTURES, at, audit, drawn, loss, trained, untrained, value
from bench.theory.text import number, order, share, table
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from bnaudit.records.report import Report


def fed(net: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """(weight, its BatchNorm); in the shipped architectures one is registered right after the other."""
    last: nn.Module = net
    found: list[tuple[nn.Module, nn.Module]] = []
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            found.append((last, module))
        if isinstance(module, nn.Linear | nn.Conv2d):
            last = module
    return found


def rescaled(net: nn.Module, k: float, *, every: int = 1, scale_eps: bool = True) -> nn.Module:
    """W -> kW in front of every BatchNorm, of every `every`-th output channel."""
    twin = copy.deepcopy(net)
    for weight, bn in fed(twin):
        with torch.no_grad():
            for p in weight.parameters():
                p[::every] *= k
        if scale_eps:
            bn.eps *= k**2  # type: ignore[operator,assignment]  # a Module's attributes are tensors to mypy
    return twin


def gauge() -> str:
    """What changes where the function does not."""
    net = trained("digits_resnet").double()
    variants = {
        "as trained": net,
        "4 W, eps -> 16 eps": rescaled(net, 4),
        "W/4, eps -> eps/16": rescaled(net, 0.25),
        "4 W, eps kept": rescaled(net, 4, scale_eps=False),
        "W/4, eps kept": rescaled(net, 0.25, scale_eps=False),
        "4 W in every 4th channel, eps kept": rescaled(net, 4, every=4, scale_eps=False),
    }
    reports = {name: audit(one, "digits_resnet", channels=True) for name, one in variants.items()}
    base = reports["as trained"]
    header = ["weights", "change of the loss", "median abs(gamma)/sigma", "median abs(g)/abs(G)"]
    header += ["4.2 holds in", "Pi, last layer", "largest leak", "rho, first layer"]
    header += ["abs(G) first / last"]
    rows = []
    for name, report in reports.items():
        now, before = loss(report), loss(base)
        rows.append(
            [
                name,
                order(abs(now - before) / before),
                number(median(at(a, "gain_batch.median") for a in report.layers)),
                number(median(at(a, "first_order.measured") for a in report.layers)),
                held(report)[0],
                number(at(report.layers[-1], "first_order.projection")),
                order(max(at(a, "leak.maximum") for a in report.layers)),
                number(at(report.layers[0], "second_order.rayleigh")),
                number(value(report.gradient_scale)),
            ]
        )
    return table(header, rows)


class Deep(nn.Module):
    """Twenty Linear-BatchNorm-ReLU blocks, with or without skip connections."""

    def __init__(self, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(30, 30), nn.BatchNorm1d(30), nn.ReLU()) for _ in range(20)
        )
        self.head = nn.Linear(30, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 30) -> (N, 2)."""
        for block in self.blocks:
            x = x + block(x) if self.skip else block(x)
        z: Tensor = self.head(x)
        return z


def twins() -> str:
    """End to end against the product of the layers' ratios."""
    cases: dict[str, tuple[nn.Module, str]] = {
        f"{net}, trained": (trained(net), net) for net in NETS
    }
    cases["digits_resnet, untrained"] = (untrained("digits_resnet", 0), "digits_resnet")
    cases["20 blocks, untrained"] = (drawn(lambda: Deep(skip=False), 0), "tabular_mlp")
    cases["20 blocks with skips, untrained"] = (drawn(lambda: Deep(skip=True), 0), "tabular_mlp")
    rows = []
    for name, (model, net) in cases.items():
        report = audit(model, net, batches=1)
        product = math.prod(at(a, "first_order.measured") for a in report.layers)
        cells = [str(len(report.layers)), number(product)]
        cells += [f"{1 / one:.3g}" for one in _effects(report)]
        rows.append([name, *cells])
    header = ["network", "layers", "product of abs(g)/abs(G)", "BN / identity, first weight"]
    header += ["BN / identity, all", "BN / frozen, first weight", "BN / frozen, all"]
    return table(header, rows)


def _effects(report: Report) -> list[float]:
    """Twin / BN at the first weight and over all, identity before frozen."""
    found = () if isinstance(report.twins, Skipped) else report.twins
    cells = []
    for kind in ("identity", "frozen"):
        (twin,) = (t for t in found if t.kind == kind)
        first = next(p for p in twin.parameters if p.grad_norm > 1e-8)
        cells += [first.twin_grad_norm / first.grad_norm, twin.twin_grad_norm / twin.grad_norm]
    return cells


def own_block() -> str:
    """g_j' H_jj g_j of the channels' own blocks against g'Hg, at the layers of the perceptron."""
    net = trained("tabular_mlp").double()
    report = audit(net, "tabular_mlp", batches=1)
    modules = dict(net.named_children())
    chain = [modules[n] for n in ("fc1", "bn1", "fc2", "bn2", "fc3", "bn3", "head")]
    data = _batch("tabular_mlp", BATCH)
    rows = []
    for place, name in ((1, "bn1"), (3, "bn2"), (5, "bn3")):
        x = _through(chain[:place], data[0]).detach().requires_grad_()
        loss = nn.functional.cross_entropy(_through(chain[place:], x), data[1])
        (g,) = torch.autograd.grad(loss, x, create_graph=True)
        v, own = g.detach(), 0.0
        for j in range(x.shape[1]):
            only = torch.zeros_like(v)
            only[:, j] = v[:, j]
            (hv,) = torch.autograd.grad(g, x, only, retain_graph=True)
            own += float((only * hv).sum())
        (hv,) = torch.autograd.grad(g, x, v)
        whole = float((v * hv).sum())
        (layer,) = (a for a in report.layers if a.label == name)
        rows.append(
            [name, number(whole), number(at(layer, "second_order.measured")), share(own / whole)]
        )
    return table(["layer", "g'Hg here", "in the report", "of it, the channels' own blocks"], rows)


def _through(modules: list[nn.Module], x: Tensor) -> Tensor:
    """BatchNorm by batch statistics and followed by ReLU, as in the perceptron."""
    for module in modules:
        if isinstance(module, nn.BatchNorm1d):
            x = nn.functional.batch_norm(
                x, None, None, module.weight, module.bias, training=True, eps=module.eps
            ).relu()
        else:
            x = module(x)
    return x


def _batch(net: str, rows: int) -> tuple[Tensor, Tensor]:
    arrays = np.load(FIXTURES / net / "batch.npz")
    return torch.from_numpy(arrays["x"][:rows]).double(), torch.from_numpy(arrays["labels"][:rows])
