"""The sweep against double backward, and what it does where it cannot go."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.errors import UsageError
from bnaudit.judge.verdicts import judge
from bnaudit.measure.sweep import closed_form, plan, play, pointwise
from bnaudit.records.curvature import SecondOrder, Verification
from bnaudit.records.layer import FirstOrder, ForwardMode
from bnaudit.records.values import Skipped, Spread
from tests import nets
from tests.theory import sweep_nets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bnaudit.measure.sweep.play import Site
    from bnaudit.records.report import Report

FIELDS = ("measured", "predicted", "transported", "correction", "rayleigh")
BOUND = ("rayleigh_scaled", "bound", "bound_slack")

DETAILS: dict[str, dict[str, object]] = {
    "curvature": {"metrics": "second_order", "channels": False},
    "bound": {"metrics": "second_order_bound", "channels": False},
    "channels": {"metrics": "second_order", "channels": True},
}
in_every_detail = pytest.mark.parametrize("detail", DETAILS)


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small nets would go to double backward."""
    monkeypatch.setattr("bnaudit.measure.second_order_sweep.sweep_pays", lambda *_: True)


def by_double_backward(monkeypatch: pytest.MonkeyPatch, net: object, x: object) -> Report:
    with monkeypatch.context() as patch:
        patch.setattr("bnaudit.measure.second_order_sweep.sweep_pays", lambda *_: False)
        return audited(net, x)


def audited(net: object, x: object, **options: object) -> Report:
    given = {"dtype": "float64", "batches": 1, "batch_size": 6, **DETAILS["channels"], **options}
    return bnaudit.audit(net, data=x, **given)  # type: ignore[arg-type]


def orders(report: Report) -> list[SecondOrder]:
    found = [layer.second_order for layer in report.layers]
    assert all(isinstance(order, SecondOrder) for order in found), found
    return [order for order in found if isinstance(order, SecondOrder)]


def value(metric: object) -> float:
    assert isinstance(metric, Spread), metric
    return metric.median


def agree(ours: Report, theirs: Report, tolerance: float = 1e-9) -> None:
    assert len(ours.layers) == len(theirs.layers) > 0
    for a, b in zip(orders(ours), orders(theirs), strict=True):
        by_channel = not isinstance(a.rows, Skipped)
        assert a.method == ("hessian_vector" if by_channel else "sweep")
        assert b.method == "double_backward"
        scale = abs(value(b.transported)) + abs(value(b.correction))
        bounded = not isinstance(a.bound, Skipped)
        for name in (
            *FIELDS,
            *(BOUND if bounded else ()),
            *(("bound_holds",) if by_channel else ()),
        ):
            x, y = value(getattr(a, name)), value(getattr(b, name))
            floor = scale if name in ("measured", "predicted") else 0.0
            assert x == pytest.approx(y, rel=tolerance, abs=tolerance * floor), name
        if isinstance(a.rows, Skipped):
            assert isinstance(a.bound_holds, Skipped)
            assert ("--channels" if bounded else "not requested") in a.bound_holds.reason
            continue
        assert not isinstance(b.rows, Skipped)
        rows = torch.tensor([*map(astuple, a.rows)]), torch.tensor([*map(astuple, b.rows)])
        largest = rows[1].abs().max()
        assert rows[0].shape == rows[1].shape
        assert float((rows[0] - rows[1]).abs().max()) <= tolerance * float(largest)


@in_every_detail
@pytest.mark.parametrize("cls", [*sweep_nets.IMAGES, *sweep_nets.SEQUENCES])
def test_agrees_with_double_backward(
    cls: type[nn.Module], detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = nets.make(cls).double(), sweep_nets.inputs_for(cls)
    agree(audited(net, x, **DETAILS[detail]), by_double_backward(monkeypatch, net, x))


@in_every_detail
@pytest.mark.parametrize(
    "cls", [nets.PreActivation, nets.InPlace, nets.Shared, nets.Branching, nets.Plain]
)
def test_agrees_on_nets_that_break_naive_captures(
    cls: type[nn.Module], detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = nets.make(cls).double(), nets.inputs_for(cls)
    agree(audited(net, x, **DETAILS[detail]), by_double_backward(monkeypatch, net, x))


@in_every_detail
@pytest.mark.parametrize("script", [True, False])
def test_agrees_on_torchscript(
    script: bool, detail: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    net, x = nets.make(sweep_nets.Swish), sweep_nets.inputs_for(sweep_nets.Swish)
    module = torch.jit.script(net) if script else torch.jit.trace(net, x)
    path = tmp_path / "net.pt"
    torch.jit.save(module, path)
    agree(audited(path, x, **DETAILS[detail]), by_double_backward(monkeypatch, path, x))


@in_every_detail
def test_labels_and_every_loss(detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = nets.make(sweep_nets.Branches).double(), sweep_nets.inputs_for(sweep_nets.Branches)
    labels = {
        "cross_entropy": torch.arange(6) % 5,
        "mse": torch.randn(6, 5),
        "bce": torch.rand(6, 5),
    }
    for loss, y in labels.items():
        ours = audited(net, x, labels=y, loss=loss, **DETAILS[detail])
        with monkeypatch.context() as patch:
            patch.setattr("bnaudit.measure.second_order_sweep.sweep_pays", lambda *_: False)
            agree(ours, audited(net, x, labels=y, loss=loss))


@in_every_detail
@pytest.mark.parametrize("memory", [1, "1GB"])
def test_chunks_change_nothing(
    memory: object, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    whole = plan.chunks

    def counted(*given: object, **options: object) -> object:
        found = whole(*given, **options)  # type: ignore[arg-type]
        seen.append(len(found))
        return found

    monkeypatch.setattr("bnaudit.measure.second_order_sweep.chunks", counted)
    net, x = nets.make(sweep_nets.Dense).double(), sweep_nets.inputs_for(sweep_nets.Dense)
    agree(
        audited(net, x, memory=memory, **DETAILS[detail]), by_double_backward(monkeypatch, net, x)
    )
    assert seen[0] == {1: 3, "1GB": 1}[memory]


@pytest.mark.parametrize("memory", ["much", 0, "-1GB", True])
def test_memory_that_is_no_size(memory: object) -> None:
    with pytest.raises(UsageError, match="memory"):
        bnaudit.AuditOptions(memory=memory)  # type: ignore[arg-type]


def test_forward_mode_is_a_second_measurement() -> None:
    net, x = nets.make(sweep_nets.UNet).double(), sweep_nets.inputs_for(sweep_nets.UNet)
    for layer in audited(net, x).layers:
        order = layer.first_order
        assert isinstance(order, FirstOrder)
        assert isinstance(order.forward_mode, ForwardMode)
        assert order.forward_mode.relative_error < 1e-10
        assert order.forward_mode.measured == pytest.approx(value(order.measured), rel=1e-10)


def test_forward_mode_says_why_not() -> None:
    net, x = nets.make(nets.InPlace), nets.inputs_for(nets.InPlace)
    for options, reason in (
        ({"metrics": ()}, "not requested"),
        ({"mode": "running"}, "batch statistics"),
    ):
        order = bnaudit.audit(net, data=x, **options).layers[0].first_order
        assert isinstance(order, FirstOrder)
        assert isinstance(order.forward_mode, Skipped)
        assert reason in order.forward_mode.reason


def test_float32_is_near_float64() -> None:
    net, x = nets.make(sweep_nets.Swish), sweep_nets.inputs_for(sweep_nets.Swish)
    wide = audited(net, x, channels=False)
    narrow = audited(net, x, channels=False, dtype="float32")
    for a, b in zip(orders(narrow), orders(wide), strict=True):
        assert a.method == "sweep"
        assert value(a.transported) == pytest.approx(value(b.transported), rel=1e-3)


@pytest.mark.parametrize("cls", [*sweep_nets.IMAGES, *sweep_nets.SEQUENCES])
def test_the_first_batch_runs_once(cls: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first order recorded serves the second: a second recording would be a waste."""
    monkeypatch.setattr("bnaudit.measure.sweep.run._record", None)
    net, x = nets.make(cls), sweep_nets.inputs_for(cls)
    calls: list[int] = []
    net.register_forward_hook(lambda *_: calls.append(1))
    assert {order.method for order in orders(audited(net, x, channels=False))} == {"sweep"}
    assert len(calls) == 2  # and once to see what the loss is taken of


class Doubling(torch.autograd.Function):
    """Says that its derivative is twice what it is."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return 2 * grad


class HalfCustom(nn.Module):
    """A function of the model's own between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.a = nn.BatchNorm1d(6), nn.Linear(6, 6)
        self.bn2, self.b = nn.BatchNorm1d(6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(self.bn1(x)))
        custom: object = Doubling.apply(x)  # type: ignore[no-untyped-call]
        assert isinstance(custom, Tensor)
        return self.b(torch.tanh(self.bn2(custom)))


class Overwrites(nn.Module):
    """Changes a tensor through one view of it and reads it through another."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        self.a, self.fc = nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(torch.tanh(self.bn1(x)))
        x[:, :2] *= 2
        return self.fc(torch.tanh(self.bn2(x)))


class Noisy(nn.Module):
    """Draws noise with a derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F_rrelu(self.bn1(x))
        return self.fc(torch.tanh(self.bn2(x)))


def F_rrelu(x: Tensor) -> Tensor:
    return torch.nn.functional.rrelu(x, training=True)


@pytest.mark.parametrize(
    ("cls", "reason"),
    [(HalfCustom, "autograd function"), (Overwrites, "view"), (Noisy, "rrelu")],
)
def test_layers_that_cannot_be_swept_go_to_double_backward(
    cls: type[nn.Module], reason: str
) -> None:
    net = nets.make(cls).double()
    x = torch.randn(6, 6, dtype=torch.float64)
    first, second = audited(net, x, channels=False).layers
    assert isinstance(first.second_order, SecondOrder)
    assert isinstance(second.second_order, SecondOrder)
    assert first.second_order.method == "double_backward"
    assert second.second_order.method == "sweep"
    assert isinstance(first.first_order, FirstOrder)
    assert isinstance(first.first_order.forward_mode, Skipped)
    assert reason in first.first_order.forward_mode.reason


@in_every_detail
def test_verification_compares_both_ways(detail: str) -> None:
    net, x = nets.make(sweep_nets.SqueezeExcite), sweep_nets.inputs_for(sweep_nets.SqueezeExcite)
    report = audited(net, x, dtype="float32", verify_second_order=2, **DETAILS[detail])
    asked = [order.verification for order in orders(report)]
    assert isinstance(asked[1], Skipped)
    for verification in (asked[0], asked[2]):
        assert isinstance(verification, Verification)
        assert verification.relative_difference < 1e-9
    assert not [f for f in report.findings if f.rule == "BN105"]


def test_a_sweep_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = nets.make(nets.InPlace), nets.inputs_for(nets.InPlace)
    report = audited(net, x, verify_second_order="all")
    layer = report.layers[0]
    assert isinstance(layer.second_order, SecondOrder)
    bad = replace(layer.second_order, verification=Verification(1e-3, 1e-6))
    sick = replace(report, layers=(replace(layer, second_order=bad), *report.layers[1:]))
    (finding,) = [f for f in judge(sick).findings if f.rule == "BN105"]
    assert finding.layer == layer.label
    assert finding.observed == 1e-3


@in_every_detail
def test_a_wrong_rule_does_not_pass_unseen(detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep's own checks: a slope that is off sends the layers in front to double backward."""
    right = pointwise.scaled
    monkeypatch.setattr(pointwise, "scaled", lambda t, slope: right(t, slope) * 1.5)
    net = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.Hardtanh(), nn.Flatten())
    x = torch.randn(6, 2, 6, 6)
    (layer,) = audited(nets.randomise(net).double().eval(), x, **DETAILS[detail]).layers
    assert isinstance(layer.second_order, SecondOrder)
    assert layer.second_order.method == "double_backward"
    assert isinstance(layer.first_order, FirstOrder)
    assert isinstance(layer.first_order.forward_mode, Skipped)
    assert "slope in forward mode is off by" in layer.first_order.forward_mode.reason


def test_few_calls_go_to_double_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    net = nets.make(nets.Branching)
    (order,) = orders(audited(net, nets.inputs_for(nets.Branching)))
    assert order.method == "double_backward"


@pytest.mark.parametrize("detail", ["curvature", "bound"])
def test_a_deep_net_is_swept_by_the_estimate(detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    layers = [module for _ in range(8) for module in nets_of(8)]
    net = nets.randomise(nn.Sequential(*layers, nn.Flatten()))
    x = torch.randn(6, 8, 8, 8)
    methods = {
        order.method for order in orders(audited(net, x, dtype="float32", **DETAILS[detail]))
    }
    assert methods == {"sweep"}


def nets_of(width: int) -> list[nn.Module]:
    """A convolution, its BatchNorm and what follows it."""
    return [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]


def test_stacks_keep_the_channels_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """One operator that hands a contiguous stack on makes everything behind it several times slower."""
    seen: list[bool] = []
    real = closed_form.project_and_bend

    def watched(t: Tensor, *rest: object) -> Tensor:
        seen.append(bool(t.movedim(2, -1).is_contiguous()))
        return real(t, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(play, "project_and_bend", watched)
    net = nets.randomise(Pooled()).eval()
    orders(audited(net, torch.randn(6, 8, 16, 16), channels=False))
    assert len(seen) == 3
    assert all(seen)


class Pooled(nn.Module):
    """Max pooling, concatenation and a convolution over a small image between the layers."""

    def __init__(self) -> None:
        super().__init__()
        self.bns = nn.ModuleList(nn.BatchNorm2d(c) for c in (8, 8, 16, 16))
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.bns[0](x)), 4)
        y = nn.functional.max_pool2d(self.a(torch.relu(self.bns[1](x))), 2)
        z = torch.cat([y, y.flip(0)], 1)
        return self.bns[3](self.b(torch.relu(self.bns[2](z)))).square().flatten(1)


def test_rounding_is_found_before_the_long_ways_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[str] = []
    real = play.carry_forwards

    def watched(tape: object, dead: object, sites: Sequence[Site], pairs: object) -> object:
        walked.extend(site.key[0] for site in sites)
        return real(tape, dead, sites, pairs)  # type: ignore[arg-type]

    monkeypatch.setattr("bnaudit.measure.second_order_sweep.carry_forwards", watched)
    last = nn.Linear(8 * 4 * 4, 5)
    nn.init.constant_(last.weight, 0.02)
    nn.init.constant_(last.bias, 0.0)
    body = nn.Sequential(*nets_of(8), *nets_of(8), *nets_of(8), nn.Flatten())
    net = nn.Sequential(nets.randomise(body), last, nn.Softmax(-1), nn.ReLU())
    x = torch.randn(6, 8, 4, 4)
    report = audited(net, x, dtype="float32", channels=False, memory=1)
    assert {type(layer.second_order) for layer in report.layers} == {Skipped}
    assert walked == [report.layers[-1].name]


def test_a_gradient_that_rounding_left_has_no_curvature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Softmax of equal logits, not at the end: the gradient cancels to the last bits of its terms."""
    monkeypatch.setattr("bnaudit.measure.second_order_sweep.sweep_pays", lambda *_: True)
    last = nn.Linear(3 * 4 * 4, 5)
    nn.init.constant_(last.weight, 0.02)
    nn.init.constant_(last.bias, 0.0)
    body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
    net = nn.Sequential(nets.randomise(body), last, nn.Softmax(-1), nn.ReLU())
    (layer,) = audited(net, torch.randn(6, 2, 6, 6), dtype="float32").layers
    assert isinstance(layer.second_order, Skipped)
    assert "rounding" in layer.second_order.reason or "zero" in layer.second_order.reason
