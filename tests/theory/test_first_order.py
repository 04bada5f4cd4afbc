"""Every first-order number against the plain definitions, on nets that break naive captures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.records.layer import FirstOrder, Gain, LayerReport
from bnaudit.records.values import Skipped, Spread
from tests import nets, reference

pytestmark = pytest.mark.usefixtures("in_order")

NETS = [nets.PreActivation, nets.InPlace, nets.Shared, nets.Branching, nets.Plain]


class Capture:
    """x, z and their gradients at every call, by replacing F.batch_norm with elementary operations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Tensor, Tensor, Tensor, float]] = []

        def elementary(
            x: Tensor,
            running_mean: Tensor | None,
            running_var: Tensor | None,
            weight: Tensor | None = None,
            bias: Tensor | None = None,
            training: bool = False,
            momentum: float = 0.1,
            eps: float = 1e-5,
        ) -> Tensor:
            gamma = torch.ones(x.shape[1], dtype=x.dtype) if weight is None else weight
            beta = torch.zeros(x.shape[1], dtype=x.dtype) if bias is None else bias
            own = x * 1.0  # a tensor of its own: its gradient excludes the skip connection
            own.retain_grad()
            z = reference.batch_norm(own, gamma, beta, eps)
            z.retain_grad()
            self.calls.append((own, z, gamma.detach(), eps))
            return z * 1.0  # in-place activations overwrite this copy

        monkeypatch.setattr(torch.nn.functional, "batch_norm", elementary)


def measured(layer: LayerReport) -> FirstOrder:
    assert isinstance(layer.first_order, FirstOrder), layer.first_order
    return layer.first_order


def value(metric: object) -> float:
    assert isinstance(metric, Spread), metric
    return metric.median


@pytest.mark.parametrize("cls", NETS)
def test_every_number_matches_the_definitions(
    cls: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nets.make(cls).double()
    x = nets.inputs_for(cls).double()
    y = torch.arange(24) % 5
    report = bnaudit.audit(net, data=x, labels=y, batch_size=24, channels=True)

    capture = Capture(monkeypatch)
    torch.nn.functional.cross_entropy(net(x), y).backward()

    assert len(report.layers) == len(capture.calls)
    for layer, (own, z, gamma, eps) in zip(report.layers, capture.calls, strict=True):
        assert z.grad is not None
        assert own.grad is not None
        ref = reference.first_order(own, z.grad, gamma, eps)
        autograd_in = reference.columns(own.grad).norm(dim=0)
        order = measured(layer)
        out_sq, scaled = (ref.grad_out**2).sum(), (ref.gain**2 * ref.grad_out**2).sum()
        expected = {
            "predicted": ref.predicted.norm() / ref.grad_out.norm(),
            "measured": autograd_in.norm() / ref.grad_out.norm(),
            "scale": scaled / out_sq,
            "projection": (ref.grad_in**2).sum() / scaled,
            "removed_mean": (ref.gain**2 * ref.mean_term).sum() / scaled,
            "removed_xhat": (ref.gain**2 * ref.xhat_term).sum() / scaled,
            "grad_out_norm": ref.grad_out.norm(),
            "grad_in_norm": ref.grad_in.norm(),
        }
        for name, number in expected.items():
            assert value(getattr(order, name)) == pytest.approx(
                float(number), rel=1e-9, abs=1e-13
            ), (
                layer.label,
                name,
            )
        assert isinstance(order.residual, float)
        assert order.residual <= 1e-12
        assert not isinstance(layer.channel_values, Skipped)
        torch.testing.assert_close(
            torch.tensor(layer.channel_values.sigma, dtype=torch.float64), ref.sigma
        )
        torch.testing.assert_close(
            torch.tensor(layer.channel_values.leak, dtype=torch.float64), ref.leak
        )
        assert isinstance(layer.gain_batch, Gain)
        assert value(layer.gain_batch.maximum) == pytest.approx(float(ref.gain.max()), rel=1e-10)
        assert value(layer.gain_batch.fraction_le_1) == pytest.approx(
            float((ref.gain <= 1).double().mean())
        )


@pytest.mark.parametrize("cls", NETS)
@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-12), ("float32", 1e-5)])
def test_integrity_residual_is_rounding(cls: type[nn.Module], dtype: str, limit: float) -> None:
    report = bnaudit.audit(nets.make(cls), data=nets.inputs_for(cls), dtype=dtype)
    assert report.layers
    for layer in report.layers:
        residual = measured(layer).residual
        assert isinstance(residual, float)
        assert residual <= limit


@pytest.mark.parametrize("cls", NETS)
def test_finite_differences_agree_without_any_backward(cls: type[nn.Module]) -> None:
    report = bnaudit.audit(nets.make(cls), data=nets.inputs_for(cls), verify_gradients=-1)
    for layer in report.layers:
        difference = measured(layer).finite_difference
        assert isinstance(difference, bnaudit.records.layer.FiniteDifference), layer.label
        assert difference.relative_error < 1e-5, layer.label


def test_running_mode_projects_nothing() -> None:
    net = nets.make(nets.InPlace)
    report = bnaudit.audit(net, data=nets.inputs_for(nets.InPlace), mode="running", dtype="float64")
    bn = net.get_submodule("body.1")
    assert isinstance(bn, nn.BatchNorm2d)
    assert bn.running_var is not None
    order = measured(report.layers[0])
    assert order.statistics == "running"
    assert value(order.projection) == pytest.approx(1, abs=1e-12)
    assert value(order.removed_mean) == 0
    gain = (bn.weight.detach().abs() / (bn.running_var + bn.eps).sqrt()).double()
    assert isinstance(report.layers[0].gain_running, Gain)
    assert value(report.layers[0].gain_running.median) == pytest.approx(
        float(gain.quantile(0.5)), rel=1e-6
    )


def test_running_mode_matches_a_plain_eval_backward() -> None:
    net = nets.make(nets.InPlace).double()
    x = nets.inputs_for(nets.InPlace).double()
    y = torch.arange(24) % 5
    report = bnaudit.audit(net, data=x, labels=y, batch_size=24, mode="running")
    inputs: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        args[0].retain_grad()
        inputs.append(args[0])

    net.get_submodule("body.4").register_forward_pre_hook(keep)
    torch.nn.functional.cross_entropy(net(x), y).backward()
    assert inputs[0].grad is not None
    assert value(measured(report.layers[1]).grad_in_norm) == pytest.approx(
        float(inputs[0].grad.norm()), rel=1e-12
    )


def test_spread_is_over_the_batches() -> None:
    net = nets.make(nets.InPlace)
    x = nets.inputs_for(nets.InPlace, rows=96)
    y = torch.arange(96) % 5
    whole = bnaudit.audit(net, data=x, labels=y, batch_size=24, dtype="float64")
    ratios = torch.tensor(
        [
            value(
                measured(
                    bnaudit.audit(net, data=p, labels=q, batch_size=24, dtype="float64").layers[0]
                ).measured
            )
            for p, q in zip(x.split(24), y.split(24), strict=True)
        ],
        dtype=torch.float64,
    )
    spread = measured(whole.layers[0]).measured
    assert isinstance(spread, Spread)
    assert spread.n == 4
    assert spread.median == pytest.approx(float(ratios.quantile(0.5)))
    assert spread.q25 == pytest.approx(float(ratios.quantile(0.25)))
    assert spread.q75 == pytest.approx(float(ratios.quantile(0.75)))


class Cusp(nn.Module):
    """A finite loss whose gradient is not: the square root at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        z = self.bn(x)
        return (z * (z > 0)).sqrt()


def test_gradients_that_are_not_finite_are_not_taken_for_zero() -> None:
    net = Cusp()
    report = bnaudit.audit(net, data=torch.randn(64, 4), metrics=("first_order",))
    order = report.layers[0].first_order
    assert isinstance(order, bnaudit.records.values.Skipped)
    assert "not finite" in order.reason
    assert report.exit_code == 4


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_channel_that_is_constant_at_no_round_number(dtype: str, seed: int) -> None:
    """Its mean is an ulp off: what is left of x is no direction that the gradient loses."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(4, dtype=torch.float64, generator=generator).mul(10).expand(7, 4).clone()
    x[:, 0] = torch.randn(7, dtype=torch.float64, generator=generator)
    net = nets.randomise(nn.Sequential(nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)), seed)
    report = bnaudit.audit(net.double(), data=x, dtype=dtype, batch_size=7, batches=1)
    order = measured(report.layers[0])
    assert isinstance(order.residual, float)
    assert isinstance(order.tolerance, float)
    assert order.residual < order.tolerance / 10
    rel = 1e-6 if dtype == "float32" else 1e-12
    assert value(order.predicted) == pytest.approx(value(order.measured), rel=rel)
    assert not [f for f in report.findings if f.rule == "BN101"]
