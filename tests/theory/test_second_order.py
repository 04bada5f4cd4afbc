"""The second-order theorem against Hessians formed entry by entry, and on nets drawn at random."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bnaudit
from bnaudit.records.curvature import SecondOrder
from bnaudit.records.values import Skipped, Spread
from tests import nets, reference

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parents[2] / "fixtures"


def value(metric: object) -> float:
    assert isinstance(metric, Spread), metric
    return metric.median


def hessian(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """The full matrix of second derivatives, flattened."""
    size = at.numel()
    return torch.autograd.functional.hessian(function, at).reshape(size, size)


class Head(nn.Module):
    """One BatchNorm in front of something curved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels, eps=0.05)
        self.fc = nn.Linear(channels, 3)

    def after(self, z: Tensor) -> Tensor:
        return self.fc(torch.tanh(z))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.bn(x))


@pytest.mark.parametrize("seed", range(4))
def test_every_term_matches_full_hessians(seed: int) -> None:
    torch.manual_seed(seed)
    net = nets.randomise(Head(3).double(), seed)
    assert isinstance(net, Head)
    x = torch.randn(6, 3, dtype=torch.float64)
    y = torch.arange(6) % 3
    gamma, beta = net.bn.weight.detach(), net.bn.bias.detach()

    def loss_of_z(z: Tensor) -> Tensor:
        return nn.functional.cross_entropy(net.after(z), y)

    def loss_of_x(x: Tensor) -> Tensor:
        return loss_of_z(reference.batch_norm(x, gamma, beta, 0.05))

    z = reference.batch_norm(x, gamma, beta, 0.05)
    g = torch.autograd.functional.jacobian(loss_of_x, x).reshape(-1)
    big_g = torch.autograd.functional.jacobian(loss_of_z, z).reshape(-1)
    hx, hz = hessian(loss_of_x, x), hessian(loss_of_z, z)
    jacobian = torch.autograd.functional.jacobian(
        lambda t: reference.batch_norm(t, gamma, beta, 0.05), x
    ).reshape(18, 18)
    transported = jacobian @ g
    measured = float(g @ hx @ g)
    moved = float(transported @ hz @ transported)

    report = bnaudit.audit(net, data=x, labels=y, batch_size=6, channels=True)
    order = report.layers[0].second_order
    assert isinstance(order, SecondOrder)
    assert value(order.measured) == pytest.approx(measured, rel=1e-9)
    assert value(order.transported) == pytest.approx(moved, rel=1e-9)
    assert value(order.correction) == pytest.approx(measured - moved, rel=1e-7)
    assert value(order.rayleigh) == pytest.approx(measured / float(g @ g), rel=1e-9)
    sigma = ((x - x.mean(0)) ** 2).mean(0).add(0.05).sqrt()
    gain_sq = (gamma / sigma) ** 2
    rows = big_g.reshape(6, 3) * (hz @ big_g).reshape(6, 3)
    correction = (g * (hx @ g) - transported * (hz @ transported)).reshape(6, 3).sum(0)
    bound = gain_sq * rows.sum(0) + correction
    assert value(order.bound) == pytest.approx(float(bound.sum()), rel=1e-7)
    by_row = (g * (hx @ g)).reshape(6, 3).sum(0)
    assert value(order.bound_holds) == pytest.approx(float((by_row <= bound).double().mean()))
    assert not isinstance(order.rows, Skipped)
    for found, m, b in zip(order.rows, by_row.tolist(), bound.tolist(), strict=True):
        assert found.measured == pytest.approx(m, rel=1e-8)
        assert found.predicted == pytest.approx(m, rel=1e-8)
        assert found.bound == pytest.approx(b, rel=1e-7)
    scale = float((gain_sq * (big_g.reshape(6, 3) ** 2).sum(0)).sum() / (big_g @ big_g))
    expected = scale * float(big_g @ hz @ big_g) / float(big_g @ big_g)
    assert value(order.rayleigh_scaled) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "cls", [nets.PreActivation, nets.InPlace, nets.Shared, nets.Branching, nets.Plain]
)
def test_nets_that_break_naive_captures(cls: type[nn.Module]) -> None:
    report = bnaudit.audit(nets.make(cls), data=nets.inputs_for(cls), dtype="float64")
    for layer in report.layers:
        assert isinstance(layer.second_order, SecondOrder), (layer.label, layer.second_order)
        assert isinstance(layer.second_order.residual, float)
        assert layer.second_order.residual <= 1e-10
        assert isinstance(layer.second_order.measured, Spread)


ACTIVATIONS = (nn.ReLU, nn.SiLU, nn.GELU, nn.Tanh, nn.Hardswish, nn.Sigmoid)


@st.composite
def drawn_nets(draw: st.DrawFn) -> nn.Module:
    """Convolutions of all kinds, BatchNorm before or after the activation, skips or none."""
    torch.manual_seed(draw(st.integers(0, 1000)))
    layers: list[nn.Module] = []
    channels = 2
    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from([1, 2]))
        kernel = draw(st.sampled_from([1, 3]))
        stride = draw(st.sampled_from([1, 2]))
        dilation = draw(st.sampled_from([1, 2]))
        layers.append(
            nn.Conv2d(
                channels, 4, kernel, stride, kernel // 2 * dilation, dilation, groups, bias=False
            )
        )
        channels = 4
        activation = draw(st.sampled_from(ACTIVATIONS))()
        norm = nn.BatchNorm2d(4)
        layers += [norm, activation] if draw(st.booleans()) else [activation, norm]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    return nets.randomise(nn.Sequential(*layers), draw(st.integers(0, 1000)))


@given(drawn_nets())
@settings(max_examples=25, deadline=None)
def test_nets_drawn_at_random(net: nn.Module) -> None:
    x = torch.randn(8, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    report = bnaudit.audit(net, data=x, labels=torch.arange(8) % 3, dtype="float64")
    for layer in report.layers:
        if isinstance(layer.second_order, Skipped):
            continue
        assert isinstance(layer.second_order.residual, float)
        # Hardswish's kinks are not in reach of a double backward either way: both sides see them.
        assert layer.second_order.residual <= 1e-10, layer.label


@pytest.mark.parametrize("file", ["model.onnx", "dynamo.onnx", "scripted.pt", "traced.pt"])
@pytest.mark.parametrize("net", ["digits_resnet", "tabular_mlp"])
@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-10), ("float32", 1e-4)])
def test_residuals_on_the_fixtures(net: str, file: str, dtype: str, limit: float) -> None:
    folder = FIXTURES / net
    report = bnaudit.audit(folder / file, data=str(folder / "batch.npz"), dtype=dtype)
    for layer in report.layers:
        assert isinstance(layer.second_order, SecondOrder)
        assert isinstance(layer.second_order.residual, float)
        assert layer.second_order.residual <= limit


def test_bfloat16_and_running_mode_are_skipped() -> None:
    net, x = nets.make(nets.InPlace), nets.inputs_for(nets.InPlace)
    half = bnaudit.audit(net, data=x, dtype="bfloat16").layers[0].second_order
    assert isinstance(half, Skipped)
    assert "bfloat16" in half.reason
    running = bnaudit.audit(net, data=x, mode="running").layers[0].second_order
    assert isinstance(running, Skipped)
    assert "batch statistics" in running.reason


def test_a_gradient_that_is_all_rounding_is_skipped() -> None:
    """BatchNorm last in front of a scale-free loss: G lies along xhat, nothing survives in float32."""
    net = nn.Sequential(nn.BatchNorm1d(4))
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    report = bnaudit.audit(net, data=x, loss=lambda y, _: 0.5 * (y**2).mean(), batch_size=64)
    order = report.layers[0].second_order
    assert isinstance(order, Skipped)
    assert "rounding" in order.reason


class Once(torch.autograd.Function):
    """Differentiable once only."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        return grad.clone()


class OnceNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        apply: Callable[[Tensor], Tensor] = Once.apply
        return apply(self.bn(x)) ** 2


def test_a_model_that_cannot_be_differentiated_twice_keeps_its_first_order() -> None:
    report = bnaudit.audit(OnceNet(), data=torch.randn(32, 6))
    order = report.layers[0].second_order
    assert isinstance(order, Skipped)
    assert "only once" in order.reason
    assert report.layers[0].measured


def test_curvature_beyond_float32_is_skipped_not_called_wrong() -> None:
    torch.manual_seed(0)
    net = nets.randomise(Head(3), 0)
    x = torch.randn(64, 3)
    options: dict[str, Any] = {"data": x, "metrics": ("second_order",), "batches": 2}
    (usual,) = bnaudit.audit(net, loss=lambda out, _: out.square().mean(), **options).layers
    (tiny,) = bnaudit.audit(net, loss=lambda out, _: 1e-20 * out.square().mean(), **options).layers
    assert isinstance(usual.second_order, SecondOrder)
    assert isinstance(tiny.second_order, Skipped)
    assert "float64" in tiny.second_order.reason
