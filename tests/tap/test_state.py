"""Networks that keep tensors between calls: every pass sees the same, or the audit says why it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from bnaudit import audit
from bnaudit.errors import BnauditError
from bnaudit.metrics import METRICS
from bnaudit.records.finding import Severity
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.report import Report

pytestmark = pytest.mark.usefixtures("in_order")


class Leaky(nn.Module):
    """A membrane in a plain attribute, a number until the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.v: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.v = self.next(x)
        return torch.sigmoid(4 * (self.v - 1))

    def next(self, x: Tensor) -> Tensor:
        return 0.5 * self.v + x


class Buffered(Leaky):
    """The same in a buffer that is replaced."""

    def __init__(self) -> None:
        super().__init__()
        del self.v
        self.register_buffer("v", torch.zeros(()))


class Listed(Leaky):
    """The same at the end of a list that grows."""

    def __init__(self) -> None:
        super().__init__()
        self.past: list[Tensor] = []

    def next(self, x: Tensor) -> Tensor:
        self.past.append(0.5 * self.past[-1] + x if self.past else x)
        return self.past[-1]


class Detached(Leaky):
    """Without the graph: the next call does not fail, but its numbers would be others."""

    def next(self, x: Tensor) -> Tensor:
        return super().next(x).detach() + x - x.detach()


class Written(Leaky):
    """In place, into a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.held: Tensor
        self.register_buffer("held", torch.zeros(1, 16))

    def next(self, x: Tensor) -> Tensor:
        now = x + 0.5 * self.held
        self.held.add_(x.detach().mean(0))
        return now


class Reset(Leaky):
    """The definition: each call begins at rest."""

    def next(self, x: Tensor) -> Tensor:
        return x


def net(cell: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    parts = (nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), cell(), nn.Linear(16, 3))
    return nn.Sequential(*parts).double().eval()


X = torch.randn(48, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
EVERYTHING: dict[str, Any] = {
    "data": X,
    "metrics": tuple(METRICS),
    "verify_gradients": "all",
    "verify_second_order": "all",
}


def measured(report: Report) -> list[float]:
    order = report.layers[0].first_order
    assert isinstance(order, FirstOrder)
    found = [order.measured, order.predicted]
    assert not any(isinstance(value, Skipped) for value in found)
    return [value.median for value in found]  # type: ignore[union-attr]


@pytest.mark.parametrize(("cell", "name"), [(Leaky, "2.v"), (Buffered, "2.v"), (Listed, "2.past")])
def test_a_batch_that_leads_into_the_one_before_is_refused_in_words(
    cell: type[nn.Module], name: str
) -> None:
    with pytest.raises(BnauditError, match="keeps state between calls") as raised:
        audit(net(cell), data=X, batches=3, batch_size=16)
    assert name in raised.value.message
    assert raised.value.exit_code == 4
    assert "--batches 1" in str(raised.value.hint)
    assert "backward through the graph" not in raised.value.message


@pytest.mark.parametrize("cell", [Leaky, Buffered, Listed, Detached, Written])
def test_with_one_batch_everything_is_measured_from_the_same_state(cell: type[nn.Module]) -> None:
    """Also second order, twins and finite differences, which run the model again."""
    report, expected = (
        audit(net(c), batches=1, batch_size=32, **EVERYTHING) for c in (cell, Reset)
    )
    assert measured(report) == pytest.approx(measured(expected), rel=1e-12)
    one, other = report.layers[0], expected.layers[0]
    assert one.first_order.finite_difference.measured == pytest.approx(  # type: ignore[union-attr]
        other.first_order.finite_difference.measured,  # type: ignore[union-attr]
        rel=1e-6,
    )
    assert one.second_order.measured.median == pytest.approx(  # type: ignore[union-attr]
        other.second_order.measured.median,  # type: ignore[union-attr]
        rel=1e-9,
    )
    assert [t.twin_grad_norm for t in report.twins] == pytest.approx(  # type: ignore[union-attr]
        [t.twin_grad_norm for t in expected.twins],  # type: ignore[union-attr]
        rel=1e-9,
    )
    # The network was never trained: that its statistics are not those of the data is right.
    untrained = {"BN201", "BN202"}
    assert not [
        f for f in report.findings if f.severity is Severity.ERROR and f.rule not in untrained
    ]


@pytest.mark.parametrize("cell", [Detached, Written])
def test_state_without_a_graph_is_that_of_the_start_in_every_batch(cell: type[nn.Module]) -> None:
    report, expected = (audit(net(c), data=X, batches=3, batch_size=16) for c in (cell, Reset))
    assert measured(report) == pytest.approx(measured(expected), rel=1e-12)


@pytest.mark.parametrize("cell", [Leaky, Listed, Detached, Written])
def test_the_model_comes_back_with_the_state_that_it_came_with(cell: type[nn.Module]) -> None:
    model: Any = net(cell)
    model[2].v = torch.full((1, 16), 0.25, dtype=torch.float64)
    kept = model[2].v
    audit(model, data=X, batches=1, batch_size=16)
    assert model[2].v is kept
    assert bool((kept == 0.25).all())
    assert not getattr(model[2], "past", [])
    assert not bool(getattr(model[2], "held", torch.zeros(1)).any())


class Scripted(nn.Module):
    """A buffer that a TorchScript module replaces at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn, self.out = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)
        self.v: Tensor
        self.register_buffer("v", torch.zeros(1, 16))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.fc(x)) + 0.5 * self.v
        self.v = y.mean(0, keepdim=True).detach()
        return self.out(y)


def test_torchscript_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Scripted().double().eval()
    path = tmp_path / "net.pt"
    torch.jit.script(model).save(path)
    labels = torch.arange(48) % 3
    reports = [
        audit(path, data=X[rows], labels=labels[rows], batches=1, batch_size=16)
        for rows in (slice(0, 16), slice(16, 32), slice(32, 48))
    ]
    together = audit(path, data=X, labels=labels, batches=3, batch_size=16)
    middle = sorted(measured(report)[0] for report in reports)[1]
    assert measured(together)[0] == pytest.approx(middle, rel=1e-12)


def test_a_list_that_holds_itself_is_left_alone() -> None:
    model: Any = net(Reset)
    model[2].odd = [torch.zeros(3)]
    model[2].odd.append(model[2].odd)
    assert len(audit(model, data=X, batches=1, batch_size=16).layers) == 1


class Viewed(nn.Module):
    """Writes the graph into a buffer that is a view of another tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(8, 6), nn.BatchNorm1d(6)
        self.held: Tensor
        self.register_buffer("held", torch.zeros(2, 6)[1:])

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.fc(x)) + self.held
        self.held.copy_(y.detach().mean(0, keepdim=True))
        return y


def test_a_buffer_that_is_a_view_is_put_back() -> None:
    model = Viewed()
    report = audit(model, data=X.float(), batches=3, batch_size=16)
    assert len(report.layers) == 1
    assert not bool(model.held.any())


class Caching(nn.Module):
    """Keeps an activation that nobody reads: nothing is wrong, in however many batches."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(8, 6), nn.BatchNorm1d(6)
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.bn(self.fc(x))
        return self.last


def test_an_activation_that_nobody_reads_is_no_state() -> None:
    model = Caching()
    report = audit(model, data=X.float(), batches=3, batch_size=16, verify_gradients="all")
    order = report.layers[0].first_order
    assert isinstance(order, FirstOrder)
    assert not isinstance(order.finite_difference, Skipped)
    assert model.last is None
