"""Trained networks made worse as deployed, in ways that a converter, a recipe or a pipeline makes them so.

What is right is computed here with plain PyTorch: both losses, and which single layer's own statistics take
most off the deployed one.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bench.defects.cases import Subject, subject
from bench.defects.run import audited
from torch import nn
from torch.nn.functional import cross_entropy, interpolate, mse_loss

from bnaudit.records.deployment import OF_INPUTS, Located
from bnaudit.records.finding import Severity
from bnaudit.summary.deployment import deployed, explained, located

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report

pytestmark = pytest.mark.usefixtures("in_order")

BATCH = 32
NETS = (
    "conv",
    "tabular",
    "raw_features",
    "sequence",
    "depthwise",
    "preactivation",
    "concat",
    "autoencoder",
)


def norms(net: nn.Module) -> dict[str, Any]:
    kind = nn.modules.batchnorm._BatchNorm
    return {name: module for name, module in net.named_modules() if isinstance(module, kind)}


def loss_of(net: nn.Module, case: Subject, rows: Any) -> torch.Tensor:
    loss = mse_loss if case.labels.is_floating_point() else cross_entropy
    return loss(net(case.x[rows]), case.labels[rows])


def tuned(case: Subject, steps: int = 60) -> nn.Module:
    """The same network after further training that left its statistics alone."""
    net = copy.deepcopy(case.net).train().requires_grad_()
    for bn in norms(net).values():
        bn.momentum = 0.0
    optimiser = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(case.x), (64,), generator=generator)
        optimiser.zero_grad()
        loss_of(net, case, rows).backward()
        optimiser.step()
    return net.eval().requires_grad_(False)


def stale(case: Subject) -> None:
    case.net = tuned(case)


def extrapolated(case: Subject) -> None:
    """Beyond the tuned weights, twice as far; the statistics go along, as those of any state_dict do."""
    other = tuned(case, 20)
    for p, q in zip(case.net.parameters(), other.parameters(), strict=True):
        p.data += 2 * (q.data - p.data)


def begun(case: Subject) -> None:
    """The statistics after 15 updates."""
    left = 0.9**15
    for name in case.norms():
        mean, var = case.stored(name)
        mean.mul_(1 - left)
        var.mul_(1 - left).add_(left)


def scaled(case: Subject) -> None:
    case.x = 3 * case.x


def shifted(case: Subject) -> None:
    case.x = case.x + 0.75


def larger(case: Subject) -> None:
    case.x = interpolate(case.x, (16, 16), mode="bilinear", align_corners=False)


def one_layer(case: Subject) -> None:
    name = case.norms()[1]
    case.stored(name)[1].mul_(16)


def one_mean(case: Subject) -> None:
    mean, var = case.stored(case.norms()[-1])
    mean += 2 * var.sqrt() * (torch.arange(len(mean)) % 2 * 2 - 1)


def cut_off(case: Subject) -> None:
    """A converter's limit, in the units of this layer."""
    var = case.stored(case.norms()[1])[1]
    var.clamp_(max=0.1 * float(var.max()))


def single_rows(case: Subject) -> None:
    """Statistics of batches of one row."""
    for bn in norms(case.net).values():
        bn.momentum = None
        bn.reset_running_stats()
    case.net.train()
    with torch.no_grad():
        for row in case.x[:200]:
            case.net(row[None])
    case.net.eval()


@dataclass(frozen=True)
class Kind:
    change: Callable[[Subject], None]
    nets: tuple[str, ...]
    cause: str | None = None
    others: tuple[str | None, ...] = ()


IMAGES = ("conv", "depthwise", "preactivation", "concat")
KINDS = {
    "stale statistics": Kind(stale, NETS, None, ("other-weights",)),
    "extrapolated weights": Kind(extrapolated, NETS, None, ("other-weights",)),
    "too few updates": Kind(begun, NETS, "initial-statistics"),
    "scaled inputs": Kind(scaled, NETS, "inputs-scaled"),
    "shifted inputs": Kind(shifted, NETS, "inputs-shifted"),
    "other resolution": Kind(larger, IMAGES, "other-resolution"),
    "one variance": Kind(one_layer, NETS, "edited-layers"),
    "one mean": Kind(one_mean, NETS, "edited-layers"),
    "values cut off": Kind(cut_off, NETS, "edited-layers"),
    "single rows": Kind(single_rows, IMAGES, "single-row-statistics"),
}


def losses(net: nn.Module, case: Subject, batch: frozenset[str]) -> list[float]:
    """With batch statistics at these layers."""
    net = copy.deepcopy(net).eval()
    for name, bn in norms(net).items():
        bn.train(name in batch)
        bn.momentum = 0.0
    starts = range(0, len(case.x) // BATCH * BATCH, BATCH)
    with torch.no_grad():
        return [float(loss_of(net, case, slice(i, i + BATCH))) for i in starts]


def guess(labels: torch.Tensor) -> float:
    """The loss of the best constant answer, all classes alike."""
    if labels.is_floating_point():
        return float((labels - labels.mean(0)).square().mean())
    return float(torch.tensor(int(labels.max()) + 1).log())


def gaps(report: Report) -> list[Finding]:
    return [f for f in report.findings if "BN209" in f.rule or "(BN209)" in f.message]


FORMS = ("onnx", "torchscript", "module")
CASES = [(name, net) for name, kind in KINDS.items() for net in kind.nets]


@pytest.mark.parametrize(
    ("name", "net", "form"),
    [(name, net, FORMS[i % 3]) for i, (name, net) in enumerate(CASES)],
)
def test_a_gap_is_an_error_at_the_layer_that_mends_it(name: str, net: str, form: str) -> None:
    kind, case = KINDS[name], subject(net)
    kind.change(case)
    every = frozenset(norms(case.net))
    running, batch = losses(case.net, case, frozenset()), losses(case.net, case, every)
    run, own = (sum(part) / len(part) for part in (running, batch))
    report = audited(case, form)
    found = deployed(report)
    assert found is not None
    assert found.gap.mean == pytest.approx(run - own, rel=1e-3, abs=1e-4)  # type: ignore[union-attr]
    floor = 0.1 * guess(case.labels)
    error = [f for f in gaps(report) if f.severity is Severity.ERROR]
    apart = torch.tensor(running, dtype=torch.float64) - torch.tensor(batch, dtype=torch.float64)
    quantile = {10: 2.262, 8: 2.365, 28: 2.052}[len(apart)]
    sure = float(apart.mean() - quantile * apart.std() / len(apart) ** 0.5)
    worse = run - own >= 0.25 * max(own, floor) and sure > 0.15 * max(own, floor)
    assert bool(error) == worse
    if not worse:
        return  # this network can take it
    where = located(report)
    assert isinstance(where, Located)
    evidence = explained(report)
    if kind.cause is not None and where.gap > 0.5:
        assert evidence is not None
        assert evidence.cause == kind.cause
    if kind.cause is None:
        assert (None if evidence is None else evidence.cause) in (None, *kind.others)
    alone = {
        layer: running[where.batch - 1]
        - losses(case.net, case, frozenset({layer}))[where.batch - 1]
        for layer in every
    }
    best = max(alone.values())
    named = next((f.layer for f in error if f.rule == "BN209" and f.layer), None)
    if named is not None and (evidence is None or evidence.cause not in OF_INPUTS):
        assert alone[named] >= 0.9 * best, (named, alone)
