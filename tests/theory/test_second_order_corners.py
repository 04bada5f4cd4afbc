"""The second order where models do what few do: in every detail, against double backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils.checkpoint import checkpoint

from bnaudit.errors import RunError
from bnaudit.records.curvature import SecondOrder
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Skipped
from tests import nets
from tests.theory.test_second_order_sweep import (
    DETAILS,
    agree,
    audited,
    by_double_backward,
    in_every_detail,
    orders,
    value,
)

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.layer import LayerReport


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small nets would go to double backward."""
    monkeypatch.setattr("bnaudit.measure.second_order_sweep.sweep_pays", lambda *_: True)


class Rows(nn.Module):
    """Rows of features through a BatchNorm, something that the test is about, and another one."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        self.a, self.fc = nn.Linear(6, 6), nn.Linear(6, 5)

    def between(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.bn2(self.a(self.between(torch.tanh(self.bn1(x)))))))


class Halves(Rows):
    """Every second BatchNorm reads a slice of what another made."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.BatchNorm1d(3), nn.BatchNorm1d(3)

    def between(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return torch.cat((self.left(left), torch.tanh(self.right(right))), 1)


class Copies(Rows):
    """Copies over tensors: of what has a tangent, and over what has one."""

    def between(self, x: Tensor) -> Tensor:
        kept, lost = torch.empty_like(x), x.clone()
        kept.copy_(x)
        lost.copy_(torch.arange(6.0))
        return kept * lost


class Lengths(Rows):
    """Divides by integers."""

    def between(self, x: Tensor) -> Tensor:
        return x / torch.tensor([3, 7, 11, 13, 17, 19])


class Zeroed(Rows):
    """Divides by nothing, in a branch that the loss does not use."""

    def between(self, x: Tensor) -> Tensor:
        self.unused = x * 2 / 0
        return x


class Turned(Rows):
    """Turns a tensor in place: the operator that does not has another overload's name."""

    def between(self, x: Tensor) -> Tensor:
        return torch.sigmoid((x * 2).pow_(2).transpose_(0, 1))


class Vectors(Rows):
    """Products of matrices and vectors, the tangent in either."""

    def between(self, x: Tensor) -> Tensor:
        matrix = torch.arange(36.0, dtype=x.dtype).view(6, 6) / 36
        return x * (matrix @ x[0]) + (torch.tanh(x) @ matrix[1])


class Softened(Rows):
    """Softmax of either kind, over the first axis, the last, and one between."""

    def between(self, x: Tensor) -> Tensor:
        y = x.softmax(0) * x.view(6, 2, 3).log_softmax(1).view(6, 6)
        return y + (3 * x).softmax(-1).square()


class Grouped(Rows):
    """LayerNorm over one axis and over two, GroupNorm with weights and without."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.group = nn.LayerNorm((2, 3)), nn.GroupNorm(2, 6)
        for norm in (self.layer, self.group):
            nn.init.normal_(norm.weight, 1, 0.3)

    def between(self, x: Tensor) -> Tensor:
        y = self.layer(x.view(6, 2, 3)).view(6, 6) * F.layer_norm(x, (6,))
        wide = torch.stack((x, x.square()), 2)
        return y + self.group(wide).sum(2) * F.group_norm(wide.unsqueeze(3), 3)[:, :, 1, 0]


class Largest(Rows):
    """The largest and smallest along axes, of all, and of several that are equal."""

    def between(self, x: Tensor) -> Tensor:
        wide = x.view(6, 2, 3)
        ties = torch.cat((wide, wide), 1)
        y = wide.max(1)[0] * wide.min(-1, keepdim=True)[0].sum(1)
        z = ties.amax((1, 2)) * ties.amin(2, keepdim=True).sum((1, 2)) + x.max() * x.amin(0)[:6]
        return torch.cat((y, y), 1) + z.unsqueeze(1)


class Powers(Rows):
    """Powers by a number, of a number, by a tensor, and by a tensor that has a tangent."""

    def between(self, x: Tensor) -> Tensor:
        y = x.square() + 0.5
        return y**1.5 + 2**x + y ** torch.arange(6.0, dtype=x.dtype) + y**x


class Alone(Rows):
    """Operators without a rule: by autograd on the call alone, a whole stack at once."""

    def between(self, x: Tensor) -> Tensor:
        y = F.glu(torch.cat((x, x.flip(1)), 1)) / x.norm(dim=1, keepdim=True)
        return y * x.logsumexp(0) + x.std(1, keepdim=True) + x.new_zeros(6)


@in_every_detail
@pytest.mark.parametrize(
    "cls",
    [
        Halves,
        Copies,
        Lengths,
        Zeroed,
        Turned,
        Vectors,
        Softened,
        Grouped,
        Largest,
        Powers,
        Alone,
    ],
)
def test_agrees(cls: type[nn.Module], detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = nets.make(cls).double(), inputs()
    agree(audited(net, x, **DETAILS[detail]), by_double_backward(monkeypatch, net, x))


def inputs() -> Tensor:
    return torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


class Spectrum(Rows):
    """Complex numbers between two layers."""

    def between(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x).abs()


class Rotation(Rows):
    """Multiplies with complex numbers."""

    def between(self, x: Tensor) -> Tensor:
        return (x * 1j + x).real


class Cut(Rows):
    """A leaf of its own at the same place in memory: no gradient goes past it, a tangent would."""

    def between(self, x: Tensor) -> Tensor:
        return x * x.detach().requires_grad_()


class NoModes(Rows):
    """Refuses to run under a dispatch mode."""

    def between(self, x: Tensor) -> Tensor:
        if _get_current_dispatch_mode() is not None:
            raise ValueError("no modes here")
        return x


class Reentrant(Rows):
    """The first layer runs inside the older kind of activation checkpointing."""

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(lambda t: torch.tanh(self.bn1(t)), x.requires_grad_(), use_reentrant=True)
        return self.fc(torch.tanh(self.bn2(self.a(x))))


def forward_mode(layer: LayerReport) -> object:
    assert isinstance(layer.first_order, FirstOrder)
    return layer.first_order.forward_mode


@in_every_detail
@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        (Spectrum, "complex"),
        (Rotation, "complex"),
        (Cut, "slope in forward mode is off by"),
        (NoModes, "no modes here"),
        (Reentrant, "checkpointing"),
    ],
)
def test_says_why_a_layer_is_not_swept(cls: type[nn.Module], reason: str, detail: str) -> None:
    report = audited(nets.make(cls).double(), inputs(), **DETAILS[detail])
    first = forward_mode(report.layers[0])
    assert isinstance(first, Skipped)
    assert reason in first.reason
    order = report.layers[0].second_order
    if cls is Reentrant:
        assert isinstance(order, Skipped)
        assert "checkpointing" in order.reason
    else:
        assert isinstance(order, SecondOrder)
        assert order.method == "double_backward"


@in_every_detail
def test_a_rule_that_fails_costs_the_sweep_and_not_the_audit(
    detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> object:
        raise IndexError("what nobody foresaw")

    net, x = nets.make(nets.InPlace).double(), nets.inputs_for(nets.InPlace)
    for at_work in ("convolution.only", "convolution.filled"):
        with monkeypatch.context() as patch:
            patch.setattr(f"bnaudit.measure.sweep.{at_work}", failing)
            layer = audited(net, x, **DETAILS[detail]).layers[0]
        assert isinstance(layer.second_order, SecondOrder)
        assert layer.second_order.method == "double_backward"
        assert isinstance(mode := forward_mode(layer), Skipped)
        assert "failed: what nobody foresaw" in mode.reason


class Mixed(Rows):
    """One layer in half precision, by autocast."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.bn1(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.bn2(self.a(x))
        return self.fc(torch.tanh(x.float()))


@in_every_detail
def test_one_layer_in_half_precision(detail: str) -> None:
    net = nets.make(Mixed)
    report = audited(net, inputs(), dtype="float32", **DETAILS[detail])
    second = report.layers[1].second_order
    assert isinstance(second, Skipped)
    assert isinstance(mode := forward_mode(report.layers[1]), Skipped)
    assert "bfloat16" in second.reason
    assert "bfloat16" in mode.reason


class Force(nn.Module):
    """The output is a derivative that the model takes itself, through its BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn = nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.energy, self.fc = nn.Linear(6, 4), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.requires_grad_()
        energy = torch.tanh(self.energy(self.bn(self.a(x)))).square().sum()
        (force,) = torch.autograd.grad(energy, x, create_graph=True)
        return self.fc(torch.tanh(force))


@pytest.mark.parametrize("metrics", [(), ("second_order",)])
def test_a_backward_inside_the_model_is_not_the_loss_s(metrics: tuple[str, ...]) -> None:
    net = nets.make(Force).double()
    assert isinstance(net, Force)

    def loss(output: Tensor, _: object = None) -> Tensor:
        return output.square().sum()

    report = audited(net, inputs(), loss=loss, metrics=metrics, channels=False)
    order = report.layers[0].first_order
    assert isinstance(order, FirstOrder)

    x = inputs().requires_grad_()
    z = F.batch_norm(net.a(x), None, None, net.bn.weight, net.bn.bias, training=True)
    energy = torch.tanh(net.energy(z)).square().sum()
    (force,) = torch.autograd.grad(energy, x, create_graph=True)
    (big_g,) = torch.autograd.grad(loss(net.fc(torch.tanh(force))), z)
    assert value(order.grad_out_norm) == pytest.approx(float(big_g.norm()), rel=1e-9)


class Wider(Rows):
    """A gate in another precision than what it multiplies."""

    def between(self, x: Tensor) -> Tensor:
        return (torch.sigmoid(3 * x.double()) * x).to(x.dtype)


@in_every_detail
def test_a_product_of_two_precisions(detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = nets.make(Wider), inputs()
    ours = audited(net, x, dtype="float32", **DETAILS[detail])
    agree(ours, by_double_backward(monkeypatch, net.double(), x), 1e-4)


class Image(nn.Module):
    """BatchNorms of images, one behind a sum over positions that has the channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.bn2, self.fc = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.bn2(F.silu(self.bn1(x))))
        return self.fc(x.flatten(2).mean(-1))


@in_every_detail
def test_one_image_with_the_channels_last(detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is measured for both orders, and by double backward, as where the first is alone."""
    net = nets.make(Image).double()
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    last = x.contiguous(memory_format=torch.channels_last)
    wanted = audited(net, x, batch_size=1, metrics=(), channels=False)
    ours = audited(net, last, batch_size=1, **DETAILS[detail])
    for a, b in zip(ours.layers, wanted.layers, strict=True):
        assert isinstance(a.first_order, FirstOrder)
        assert isinstance(b.first_order, FirstOrder)
        assert value(a.first_order.measured) == pytest.approx(value(b.first_order.measured))
    with monkeypatch.context() as patch:
        patch.setattr("bnaudit.measure.second_order_sweep.sweep_pays", lambda *_: False)
        agree(ours, audited(net, last, batch_size=1))


class Fragile(torch.autograd.Function):
    """Its backward fails, at the first or at the second time, with no RuntimeError."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, times: int) -> Tensor:
        ctx.times = times
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        if ctx.times == 1 or torch.is_grad_enabled():
            raise KeyError("a backward that fails")
        return grad, None


class Failing(Rows):
    """Holds one of these."""

    times = 1

    def between(self, x: Tensor) -> Tensor:
        found: Any = Fragile.apply(x, self.times)  # type: ignore[no-untyped-call]
        assert isinstance(found, Tensor)
        return found


def test_a_backward_that_fails_is_no_traceback() -> None:
    net = nets.make(Failing).double()
    with pytest.raises(RunError, match=r"cannot be differentiated: .*a backward that fails"):
        audited(net, inputs())
    net.times = 2  # type: ignore[assignment]
    first, second = audited(net, inputs()).layers
    assert isinstance(first.second_order, Skipped)
    assert "a backward that fails" in first.second_order.reason
    assert isinstance(second.second_order, SecondOrder)


class Curved(Rows):
    """A branch with many curved calls, whose gradients the sweep needs."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.bn1(x))
        for _ in range(6):
            x = torch.sigmoid(self.a(torch.tanh(x))) * x
        return x


class Forked(nn.Module):
    """Runs its branches on threads of their own, as a script."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = Curved(), Curved(), Curved()
        self.bn, self.fc = nn.BatchNorm1d(6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.bn(x))
        first, second = torch.jit.fork(self.a, x), torch.jit.fork(self.b, x)
        third = self.c(x)
        return self.fc(torch.tanh(torch.jit.wait(first) * third + torch.jit.wait(second)))


@in_every_detail
def test_threads_of_the_model_are_not_recorded(detail: str, tmp_path: Path) -> None:
    """A thread would read the gradient edges of another one's calls: curvature would miss, and no slope."""
    path = tmp_path / "forked.pt"
    torch.jit.save(torch.jit.script(nets.make(Forked).double()), path)
    for layer in audited(path, inputs(), **DETAILS[detail]).layers:
        assert isinstance(layer.second_order, SecondOrder)
        assert layer.second_order.method == "double_backward"
        assert isinstance(mode := forward_mode(layer), Skipped)
        assert "several threads" in mode.reason


class Restrided(Image):
    """What a view makes of the strides of one image: PyTorch's backward of BatchNorm is wrong behind it."""

    def forward(self, x: Tensor) -> Tensor:
        last = x.contiguous(memory_format=torch.channels_last)
        return super().forward(last.view_as(last))


@in_every_detail
def test_one_image_whose_strides_a_view_has_changed(
    detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nets.make(Restrided).double()
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    wanted = audited(nets.make(Image).double(), x, batch_size=1)
    ours = audited(net, x, batch_size=1, **DETAILS[detail])
    with monkeypatch.context() as patch:
        patch.setattr("bnaudit.measure.second_order_sweep.sweep_pays", lambda *_: False)
        agree(ours, audited(net, x, batch_size=1))
    for a, b in zip(orders(ours), orders(wanted), strict=True):
        assert value(a.measured) == pytest.approx(value(b.measured))
    assert not [f for f in ours.findings if f.rule == "BN101"]
