"""One output among several, by key, field, number or the file's name; models that return their loss."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.data.outputs import chosen, own_loss
from bnaudit.errors import UsageError
from bnaudit.records.values import Spread

if TYPE_CHECKING:
    from pathlib import Path

X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(32) % 3


class Pair(NamedTuple):
    boxes: Tensor
    scores: Tensor


class Net(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.bn, self.a, self.b = (
            nn.Linear(4, 6),
            nn.BatchNorm1d(6),
            nn.Linear(6, 2),
            nn.Linear(6, 3),
        )
        self.form = form

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.bn(self.fc(x)))
        boxes, scores = self.a(x), self.b(x)
        forms = {
            "alone": scores,
            "tuple": (boxes, scores),
            "mapping": {"boxes": boxes, "scores": scores},
            "named": Pair(boxes, scores),
            "loss": {"loss": scores.square().mean(), "scores": scores},
            "output": OrderedDict(loss=scores.square().mean(), logits=scores, hidden=(x, x)),
            "first": (scores.square().mean(), scores),
            "temperature": (scores, scores.exp().mean()),
        }
        return forms[self.form]


def run_of(model: Any, **options: Any) -> Any:
    report = bnaudit.audit(model, data=X, **options)
    assert report.run is not None
    assert report.layers[0].measured
    return report


def value(report: Any) -> float:
    assert isinstance(report.run.loss.value, Spread)
    return report.run.loss.value.median


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("tuple", "1"),
        ("tuple", "output[1]"),
        ("mapping", "scores"),
        ("named", "scores"),
        ("named", "1"),
    ],
)
def test_the_loss_and_the_decisions_are_of_that_output(form: str, name: str) -> None:
    wanted = run_of(Net("alone").eval(), labels=CLASSES)
    found = run_of(Net(form).eval(), labels=CLASSES, loss_output=name)
    assert value(found) == value(wanted)
    assert found.deployment == wanted.deployment
    assert [layer.first_order for layer in found.layers] == [
        layer.first_order for layer in wanted.layers
    ]


def test_an_onnx_file_has_names_for_them(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Net("tuple").eval(),
            (X[:4],),
            str(path),
            dynamo=False,
            input_names=["x"],
            output_names=["boxes", "scores"],
            dynamic_axes={"x": {0: "n"}},
        )
    wanted = run_of(Net("alone").eval(), labels=CLASSES, metrics=("first_order",))
    found = run_of(path, labels=CLASSES, loss_output="scores", metrics=("first_order",))
    assert value(found) == pytest.approx(value(wanted), rel=1e-5)


def test_what_there_is_is_listed() -> None:
    with pytest.raises(UsageError, match="the model has no output 'score'") as caught:
        run_of(Net("mapping").eval(), labels=CLASSES, loss_output="score")
    assert caught.value.hint == "it has: 0 boxes [32, 2], 1 scores [32, 3]"
    with pytest.raises(UsageError, match="no output '9'"):
        run_of(Net("mapping").eval(), labels=CLASSES, loss_output=9)
    with pytest.raises(UsageError, match="no output '2'"):
        chosen((X, X), "2", ())
    with pytest.raises(UsageError, match="holds int64"):
        chosen((X, CLASSES), "1", ())
    assert chosen((X, CLASSES), "a", ("a", "b")) is X


@pytest.mark.parametrize("form", ["loss", "output", "first"])
def test_a_loss_that_the_model_returns_of_its_inputs_alone(form: str) -> None:
    report = run_of(Net(form).eval(), metrics=("first_order",))
    loss = report.run.loss
    assert (loss.name, loss.label_free, loss.why) == ("returned", False, "the model returns it")
    asked = run_of(Net(form).eval(), loss="returned", metrics=("first_order",))
    assert asked.run.loss.why == "asked for"
    assert value(asked) == value(report)
    labelled = run_of(Net(form).eval(), labels=CLASSES, metrics=("first_order",))
    assert labelled.run.loss.name == "cross_entropy"


def test_other_single_numbers_are_no_loss() -> None:
    assert run_of(Net("temperature").eval(), metrics=("first_order",)).run.loss.name == "noise_mse"
    one, two = torch.tensor(1.0), torch.tensor(2.0)
    assert own_loss((X, one), unasked=True) is None
    assert own_loss((one, X), unasked=True) is one
    assert own_loss((X, {"loss": two}), unasked=True) is two
