"""The loss in front of a final softmax or sigmoid: that of the network without it, to the last digit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from bnaudit import audit
from bnaudit.errors import BnauditError
from bnaudit.records.finding import Severity
from bnaudit.records.layer import FiniteDifference, FirstOrder
from bnaudit.records.values import Skipped
from tests import nets

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.report import Report

X = torch.randn(24, 2, 6, 6, generator=torch.Generator().manual_seed(1))
CLASSES = torch.arange(24) % 3
POSITIONS = torch.arange(24 * 4).reshape(24, 2, 2) % 3
BITS = (torch.arange(24) % 2).float()


class Net(nn.Module):
    """Logits, times a scale, through an end."""

    def __init__(self, end: nn.Module, outputs: int = 3, scale: float = 1.0) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.fc, self.end, self.scale = nn.Linear(64, outputs), end, scale

    def forward(self, x: Tensor) -> Tensor:
        x = torch.softmax(torch.relu(self.bn(self.conv(x))), 1) + x.mean()
        return self.end(self.scale * self.fc(x.flatten(1)))


def net(end: nn.Module, outputs: int = 3, scale: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    return nets.randomise(Net(end, outputs, scale)).double().eval()


class Handmade(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        e = x.exp()
        return e / e.sum(1, keepdim=True)


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clone().sigmoid_()


class Flat(nn.Module):
    def __init__(self, end: nn.Module) -> None:
        super().__init__()
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(x).view(-1)


class Named(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"features": x, "pred": x.softmax(-1)}


class Pixels(nn.Module):
    """Scores of every position, classes last, and then in front, as a network of channels-last writes it."""

    def __init__(self, end: nn.Module, how: str = "permute") -> None:
        super().__init__()
        self.end, self.how = end, how

    def forward(self, x: Tensor) -> Tensor:
        y = self.end(x.reshape(-1, 2, 2, 3))
        if self.how == "permute":
            return y.permute(0, 3, 1, 2)
        return y.transpose(1, 3) if self.how == "once" else y.transpose(2, 3).transpose(1, 2)


class Inner(nn.Module):
    """A softmax in front of the last one: what counts is the last."""

    def forward(self, x: Tensor) -> Tensor:
        return (3 * x.softmax(1)).softmax(1)


class InnerLogits(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * x.softmax(1)


def numbers(report: Report) -> list[float]:
    assert report.run is not None
    order = report.layers[0].first_order
    assert isinstance(order, FirstOrder)
    found = [report.run.loss.value, order.measured, order.grad_out_norm, order.grad_in_norm]
    assert not any(isinstance(value, Skipped) for value in found)
    return [value.median for value in found]  # type: ignore[union-attr]


def audited(model: Any, labels: Tensor | None, **options: Any) -> Report:
    return audit(model, data=X.double(), labels=labels, batches=2, batch_size=12, **options)


PAIRS = [
    (nn.Softmax(1), nn.Identity(), 3, CLASSES, "auto", "Softmax"),
    (nn.Softmax(-1), nn.Identity(), 3, CLASSES, "nll", "Softmax"),
    (nn.Softmax(1), nn.Identity(), 3, None, "noise_mse", "Softmax"),
    (nn.Sigmoid(), nn.Identity(), 3, None, "noise_mse", "Sigmoid"),
    (nn.Sigmoid(), nn.Identity(), 1, BITS, "bce", "Sigmoid"),
    (Flat(nn.Sigmoid()), Flat(nn.Identity()), 1, BITS, "bce", "Sigmoid"),
    (Inner(), InnerLogits(), 3, CLASSES, "auto", "Softmax"),
    (Pixels(nn.Softmax(-1)), Pixels(nn.Identity()), 12, None, "noise_mse", "Softmax"),
    (
        Pixels(nn.Sigmoid(), "twice"),
        Pixels(nn.Identity(), "twice"),
        12,
        None,
        "noise_mse",
        "Sigmoid",
    ),
    (Pixels(nn.Softmax(-1)), Pixels(nn.Identity()), 12, POSITIONS, "auto", "final Softmax"),
    (
        Pixels(nn.Softmax(3), "twice"),
        Pixels(nn.Identity(), "twice"),
        12,
        POSITIONS,
        "nll",
        "final Softmax",
    ),
    (
        Pixels(nn.Softmax(3), "once"),
        Pixels(nn.Identity(), "once"),
        12,
        POSITIONS,
        "auto",
        "final Softmax",
    ),
    (Handmade(), nn.Identity(), 3, CLASSES, "auto", "log of the model's probabilities"),
    (InPlace(), nn.Identity(), 1, BITS, "bce", "log-odds"),
]


@pytest.mark.parametrize(("end", "logits", "outputs", "labels", "loss", "said"), PAIRS)
def test_the_loss_is_that_of_the_network_without_it(
    end: nn.Module, logits: nn.Module, outputs: int, labels: Tensor | None, loss: str, said: str
) -> None:
    expected_loss = "cross_entropy" if loss == "nll" else loss
    report = audited(net(end, outputs), labels, loss=loss, verify_gradients="all")
    expected = audited(net(logits, outputs), labels, loss=expected_loss, verify_gradients="all")
    assert numbers(report) == pytest.approx(numbers(expected), rel=1e-9)
    assert report.run is not None
    assert said in report.run.loss.why
    one, other = (r.layers[0].first_order.finite_difference for r in (report, expected))  # type: ignore[union-attr]
    assert isinstance(one, FiniteDifference)
    assert isinstance(other, FiniteDifference)
    assert one.measured == pytest.approx(other.measured, rel=1e-6)


def assert_not_dead(report: Report) -> None:
    """Its statistics are untrained: there are findings of drift."""
    errors = [f for f in report.findings if f.severity is Severity.ERROR]
    assert "BN203" not in {f.rule for f in errors}


@pytest.mark.parametrize("form", ["pt", "script.pt", "pt2", "onnx"])
@pytest.mark.filterwarnings("ignore")
def test_in_every_form(form: str, tmp_path: Path) -> None:
    model, path = net(nn.Softmax(1), scale=1e3).float(), tmp_path / f"net.{form}"
    if form == "pt":
        torch.jit.trace(model, X[:12]).save(path)
    elif form == "script.pt":
        torch.jit.script(model).save(path)
    elif form == "pt2":
        torch.export.save(torch.export.export(model, (X[:12],)), path)
    else:
        torch.onnx.export(
            model, (X[:12],), path, input_names=["x"], dynamo=False, opset_version=17,
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip
    report = audited(path, CLASSES, trust=True)
    expected = audited(net(nn.Identity(), scale=1e3), CLASSES)
    assert numbers(report)[:2] == pytest.approx(numbers(expected)[:2], rel=1e-4)
    assert_not_dead(report)


@pytest.mark.parametrize("labels", [CLASSES, None])
def test_a_network_that_is_sure_of_its_answers_is_not_dead(labels: Tensor | None) -> None:
    """Logits of 1e3: every probability is 0 or 1, and the gradient behind them exactly 0."""
    model = net(nn.Softmax(1), scale=1e5)
    assert bool((model(X.double()).max(1).values == 1).all())
    loss = "noise_mse" if labels is None else "auto"
    metrics = ("first_order", "second_order", "statistics")
    report = audited(model, labels, loss=loss, metrics=metrics)
    expected = audited(net(nn.Identity(), scale=1e5), labels, loss=loss)
    assert numbers(report) == pytest.approx(numbers(expected), rel=1e-9)
    assert_not_dead(report)


def test_a_perfect_classifier_loses_nothing() -> None:
    model = net(nn.Softmax(1), scale=1e5)
    report = audited(model, model(X.double()).argmax(1), mode="running")
    assert report.run is not None
    assert report.run.loss.value.median < 1e-3  # type: ignore[union-attr]


@pytest.mark.parametrize(("end", "outputs"), [(nn.Softmax(1), 3), (nn.Sigmoid(), 1)])
def test_regression_on_probabilities_stays_what_it_is(end: nn.Module, outputs: int) -> None:
    labels = torch.rand(24, outputs)
    report = audited(net(end, outputs), labels)
    assert report.run is not None
    assert report.run.loss.why == "the labels are floating-point values" or outputs == 3
    own = audited(net(end, outputs), labels, loss="mse")
    by_hand = audited(net(end, outputs), labels, loss=lambda y, t: (y - t).square().mean())
    assert numbers(own) == pytest.approx(numbers(by_hand), rel=1e-9)


def test_an_output_by_name_is_the_one_that_labels_are_for() -> None:
    report = audited(net(Named()), CLASSES)
    assert numbers(report) == pytest.approx(numbers(audited(net(nn.Identity()), CLASSES)), rel=1e-9)


def test_a_softmax_over_another_axis_is_no_softmax_over_classes() -> None:
    """Of scores (N, K, positions), normalised over the positions."""
    end = nn.Sequential(nn.Unflatten(1, (3, 4)), nn.Softmax(2))
    labels = torch.zeros(24, 4, dtype=torch.long)
    report = audited(net(end, 12), labels)
    by_hand = audited(net(end, 12), labels, loss=nn.functional.cross_entropy)
    assert numbers(report) == pytest.approx(numbers(by_hand), rel=1e-9)


@pytest.mark.parametrize(("axis", "how"), [(1, "permute"), (2, "once"), (2, "twice")])
def test_a_transposed_softmax_over_positions_is_none_over_classes(axis: int, how: str) -> None:
    end = Pixels(nn.Softmax(axis), how)
    report = audited(net(end, 12), POSITIONS)
    by_hand = audited(net(end, 12), POSITIONS, loss=nn.functional.cross_entropy)
    assert numbers(report) == pytest.approx(numbers(by_hand), rel=1e-9)


def test_a_transposed_softmax_that_is_sure_is_not_dead() -> None:
    found = audited(net(Pixels(nn.Softmax(-1)), 12, scale=1e4), POSITIONS)
    expected = audited(net(Pixels(nn.Identity()), 12, scale=1e4), POSITIONS)
    assert numbers(found) == pytest.approx(numbers(expected), rel=1e-9)


@pytest.mark.parametrize("labels", [None, torch.rand(24, 3)])
def test_where_the_logits_cannot_be_reached_the_cause_is_named(labels: Tensor | None) -> None:
    """Regression, or a softmax of the network's own, on probabilities of 0 and 1."""
    end: nn.Module = nn.Softmax(1) if labels is not None else Hard()
    loss = "noise_mse" if labels is None else "mse"
    with pytest.raises(BnauditError, match="saturated") as raised:
        audited(net(end, scale=1e5), labels, loss=loss)
    assert raised.value.exit_code == 4
    assert "logits" in str(raised.value.hint)


class Hard(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        e = (x - x.amax(1, keepdim=True).detach()).exp()
        return e / e.sum(1, keepdim=True)
