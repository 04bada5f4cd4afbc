"""Conspicuous channels and drift against the plain definitions on all values at once."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.measure.rows import made_of, rows_of
from bnaudit.records.drift import Channels, Drift
from bnaudit.records.values import Skipped, Spread
from tests import nets

pytestmark = pytest.mark.usefixtures("in_order")


def statistics(net: nn.Module, x: Tensor, **options: Any) -> list[Channels]:
    report = bnaudit.audit(net, data=x, dtype="float64", metrics=("statistics",), **options)
    found = [layer.statistics for layer in report.layers]
    assert all(isinstance(s, Channels) for s in found)
    return [s for s in found if isinstance(s, Channels)]


def single(channels: int = 6) -> tuple[nn.Sequential, nn.BatchNorm1d]:
    bn = nn.BatchNorm1d(channels)
    net = nn.Sequential(bn, nn.Linear(channels, 3))
    nets.randomise(net)
    return net, bn


def test_drift_is_that_of_all_values_together() -> None:
    net, bn = single()
    x = torch.randn(96, 6, generator=torch.Generator().manual_seed(1)) * 2 + 0.3
    (found,) = statistics(net, x, batch_size=16)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    values = x.double()
    sigma = (bn.running_var.double() + bn.eps).sqrt()
    mean = (values.mean(0) - bn.running_mean.double()).abs() / sigma
    var = values.var(0, correction=0)
    ratio = ((var + bn.eps) / (bn.running_var.double() + bn.eps)).log2().abs()
    for drift, expected in ((found.mean_drift, mean), (found.variance_drift, ratio)):
        assert isinstance(drift, Drift)
        assert drift.median == pytest.approx(float(expected.quantile(0.5)), rel=1e-9)
        assert drift.p95 == pytest.approx(float(expected.quantile(0.95)), rel=1e-9)
        assert drift.maximum == pytest.approx(float(expected.max()), rel=1e-9)
        assert drift.channel == int(expected.argmax())


def test_the_sampling_error_is_that_of_healthy_channels() -> None:
    """4,000 healthy channels: the standard deviations of both drifts are what the record says."""
    bn = nn.BatchNorm1d(4000, eps=0.0001)
    x = torch.randn(400, 4000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (found,) = statistics(nn.Sequential(bn), x, batch_size=100, batches=4)
    assert isinstance(found.mean_drift, Drift)
    assert isinstance(found.variance_drift, Drift)
    assert found.mean_drift.sampling_error == pytest.approx(1 / math.sqrt(400))
    half_normal = 0.6745  # median of |z|
    for drift in (found.mean_drift, found.variance_drift):
        assert drift.median == pytest.approx(half_normal * drift.sampling_error, rel=0.06)


def test_dead_and_outlying_channels() -> None:
    net, bn = single()
    with torch.no_grad():
        bn.weight.copy_(torch.tensor([1.0, 1e-4, -1.0, 30.0, 1.0, 1.0]))
        net.get_submodule("1").get_parameter("weight")[:, 4] = 0
    x = torch.randn(4096, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (found,) = statistics(net, x, batch_size=4096)
    assert found.dead_gamma == (1,)
    assert found.dead_gradient == (4,)
    assert found.gain_outlier == pytest.approx(1e4, rel=0.2)


def test_no_running_statistics_and_synthetic_batches_have_no_drift() -> None:
    x = nets.inputs_for(nets.Plain)
    found = statistics(nets.make(nets.Plain), x)
    assert isinstance(found[1].mean_drift, Skipped)
    net, _ = single()
    report = bnaudit.audit(net, input_shapes={"": (32, 6)}, metrics=("statistics",))
    assert isinstance(report.layers[0].statistics, Channels)
    assert isinstance(report.layers[0].statistics.mean_drift, Skipped)
    assert "synthetic" in report.layers[0].statistics.mean_drift.reason


def test_gradient_scale_is_first_over_last() -> None:
    net, x = nets.make(nets.InPlace), nets.inputs_for(nets.InPlace)
    report = bnaudit.audit(net, data=x, batch_size=24, dtype="float64", metrics=("first_order",))
    outs = []
    for layer in report.layers:
        assert not isinstance(layer.first_order, Skipped)
        assert isinstance(layer.first_order.grad_out_norm, Spread)
        outs.append(layer.first_order.grad_out_norm.median)
    assert isinstance(report.gradient_scale, Spread)
    assert report.gradient_scale.median == pytest.approx(outs[0] / outs[-1], rel=1e-12)


def test_layers_pattern_measures_only_what_matches() -> None:
    net, x = nets.make(nets.PreActivation), nets.inputs_for(nets.PreActivation)
    report = bnaudit.audit(net, data=x, layers="*2")
    assert [layer.name for layer in report.layers] == ["bn2"]
    assert report.model.not_executed == ()
    whole = bnaudit.audit(net, data=x)
    assert report.layers[0].first_order == whole.layers[1].first_order
    with pytest.raises(bnaudit.BnauditError, match="matches none of the 2"):
        bnaudit.audit(net, data=x, layers="nothing*")


class _Graph(nn.Module):
    """A skip past one layer, a layer that is called twice, and two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.ModuleList(nn.Linear(6, 6) for _ in range(5))
        self.bn = nn.ModuleList(nn.BatchNorm1d(6) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        a = self.bn[0](self.fc[0](x)).relu()
        b = a + self.bn[1](self.fc[1](a))
        c = self.bn[2](self.fc[2](b))
        c = self.bn[2](self.fc[2](c))
        left, right = self.bn[3](self.fc[3](c)), self.bn[4](self.fc[4](c))
        return torch.cat([left, right.tanh()], 1)


@pytest.mark.parametrize("metrics", [("statistics",), ("statistics", "second_order")])
def test_who_reads_whom_is_the_graph_and_not_the_order(metrics: tuple[str, ...]) -> None:
    net = nets.randomise(_Graph())
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(4))
    report = bnaudit.audit(net, data=x, batch_size=16, metrics=metrics)
    assert {layer.label: layer.reads for layer in report.layers} == {
        "bn.0": (),
        "bn.1": ("bn.0",),
        "bn.2": ("bn.0", "bn.1"),
        "bn.2#2": ("bn.2",),
        "bn.3": ("bn.2#2",),
        "bn.4": ("bn.2#2",),
    }


@pytest.mark.parametrize("offset", [2.0, 3000.0])
@pytest.mark.parametrize("shape", [(13, 5), (12, 5, 7), (9, 5, 3, 4)])
def test_rows_in_groups_and_what_the_variance_is_made_of(
    shape: tuple[int, ...], offset: float
) -> None:
    single_precision = torch.randn(shape, generator=torch.Generator().manual_seed(5)) ** 3 + offset
    rows, x = rows_of(single_precision), single_precision.double()
    groups = torch.tensor_split(x, 4)
    dims = [0, *range(2, x.dim())]
    for found, group in zip(rows.means, groups, strict=True):
        assert found.tolist() == pytest.approx(group.mean(dims).tolist(), rel=1e-5)
    for found, group in zip(rows.variances, groups, strict=True):
        assert found.tolist() == pytest.approx(group.var(dims, correction=0).tolist(), rel=2e-3)
    each = (x - x.mean(dims, keepdim=True)).square().reshape(*shape[:2], -1).sum(2)
    expected = each.sum(0).square() / each.square().sum(0)
    assert made_of(each.sum(0), [rows]).tolist() == pytest.approx(expected.tolist(), rel=2e-3)


def test_one_batch_has_an_interval_over_its_rows() -> None:
    net, bn = single()
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        assert bn.running_mean is not None
        assert bn.running_var is not None
        bn.running_mean.zero_()
        bn.running_var.fill_(1e4)
    (found,) = statistics(net, x)
    drift = found.variance_drift
    assert isinstance(drift, Drift)
    assert (drift.batches, drift.groups) == (1, 4)
    assert all(drift.surely(c) > 8 for c in range(6))
    (few,) = statistics(net, x[:1].expand(2, 6) + torch.tensor([[0.0], [1.0]]), batch_size=2)
    assert isinstance(few.variance_drift, Drift)
    assert few.variance_drift.groups == 2
