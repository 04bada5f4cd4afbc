"""Which layers are measured, and which are not and why."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bnaudit import audit
from bnaudit.measure.weight_space import bound
from bnaudit.measure.weight_space.unfolded import UnfoldedConvolution
from bnaudit.records.values import Skipped
from tests.theory import weight_space_nets as nets
from tests.theory.weight_space_reference import numbers, only, reason, run

X = torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(0))


def build(cls: type[nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    net = cls()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
    return net.eval()


REASONS = [
    (nets.Residual, "a sum of several computed tensors (a residual connection)"),
    (nets.Concatenation, "fed by a concatenation,"),
    (nets.Pooled, "fed by a pooling layer,"),
    (nets.Activated, "fed by an activation,"),
    (nets.Scaled, "fed by a multiplication,"),
    (nets.Subtracted, "a scaled difference"),
    (nets.Cut, "a part of a tensor"),
    (nets.Attention, "a batched matrix product"),
    (nets.Frozen, "the weight of the Conv2d in front is a constant"),
    (nets.Detached, "the network's input or a constant"),
    (nets.Reshaped, "its channels are not the output channels of Linear a.weight"),
    (nets.Broadcast, "Conv2d b.weight is broadcast"),
    (nets.AlsoRead, "something besides this layer reads the output of Conv2d a.weight"),
    (nets.Checkpointed, "inside activation checkpointing"),
]


@pytest.mark.parametrize(("cls", "text"), REASONS)
def test_skipped_with_the_reason(cls: type[nn.Module], text: str) -> None:
    assert text in reason(run(build(cls), X), "bn")


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (nets.NoGrad, "without autograd (no_grad)"),
        (nets.Unused, "no gradient reaches this layer"),
    ],
)
def test_a_layer_without_a_gradient_says_why(cls: type[nn.Module], text: str) -> None:
    report = audit(build(cls), data=X, metrics=("weight_space", "second_order"))
    (layer,) = [layer for layer in report.layers if layer.name == "bn"]
    for record in (layer.weight_space, layer.second_order):
        assert isinstance(record, Skipped)
        assert text in record.reason


def test_batchnorm_on_the_input() -> None:
    net = nn.Sequential(
        nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(27, 3)
    )
    results = run(net, X)
    assert "the network's input" in reason(results, "0")
    assert not isinstance(results["2", 1], Skipped)


def test_batchnorm_on_another_batchnorm() -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(27, 3)
    )
    assert "another BatchNorm" in reason(run(net, X), "2")


@pytest.mark.parametrize("rows", [1, 2])
def test_too_few_values_for_a_first_order_have_no_bound(rows: int) -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    assert not run(net, torch.randn(rows, 4))
    (layer,) = audit(net, data=torch.randn(rows, 4), metrics=("weight_space",)).layers
    assert isinstance(layer.weight_space, Skipped)
    assert "m is too small" in layer.weight_space.reason


def test_running_statistics() -> None:
    assert "batch statistics" in reason(run(build(nets.Base), X, mode="running"), "bn")


def test_constant_addends_change_nothing() -> None:
    net = build(nets.AddedConstant)
    plain = nets.Base()
    plain.load_state_dict(net.state_dict(), strict=False)
    space, expected = (only(run(n.eval(), X)) for n in (net, plain))
    assert space.feeder == "Conv2d a.weight"
    assert numbers(space) == pytest.approx(numbers(expected), rel=1e-9)


def test_computed_weights_are_measured_as_they_are_used() -> None:
    net = build(nets.Standardised)
    assert isinstance(net, nets.Standardised)
    space = only(run(net, X))
    assert space.feeder == "Conv2d (weight computed from a.weight)"
    w = net.a.weight.detach()
    net_plain = nets.Base()
    net_plain.load_state_dict(net.state_dict())
    with torch.no_grad():
        net_plain.a.weight.copy_(
            (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
        )
    # Standardised in float32 here and in float64 there.
    assert numbers(space) == pytest.approx(numbers(only(run(net_plain.eval(), X))), rel=1e-5)


@pytest.mark.parametrize(
    "norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_parametrised_weights(norm: object) -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 6))
    assert callable(norm)
    net.append(norm(nn.Linear(6, 5))).append(nn.BatchNorm1d(5)).append(nn.Linear(5, 3))
    norm(net[0])
    results = run(net, X)
    for key, kind in ((("1", 1), "Conv2d"), (("5", 1), "Linear")):
        space = results[key]
        assert not isinstance(space, Skipped), space
        assert space.feeder.startswith(f"{kind} (weight computed from ")
        assert "parametrizations.weight.original" in space.feeder
        assert isinstance(space.residual, float)
        assert space.residual <= 1e-10
        assert space.violations == 0


def test_masked_weight_behind_integers() -> None:
    space = only(run(build(nets.Masked), torch.arange(30).view(10, 3) % 7))
    assert space.feeder == "Linear (weight computed from fc.weight)"
    assert space.violations == 0


def test_an_expanded_weight_is_not_the_parameter() -> None:
    class Expanded(nets.Base):
        def feed(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x, self.a.weight[:1].expand(4, 2, 3, 3))

    class Repeated(nets.Base):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(1, 2, 3, 3))

        def feed(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x, self.kernel.expand(4, 2, 3, 3))

    assert only(run(build(Expanded), X)).feeder == "Conv2d (weight computed from a.weight)"
    assert only(run(build(Repeated), X)).feeder == "Conv2d (weight computed from kernel)"


def test_half_precision() -> None:
    narrow = only(run(build(nets.Base), X, dtype="bfloat16"))
    assert isinstance(narrow.residual, float)
    assert narrow.residual <= narrow.tolerance
    assert narrow.violations == 0
    wide = only(run(build(nets.Base), X))
    assert numbers(narrow) == pytest.approx(numbers(wide), rel=0.1)


def test_values_that_are_not_finite() -> None:
    class Infinite(nets.Base):
        def feed(self, x: Tensor) -> Tensor:
            return self.a(x) + torch.tensor([1.0, 1.0, 1.0, torch.inf]).view(-1, 1, 1)

        def finish(self, z: Tensor) -> Tensor:
            return super().finish(torch.nan_to_num(z))

    assert "not finite" in reason(run(build(Infinite), X), "bn")


def test_tied_weights_are_told_apart() -> None:
    """dL/dW of a shared weight is a sum; each record holds the part of its own call."""
    net = build(nets.Tied).double()
    assert isinstance(net, nets.Tied)
    results = run(net, X)
    copies = [net.a.weight.detach().clone().requires_grad_() for _ in range(2)]
    net.train()
    h = X.double()
    for bn, w in zip((net.bn1, net.bn2), copies, strict=True):
        h = torch.tanh(bn(nn.functional.conv2d(h, w, net.a.bias, padding=1)))
    loss = nn.functional.cross_entropy(net.head(h.mean((2, 3))), torch.arange(6) % 3)
    for name, gradient in zip(("bn1", "bn2"), torch.autograd.grad(loss, copies), strict=True):
        space = results[name, 1]
        assert not isinstance(space, Skipped)
        assert space.feeder == "Conv2d a.weight"
        assert numbers(space)["grad_norm"] == pytest.approx(float(gradient.norm()), rel=1e-9)
        assert isinstance(space.residual, float)
        assert space.residual <= 1e-10


def test_gradient_of_zero() -> None:
    net = build(nets.Base)
    assert isinstance(net, nets.Base)
    nn.init.zeros_(net.head.weight)
    space = only(run(net, X))
    for metric in (space.tightness, space.weight_ratio, space.projection, space.violations):
        assert isinstance(metric, Skipped)
    assert space.residual == 0


def test_gamma_of_zero() -> None:
    net = build(nets.Base)
    assert isinstance(net, nets.Base)
    with torch.no_grad():
        net.bn.weight[:2] = 0
    found = numbers(only(run(net, X)))
    assert 0 < found["tightness"] < 1
    nn.init.zeros_(net.bn.weight)
    assert isinstance(only(run(net, X)).projection, Skipped)


@pytest.mark.parametrize("method", ["apply", "adjoint"])
def test_a_wrong_operator_is_withheld(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    right = getattr(UnfoldedConvolution, method)
    monkeypatch.setattr(UnfoldedConvolution, method, lambda self, t: right(self, t) * (1 + 1e-6))
    space = only(run(build(nets.Base), X))
    assert isinstance(space.residual, float)
    assert space.residual > space.tolerance
    assert isinstance(space.weight_ratio, Skipped)
    assert "disagree" in space.weight_ratio.reason


def test_violations_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bound.SLACK, torch.float64, -1.0)
    assert only(run(build(nets.Base), X)).violations == 4
