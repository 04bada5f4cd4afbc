"""The loss as deployed, and where its gap comes from, against BatchNorm written out in float64."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import bnaudit
from bnaudit.records.deployment import Deployment, LayerGap, Located
from bnaudit.records.values import Estimate, Skipped
from tests import nets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnaudit.records.report import Report

pytestmark = pytest.mark.usefixtures("in_order")

ROWS, BATCH = 96, 24
METRICS = ("first_order", "deployment")


class Given(nn.Module):
    """BatchNorm with a mean and a log variance (eps included) that autograd sees."""

    def __init__(self, bn: Any) -> None:
        super().__init__()
        self.gamma, self.beta, self.eps = bn.weight.detach(), bn.bias.detach(), bn.eps
        self.stored = bn.running_mean.clone(), (bn.running_var + bn.eps).log()
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.own: list[tuple[Tensor, Tensor]] = []
        self.at: float | None = 0.0

    def forward(self, x: Tensor) -> Tensor:
        shape = [1, -1] + [1] * (x.dim() - 2)
        dims = [d for d in range(x.dim()) if d != 1]
        if self.at is None:
            mean = x.mean(dims)
            log = ((x - mean.view(shape)).square().mean(dims) + self.eps).log()
            self.own.append((mean.detach(), log.detach()))
        else:
            own = self.own[len(self.calls)] if self.own else self.stored
            mean, log = (
                ((1 - self.at) * s + self.at * o).detach().requires_grad_()
                for s, o in zip(self.stored, own, strict=True)
            )
            self.calls.append((mean, log))
        scale = self.gamma.view(shape) * (-log / 2).exp().view(shape)
        return scale * (x - mean.view(shape)) + self.beta.view(shape)


def written(net: nn.Module) -> tuple[nn.Module, dict[str, Given]]:
    twin, given = copy.deepcopy(net).double(), {}
    for name, module in list(twin.named_modules()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            parent, _, leaf = name.rpartition(".")
            given[name] = Given(module)
            setattr(twin.get_submodule(parent), leaf, given[name])
    return twin, given


def radau() -> tuple[Any, Any]:
    """The four nodes and weights on [-1, 1] with the left end (Abramowitz and Stegun 25.4.31)."""
    both = np.polynomial.legendre.Legendre([0, 0, 0, 1, 1])
    nodes = np.sort(both.roots().real)
    nodes[0] = -1.0
    before = np.polynomial.legendre.Legendre([0, 0, 0, 1])
    return nodes, (1 - nodes) / (4 * before(nodes)) ** 2


def apart(out: Tensor, own: Tensor) -> Tensor:
    """What stands for the loss where there are no labels."""
    spread = torch.stack([(row - own.mean(0)).square().sum() for row in own]).sum()
    return (
        torch.stack([(a - b).square().sum() for a, b in zip(out, own, strict=True)]).sum() / spread
    )


def shares(
    net: nn.Module, x: Tensor, y: Tensor | None, points: int
) -> dict[tuple[str, int], float]:
    """The integral along the path by a rule with so many points."""
    twin, given = written(net)
    for layer in given.values():
        layer.at = None
    with torch.no_grad():
        own_outputs = twin(x)
    nodes, weights = radau() if points == 4 else np.polynomial.legendre.leggauss(points)
    found: dict[tuple[str, int], float] = {}
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        for layer in given.values():
            layer.at, layer.calls = float(node), []
        loss = apart(twin(x), own_outputs) if y is None else cross_entropy(twin(x), y)
        for name, layer in given.items():
            for place, ((mean, log), own) in enumerate(zip(layer.calls, layer.own, strict=True)):
                slopes = torch.autograd.grad(loss, (mean, log), retain_graph=True)
                steps = (o - s for o, s in zip(own, layer.stored, strict=True))
                part = sum(float((g * d).sum()) for g, d in zip(slopes, steps, strict=True))
                key = (name, place + 1)
                found[key] = found.get(key, 0.0) - weight * part
    return found


def drifted(cls: Callable[[], nn.Module], seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A network whose statistics do not fit, and rows for it, in float64."""
    torch.manual_seed(seed)
    net = cls().double()
    x = torch.randn(ROWS, 6) if cls is nets.Shared else torch.randn(ROWS, 1, 6, 6)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            bn: Any = module
            nn.init.normal_(bn.running_mean, std=0.4)
            nn.init.uniform_(bn.running_var, 0.05, 0.6)
    fc = net.get_submodule("fc")
    with torch.no_grad():  # sharp and balanced decisions, which are right with batch statistics
        fc.get_parameter("weight").mul_(8)
        fc.get_parameter("bias").sub_(copy.deepcopy(net).train()(x.double()).mean(0))
        y = copy.deepcopy(net).train()(x.double()).argmax(1)
    net.requires_grad_(False)
    return net.eval(), x.double(), y


def audited(net: nn.Module | str, x: Tensor, y: Tensor | None, **options: Any) -> Report:
    return bnaudit.audit(net, data=x, labels=y, batch_size=BATCH, **{"metrics": METRICS, **options})


def deployment(report: Report) -> Deployment:
    assert isinstance(report.deployment, Deployment)
    return report.deployment


def located(report: Report) -> Located:
    found = deployment(report).located
    assert isinstance(found, Located)
    return found


def losses(net: nn.Module, x: Tensor, y: Tensor, *, train: bool) -> list[float]:
    net = copy.deepcopy(net).train(train)
    with torch.no_grad():
        return [
            float(cross_entropy(net(x[i : i + BATCH]), y[i : i + BATCH]))
            for i in range(0, len(x), BATCH)
        ]


CLASSES = [nets.PreActivation, nets.InPlace, nets.Shared]


@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("cls", CLASSES)
def test_losses_and_decisions(cls: Callable[[], nn.Module], mode: str) -> None:
    net, x, y = drifted(cls)
    found = deployment(audited(net, x, y, mode=mode))
    batch, running = (np.array(losses(net, x, y, train=t)) for t in (True, False))
    for outcome, wanted in ((found.batch, batch), (found.running, running)):
        assert isinstance(outcome.loss, Estimate)
        assert outcome.loss.mean == pytest.approx(wanted.mean(), rel=1e-12)
        margin = 3.1824 * wanted.std(ddof=1) / 2  # Student's t with 3 degrees of freedom
        assert outcome.loss.upper == pytest.approx(wanted.mean() + margin, rel=1e-6)
    assert isinstance(found.gap, Estimate)
    gaps = running - batch
    assert found.gap.mean == pytest.approx(gaps.mean(), rel=1e-10)
    assert found.gap.lower == pytest.approx(
        gaps.mean() - 3.1824 * gaps.std(ddof=1) / 2, rel=1e-5, abs=1e-9
    )
    with torch.no_grad():
        outputs = {
            t: torch.cat([copy.deepcopy(net).train(t)(part) for part in x.split(BATCH)])
            for t in (True, False)
        }
    decided = {t: out.argmax(1) for t, out in outputs.items()}
    assert isinstance(found.running.accuracy, Estimate)
    assert found.running.accuracy.mean == pytest.approx(
        float((decided[False] == y).double().mean())
    )
    assert isinstance(found.changed, Estimate)
    assert found.changed.mean == pytest.approx(
        float((decided[False] != decided[True]).double().mean())
    )
    apart = [
        float((r - b).norm() / (b - b.mean(0)).norm())
        for r, b in zip(outputs[False].split(BATCH), outputs[True].split(BATCH), strict=True)
    ]
    assert isinstance(found.distance, Estimate)
    assert found.distance.mean == pytest.approx(np.mean(apart), rel=1e-10)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("cls", CLASSES)
def test_shares_are_the_path_integral(cls: Callable[[], nn.Module], labelled: bool) -> None:
    net, x, y = drifted(cls)
    report = audited(net, x, y if labelled else None)
    where = located(report)
    part = slice((where.batch - 1) * BATCH, where.batch * BATCH)
    given = y[part] if labelled else None
    same, exact = (shares(net, x[part], given, points) for points in (4, 40))
    measured = {
        (layer.name, layer.call): layer.gap.share
        for layer in report.layers
        if isinstance(layer.gap, LayerGap)
    }
    assert measured.keys() == same.keys()
    for key, value in measured.items():
        assert value == pytest.approx(same[key], rel=1e-9, abs=1e-10)
        assert value == pytest.approx(exact[key], abs=0.15 * where.gap)
    gap = (
        losses(net, x, y, train=False)[where.batch - 1]
        - losses(net, x, y, train=True)[where.batch - 1]
        if labelled
        else float(apart(copy.deepcopy(net)(x[part]), copy.deepcopy(net).train()(x[part])))
    )
    assert where.gap == pytest.approx(gap, rel=1e-10)
    assert sum(exact.values()) == pytest.approx(gap, rel=5e-3)  # ReLU has kinks
    assert sum(measured.values()) + where.rest == pytest.approx(gap, rel=1e-10)


@pytest.mark.parametrize("cls", CLASSES)
def test_alone_and_recomputed(cls: Callable[[], nn.Module]) -> None:
    net, x, y = drifted(cls)
    report = audited(net, x, y)
    where = located(report)
    part = slice((where.batch - 1) * BATCH, where.batch * BATCH)
    deployed = losses(net, x, y, train=False)[where.batch - 1]
    assert where.deployed == pytest.approx(deployed, rel=1e-10)
    measured = [
        layer
        for layer in report.layers
        if isinstance(layer.gap, LayerGap) and not isinstance(layer.gap.alone, Skipped)
    ]
    assert measured
    for layer in measured:
        swapped = copy.deepcopy(net)
        swapped.get_submodule(layer.name).train()
        with torch.no_grad():
            loss = float(cross_entropy(swapped(x[part]), y[part]))
        assert isinstance(layer.gap, LayerGap)
        assert layer.gap.alone == pytest.approx(deployed - loss, rel=1e-9)
    mended = copy.deepcopy(net)
    seen: dict[nn.Module, list[Tensor]] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.setdefault(module, []).append(inputs[0].transpose(0, 1).flatten(1))

    for module in mended.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_pre_hook(keep)
            module.momentum = 0.0
    with torch.no_grad():
        for rows in x.split(BATCH):
            mended.train()(rows)
        for module, values in seen.items():
            whole = torch.cat(values, 1)
            bn: Any = module
            bn.running_mean.copy_(whole.mean(1))
            bn.running_var.copy_(whole.var(1))
        seen.clear()
        loss = float(cross_entropy(mended.eval()(x[part]), y[part]))
    assert where.recomputed == pytest.approx(loss, rel=1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_form_says_the_same(tmp_path: Path) -> None:
    net, x, y = drifted(nets.PreActivation)
    live = audited(net, x, y)
    traced = str(tmp_path / "m.pt")
    torch.jit.trace(net, x[:2]).save(traced)
    onnx = str(tmp_path / "m.onnx")
    torch.onnx.export(
        net,
        (x[:2],),
        onnx,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        dynamic_axes={"input": {0: "n"}},
        input_names=["input"],
    )
    for path in (traced, onnx):
        other = audited(path, x, y, dtype="float64")
        assert located(other).rest == pytest.approx(located(live).rest, abs=1e-9)
        assert located(other).recomputed == pytest.approx(located(live).recomputed, rel=1e-9)
        for one, two in zip(live.layers, other.layers, strict=True):
            assert isinstance(one.gap, LayerGap)
            assert isinstance(two.gap, LayerGap)
            assert two.gap.share == pytest.approx(one.gap.share, rel=1e-7, abs=1e-9)


def test_a_selection_of_layers_changes_no_number() -> None:
    net, x, y = drifted(nets.PreActivation)
    whole, part = audited(net, x, y), audited(net, x, y, layers="bn2")
    assert deployment(part) == deployment(whole)
    assert [layer.gap for layer in part.layers] == [whole.layers[1].gap]


def test_the_data_goes_beyond_the_audited_batches() -> None:
    net, x, y = drifted(nets.PreActivation)
    x, y = x.repeat(4, 1, 1, 1), y.repeat(4)
    found = deployment(audited(net, x, y))
    assert (found.batches, found.rows) == (16, 16 * BATCH)
    few = deployment(audited(net, x, y, batches=4))
    assert (few.batches, few.rows) == (4, 4 * BATCH)


def test_no_labels_compare_outputs() -> None:
    net, x, _ = drifted(nets.PreActivation)
    found = deployment(audited(net, x, None))
    assert isinstance(found.distance, Estimate)
    assert found.distance.mean > 0.1
    assert isinstance(found.changed, Estimate)
    assert isinstance(found.running.accuracy, Skipped)
    assert isinstance(found.located, Located)  # by the outputs


def test_no_labels_and_next_to_no_difference() -> None:
    net, x, _ = drifted(nets.PreActivation)
    with torch.no_grad():
        for _ in range(60):
            net.train()(x)
    found = deployment(audited(net.eval(), x, None))
    assert isinstance(found.distance, Estimate)
    assert found.distance.mean < 0.5
    assert isinstance(found.located, Skipped)


def test_statistics_that_fit_leave_no_gap() -> None:
    net, x, y = drifted(nets.PreActivation)
    for bn in net.modules():
        if isinstance(bn, nn.modules.batchnorm._BatchNorm):
            bn.momentum = None
    with torch.no_grad():
        net.train()(x)
    net.eval()
    report = audited(net, x, y)
    assert isinstance(deployment(report).located, Skipped)
    assert all(isinstance(layer.gap, Skipped) for layer in report.layers)


def test_without_running_statistics_there_is_nothing_to_compare() -> None:
    net = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 3)
    )
    report = audited(net, torch.randn(ROWS, 4), torch.arange(ROWS) % 3)
    assert isinstance(report.deployment, Skipped)
    assert "keeps running statistics" in report.deployment.reason


def test_a_variance_below_zero_is_told() -> None:
    net, x, y = drifted(nets.PreActivation)
    bn: Any = net.get_submodule("bn1")
    bn.running_var[0] = -1.0
    found = deployment(audited(net, x, y))
    assert isinstance(found.running.loss, Skipped)
    assert isinstance(found.batch.loss, Estimate)


def test_made_up_inputs_are_not_compared() -> None:
    net, _, _ = drifted(nets.PreActivation)
    report = bnaudit.audit(net, input_shapes={"": (8, 1, 6, 6)}, metrics=METRICS)
    assert isinstance(report.deployment, Skipped)
    assert "made-up" in report.deployment.reason
