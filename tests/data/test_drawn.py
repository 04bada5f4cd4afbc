"""Labels drawn from the model: by which evidence, the same for every split, and how good they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.data.batch import Batch
from bnaudit.data.drawn import Recognised, drawn
from bnaudit.errors import UsageError
from bnaudit.measure.settling import Labelled
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Spread

if TYPE_CHECKING:
    from bnaudit.records.report import Report
    from bnaudit.records.run import LossInfo

pytestmark = pytest.mark.usefixtures("in_order")

FIXTURES = Path(__file__).parents[2] / "fixtures"
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(96, 6, generator=GENERATOR)
CENTRES = 3 * torch.randn(4, 6, generator=GENERATOR)
CLASSES = torch.arange(96) % 4
ROWS = CENTRES[CLASSES] + 0.7 * X


class Net(nn.Module):
    def __init__(self, outputs: int = 4, end: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.bn, self.fc2 = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, outputs)
        self.end = nn.Identity() if end is None else end

    def forward(self, x: Tensor) -> Any:
        return self.end(self.fc2(torch.relu(self.bn(self.fc1(x)))))


def trained(outputs: int, loss: Any, target: Tensor, end: nn.Module | None = None) -> nn.Module:
    """A small network after 150 steps of Adam on all rows."""
    net = Net(outputs).train()
    optimiser = torch.optim.Adam(net.parameters(), 0.02, weight_decay=1e-3)
    for _ in range(150):
        optimiser.zero_grad()
        loss(net(ROWS), target).backward()
        optimiser.step()
    net.end = nn.Identity() if end is None else end
    return net.eval()


CLASSIFIER = trained(4, nn.functional.cross_entropy, CLASSES)
BINARY = trained(1, nn.functional.binary_cross_entropy_with_logits, (CLASSES > 1).float()[:, None])


def loss_of(net: nn.Module, **options: Any) -> LossInfo:
    options = {"data": ROWS, "metrics": ("first_order",), **options}
    report = bnaudit.audit(net, **options)
    assert report.run is not None
    return report.run.loss


def with_end(net: nn.Module, end: nn.Module) -> nn.Module:
    found = Net(net.fc2.out_features)  # type: ignore[arg-type,union-attr]
    found.load_state_dict(net.state_dict())
    found.end = end
    return found.eval()


class Exponentials(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return y.exp() / y.exp().sum(1, keepdim=True)


class Pixels(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return y[:, :, None, None].expand(-1, -1, 2, 3).contiguous() + torch.zeros(2, 3)


class Named(nn.Module):
    def forward(self, y: Tensor) -> dict[str, Tensor]:
        return {"features": y.square(), "logits": y}


@pytest.mark.parametrize(
    ("end", "name", "why"),
    [
        (nn.Identity(), "cross_entropy", "assumed that the output is logits of 4 classes"),
        (nn.Softmax(1), "cross_entropy", "ends in a softmax; taken in front of the final Softmax"),
        (nn.LogSoftmax(1), "nll", "ends in a log-softmax"),
        (Exponentials(), "cross_entropy", "sums to 1 over the classes"),
        (Pixels(), "cross_entropy", "logits of 4 classes"),
        (Named(), "cross_entropy", "logits of 4 classes"),
        (nn.Sigmoid(), "bce", "ends in a sigmoid"),
    ],
)
def test_what_is_recognised(end: nn.Module, name: str, why: str) -> None:
    found = loss_of(with_end(CLASSIFIER, end))
    assert (found.name, found.label_free) == (name, True)
    assert found.labels is not None
    assert found.labels.startswith("drawn from the model's s")
    assert found.labels.endswith("(seed 0)")
    assert why in found.why
    assert found.guess is None


def regression(scale: float, seed: int) -> nn.Module:
    mix = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
    target = ROWS @ mix
    return trained(4, nn.functional.mse_loss, scale * (target - target.mean(0)) / target.std(0))


class Tuple(nn.Module):
    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y, 2 * y


class Rectified(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return torch.relu(y)


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (regression(1.0, 0), "the 4 values of its output may be any numbers"),
        (regression(10.0, 1), "the 4 values of its output may be any numbers"),
        (Net(4).eval(), "the 4 values of its output may be any numbers"),
        (with_end(BINARY, nn.Identity()), "one number a row may be anything"),
        (with_end(CLASSIFIER, Tuple()), "it has 2 outputs (--loss-output"),
        (with_end(CLASSIFIER, Rectified()), "ends in Relu"),
        (with_end(regression(0.5, 2), nn.Sigmoid()), "decides little"),
    ],
)
def test_what_may_be_anything_is_regressed_to_noise(net: nn.Module, reason: str) -> None:
    found = loss_of(net)
    assert (found.name, found.labels, found.label_free) == ("noise_mse", None, True)
    assert found.why.startswith("no labels given, and none drawn from the model: ")
    assert reason in found.why


def test_an_output_like_the_input_may_be_a_reconstruction() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    net = nn.Sequential(*net, nn.Conv2d(4, 2, 3, padding=1), nn.Sigmoid()).eval()
    found = loss_of(net, data=torch.randn(16, 2, 5, 5))
    assert "may be a reconstruction" in found.why


def test_made_up_inputs_keep_the_noise() -> None:
    found = loss_of(with_end(CLASSIFIER, nn.Softmax(1)), data=None, input_shapes={"x": (8, 6)})
    assert (found.name, found.labels) == ("noise_mse", None)


@pytest.mark.parametrize(
    ("name", "net", "of"),
    [
        ("cross_entropy", Net(4).eval(), "softmax"),
        ("focal", Net(4).eval(), "softmax"),
        ("bce", with_end(BINARY, nn.Identity()), "sigmoid"),
        ("cross_entropy", with_end(CLASSIFIER, Tuple()), "softmax"),
    ],
)
def test_a_named_loss_says_what_the_output_is(name: str, net: nn.Module, of: str) -> None:
    options = {"loss_output": "1"} if isinstance(net.end, Tuple) else {}
    found = loss_of(net, loss=name, **options)
    assert (found.name, found.labels) == (name, f"drawn from the model's {of} (seed 0)")
    assert found.why.startswith("asked for; no labels given")


def test_losses_that_are_no_likelihood_need_labels() -> None:
    for name in ("mse", "hinge", "ctc"):
        with pytest.raises(UsageError, match=f"the loss {name} needs labels"):
            loss_of(CLASSIFIER, loss=name)
    with pytest.raises(UsageError, match="no classes along axis 1"):
        loss_of(BINARY, loss="cross_entropy")


def labels_of(net: nn.Module, seed: int = 0, size: int = 32) -> list[Any]:
    """As the session has them, row by row."""
    from bnaudit.load.live import load_live
    from bnaudit.measure.session import open_session, place_model
    from bnaudit.options import AuditOptions

    options = AuditOptions(data=ROWS, seed=seed, batch_size=size, batches=96 // size)
    session = open_session(place_model(load_live(net), options), options, draw=True)
    return [label for batch in session.batches.items for label in batch.labels.tolist()]


def test_a_row_has_the_same_label_in_whatever_batch_it_stands() -> None:
    soft = with_end(CLASSIFIER, nn.Softmax(1))
    soft.fc2.weight.data *= 0.1  # type: ignore[operator,union-attr]
    first = labels_of(soft)
    assert first == labels_of(soft, size=8) == labels_of(soft, size=96)
    assert first != labels_of(soft, seed=1)
    assert len(set(first)) == 4


def test_labels_of_further_batches_are_drawn_when_they_are_asked_for() -> None:
    asked: list[int] = []

    def label(batch: Batch, index: int) -> Tensor:
        asked.append(index)
        return torch.full((2,), index)

    further = Labelled([Batch((X[:2],)) for _ in range(6)], label, 8)
    part = further[2:5]
    assert (len(further), len(part), asked) == (6, 3, [])
    assert [batch.labels[0].item() for batch in part] == [10, 11, 12]
    assert part[1].labels is part[1].labels
    assert asked == [10, 11, 12]


def test_frequencies_are_the_probabilities() -> None:
    p = torch.tensor([0.5, 0.2, 0.0, 0.3], dtype=torch.float64)
    count = 4000
    for scale, y in (("probabilities", p), ("log", p.log()), ("logits", p.log() + 3)):
        found = Recognised("cross_entropy", "classes", scale, "softmax", "")  # type: ignore[arg-type]
        labels = drawn(y.expand(count, 4), found, 0, 0)
        shares = torch.bincount(labels, minlength=4) / count
        assert float((shares - p).abs().max()) < 4 * (0.25 / count) ** 0.5
        assert shares[2] == 0
    bits = drawn(p.expand(count, 4), Recognised("bce", "binary", "probabilities", "", ""), 0, 0)
    assert float((bits.mean(0) - p).abs().max()) < 4 * (0.25 / count) ** 0.5
    pixels = p[:, None, None].expand(50, 4, 6, 5)
    dense = drawn(pixels, Recognised("cross_entropy", "classes", "probabilities", "", ""), 3, 7)
    assert dense.shape == (50, 6, 5)
    assert float((dense == 0).double().mean()) == pytest.approx(0.5, abs=0.06)


def measured(report: Report) -> np.ndarray[Any, Any]:
    found = []
    for layer in report.layers:
        assert isinstance(layer.first_order, FirstOrder)
        assert isinstance(layer.first_order.measured, Spread)
        found.append(layer.first_order.measured.median)
    return np.array(found)


@pytest.mark.parametrize("file", ["scripted.pt", "model.onnx"])
def test_first_order_numbers_are_those_of_true_labels(file: str) -> None:
    """The digits network is right and sure; where one is not, its own labels differ from the true ones."""
    with np.load(FIXTURES / "digits_resnet" / "batch.npz") as stored:
        x, labels = stored["x"], stored["labels"]
    path = FIXTURES / "digits_resnet" / file
    true = measured(bnaudit.audit(path, data=x, labels=labels, metrics=("first_order",)))
    for seed in (0, 1, 2):
        report = bnaudit.audit(path, data=x, seed=seed, metrics=("first_order",))
        apart = np.abs(measured(report) / true - 1)
        assert np.median(apart) < 0.02
        assert apart.max() < 0.05
    noise = bnaudit.audit(path, data=x, loss="noise_mse", metrics=("first_order",))
    assert np.abs(measured(noise) / true - 1).max() > 0.1


def test_nothing_is_concluded_of_the_task() -> None:
    report = bnaudit.audit(CLASSIFIER, data=ROWS)
    assert report.run is not None
    assert report.run.loss.label_free
    assert {"BN205", "BN208"} <= {found.rule for found in report.rules_not_run}
    assert "drawn from the model's softmax" in report.to_table()


def test_a_page_and_a_comparison_say_that_the_labels_were_drawn(tmp_path: Path) -> None:
    true = bnaudit.audit(CLASSIFIER, data=ROWS, labels=CLASSES)
    (tmp_path / "true.json").write_text(true.to_json())
    report = bnaudit.audit(CLASSIFIER, data=ROWS, baseline=tmp_path / "true.json")
    assert "on labels drawn from the model" in report.to_table()
    assert "on labels drawn from the model" not in true.to_table()
    assert report.baseline is not None
    assert "drawn from the model" in str(report.baseline)
