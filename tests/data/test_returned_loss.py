"""A model that takes the labels and returns its loss: that is what is differentiated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.data.outputs import own_loss
from bnaudit.records.values import Spread

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("in_order")

torch.manual_seed(0)
X, Y = torch.randn(64, 5), torch.randint(0, 3, (64, 4))


class Out(NamedTuple):
    logits: Tensor
    loss: Tensor


class Tagger(nn.Module):
    """Four answers a row, classes last, which bnaudit's own cross entropy would not take."""

    def __init__(self, form: str = "dict") -> None:
        super().__init__()
        torch.manual_seed(1)
        self.l1, self.bn, self.l2 = nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 12)
        self.form = form

    def forward(self, x: Tensor, labels: Tensor) -> Any:
        logits = self.l2(torch.relu(self.bn(self.l1(x)))).view(-1, 4, 3)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        forms = {
            "dict": {"loss": loss, "logits": logits},
            "tuple": (loss, logits),
            "named": Out(logits, loss),
            "none": logits,
        }
        return forms[self.form]


def expected(net: nn.Module, rows: int) -> float:
    net.train()
    with torch.no_grad():
        return float(net(X[:rows], Y[:rows])["loss"])


@pytest.mark.parametrize("form", ["dict", "tuple", "named"])
def test_it_is_used_in_every_form(form: str) -> None:
    report = bnaudit.audit(Tagger(form).eval(), data={"x": X, "labels": Y}, batches=1)
    assert report.run is not None
    loss = report.run.loss
    assert (loss.name, loss.label_free, loss.labels) == (
        "returned",
        False,
        "the model's input labels",
    )
    assert isinstance(loss.value, Spread)
    assert loss.value.median == pytest.approx(expected(Tagger(), 32), rel=1e-6)
    assert report.layers[0].measured


def test_a_traced_file(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.jit.trace(Tagger().eval(), (X[:4], Y[:4]), strict=False).save(str(path))
    np.savez(tmp_path / "b.npz", x=X.numpy(), labels=Y.numpy())
    report = bnaudit.audit(path, data=str(tmp_path / "b.npz"), batches=1)
    assert report.run is not None
    assert report.run.loss.name == "returned"


def test_what_was_asked_for_comes_first_and_none_is_none() -> None:
    data = {"x": X, "labels": Y}
    asked = bnaudit.audit(Tagger().eval(), data=data, loss="noise_mse", metrics=("first_order",))
    assert asked.run is not None
    assert asked.run.loss.name == "noise_mse"
    silent = bnaudit.audit(Tagger("none").eval(), data=data, metrics=("first_order",))
    assert silent.run is not None
    assert (silent.run.loss.name, silent.run.loss.label_free) == ("noise_mse", True)


def test_which_number_is_the_loss() -> None:
    one, two = torch.tensor(1.0), torch.tensor(2.0)
    assert own_loss({"a": one, "loss": two, "logits": X}) is two
    assert own_loss((one, X)) is one
    assert own_loss((one, two, X)) is None
    assert own_loss(X) is None
