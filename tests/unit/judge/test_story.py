"""What one fact explains is told with it: in whole audits, and of findings made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.judge.examples import inspection as stored
from bnaudit.judge.examples.channels import drift, spread, uniform
from bnaudit.judge.examples.inspection import CHANNELS, LAYERS
from bnaudit.judge.examples.report import report, with_channels
from bnaudit.judge.policy import Policy
from bnaudit.judge.verdicts import judge
from bnaudit.records.drift import Channels
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import Inspection
    from bnaudit.records.report import Report


def beside(subject: Report, inspection: Inspection) -> Report:
    """The audit of a file that stores this."""
    return replace(subject, inspection=inspection)


def sole(subject: Report, policy: Policy | None = None) -> Finding:
    (finding,) = judge(subject, policy or Policy()).findings
    return finding


ZEROS, ONES = (0.0,) * CHANNELS, (1.0,) * CHANNELS


def test_statistics_at_their_start_explain_the_drift_that_is_measured() -> None:
    at_start = stored.changed(LAYERS[2], running_mean=ZEROS, running_var=ONES)
    subject = beside(with_channels(l2={"variance_drift": uniform(-3.0)}), at_start)
    found = sole(subject)
    assert (found.rule, found.layer, found.severity) == ("BN005", LAYERS[2], Severity.ERROR)
    assert "(BN202)" in found.message
    assert sole(subject, Policy(ignore=("BN005",))).rule == "BN202"
    elsewhere = beside(with_channels(l1={"variance_drift": uniform(-3.0)}), at_start)
    assert {f.rule for f in judge(elsewhere).findings} == {"BN005", "BN202"}


def test_a_gamma_of_zero_explains_what_the_next_layer_misses() -> None:
    gamma = (0.0, 0.0, *(stored.statics(LAYERS[1]).gamma or ())[2:])
    subject = beside(
        with_channels(l2={"mean_drift": uniform(0.4)}), stored.changed(LAYERS[1], gamma=gamma)
    )
    found = sole(subject)
    assert (found.rule, found.layer, found.severity) == ("BN009", LAYERS[1], Severity.ERROR)
    assert f"{LAYERS[2]}: the means of the data" in found.message


def test_a_dead_channel_in_a_healthy_network_explains_no_drift() -> None:
    subject = with_channels(l1={"dead_gradient": (3,)}, l3={"mean_drift": uniform(0.4)})
    assert {f.rule: f.severity for f in judge(subject).findings} == {
        "BN203": Severity.INFO,
        "BN201": Severity.ERROR,
    }


def test_dead_channels_that_the_next_layer_still_expects_died_after_training() -> None:
    subject = with_channels(l1={"dead_gradient": (3, 4)}, l2={"mean_drift": uniform(0.08)})
    found = sole(subject)
    assert (found.rule, found.severity) == ("BN203", Severity.ERROR)
    assert f"{LAYERS[2]} behind still expect them" in found.message
    settled = sole(with_channels(l1={"dead_gradient": (3, 4)}))
    assert settled.severity is Severity.WARNING


@pytest.mark.parametrize("zero", [1, 6])
def test_a_variance_of_zero_is_not_called_harmless_where_the_data_varies(zero: int) -> None:
    variances = (0.0,) * zero + (stored.statics(LAYERS[1]).running_var or ())[zero:]
    inspection = stored.changed(LAYERS[1], running_var=variances)
    varying = with_channels(l1={"variance_drift": drift(dict.fromkeys(range(zero), 15.0))})
    assert {f.rule for f in judge(beside(varying, inspection)).findings} == {"BN202"}
    constant = with_channels(l1={"constant": tuple(range(zero))})
    assert {f.rule for f in judge(beside(constant, inspection)).findings} == {"BN206"}


def test_channels_that_hardly_vary_in_data_and_file_are_told_once() -> None:
    variances = (3e-8,) * 5 + (stored.statics(LAYERS[1]).running_var or ())[5:]
    inspection = stored.changed(LAYERS[1], running_var=variances)
    found = sole(beside(with_channels(l1={"constant": tuple(range(5))}), inspection))
    assert (found.rule, found.severity) == ("BN206", Severity.INFO)


def test_a_channel_that_dies_in_a_depthwise_pair_is_told_where_it_dies() -> None:
    """No gradient comes through it to the same channels in front; what is constant comes from the front."""
    pair = {"dead_gradient": (2, 5, 9)}
    found = sole(with_channels(l1=pair, l2=pair))
    assert found.layer == LAYERS[2]
    pair = {"constant": (2, 5, 9)}
    assert sole(with_channels(l1=pair, l2=pair)).layer == LAYERS[1]


class _Slices(nn.Module):
    """Each of two layers is read in part, as in TabNet; a third has a ReLU that is always off."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.ModuleList(nn.Linear(12, 16, bias=False) for _ in range(3))
        self.bn = nn.ModuleList(nn.BatchNorm1d(16) for _ in range(3))
        self.back, self.head = nn.Linear(8, 12), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.bn[0](self.fc[0](x)).tanh()[:, 8:]
        second, _ = self.bn[1](self.fc[1](self.back(first))).tanh().chunk(2, 1)
        third = self.bn[2](self.fc[2](x)).relu()
        out: Tensor = self.head(torch.cat([second, third], 1))
        return out


def test_channels_that_nobody_reads_by_design_are_no_dead_ones() -> None:
    torch.manual_seed(0)
    net = _Slices().train()
    with torch.no_grad():
        net.get_parameter("bn.2.bias")[:9] = -30.0
        for _ in range(200):
            net(torch.randn(64, 12))
    x = torch.randn(256, 12, generator=torch.Generator().manual_seed(1))
    found = bnaudit.audit(net.eval(), data=x, metrics=("statistics",)).findings
    told = {f.layer: f.severity for f in found if f.rule == "BN203"}
    assert told == {"bn.0": Severity.INFO, "bn.1": Severity.INFO, "bn.2": Severity.ERROR}


def test_gradients_are_compared_along_what_reads_what() -> None:
    """Two heads of very different scale behind one trunk: no gradient flows between them."""
    norms = {
        f"l{place}": {"grad_xhat_norm": spread(value)}
        for place, value in enumerate((3.0, 2.0, 9.0, 1e-4))
    }
    chain = with_channels(**norms)
    assert sole(chain).rule == "BN204"
    reads = ((), (LAYERS[0],), (LAYERS[1],), (LAYERS[1],))
    layers = tuple(replace(e, reads=r) for e, r in zip(chain.layers, reads, strict=True))
    assert judge(replace(chain, layers=layers)).findings == ()


def test_a_network_with_skips_is_not_told_to_add_some() -> None:
    norms = {f"l{place}": {"grad_xhat_norm": spread(10.0 ** (-1 - place))} for place in range(4)}
    plain = with_channels(**norms)
    assert "add skip connections" in sole(plain).fix
    assert "a factor 10 a layer" in sole(plain).message
    reads = ((), (LAYERS[0],), (LAYERS[1],), (LAYERS[1], LAYERS[2]))
    layers = tuple(replace(e, reads=r) for e, r in zip(plain.layers, reads, strict=True))
    assert "skip" not in sole(replace(plain, layers=layers)).fix


def test_growth_as_of_any_plain_network_at_its_start_is_told_only() -> None:
    many = [f"block{place}.bn" for place in range(60)]
    base = report().layers[0]
    assert isinstance(base.statistics, Channels)
    layers = tuple(
        replace(
            base,
            name=name,
            statistics=replace(base.statistics, grad_xhat_norm=spread(1.15 ** (60 - place))),
        )
        for place, name in enumerate(many)
    )
    found = sole(replace(report(), layers=layers))
    assert (found.rule, found.severity) == ("BN204", Severity.INFO)


@pytest.mark.parametrize(("ratio", "severity"), [(1.1, Severity.WARNING), (1.7, Severity.ERROR)])
def test_a_loss_far_above_guessing_is_an_error(ratio: float, severity: Severity) -> None:
    healthy = report()
    assert healthy.run is not None
    assert healthy.run.loss.guess is not None
    loss = replace(healthy.run.loss, value=spread(ratio * healthy.run.loss.guess, 0.01))
    subject = replace(healthy, run=replace(healthy.run, loss=loss))
    assert sole(subject).severity is severity


def test_rows_of_one_class_accuse_no_layer() -> None:
    sick = with_channels(l2={"mean_drift": uniform(2.0)})
    assert sick.run is not None
    loss = replace(sick.run.loss, guess=None)
    found = sole(replace(sick, run=replace(sick.run, loss=loss)))
    assert found.severity is Severity.INFO
    assert "rows of one class" in found.confidence
