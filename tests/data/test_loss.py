"""Each loss against its plain definition, and every way in which labels can fail to fit."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bnaudit.data.loss import LABEL_FREE, NAMES, RETURNED, choose_loss
from bnaudit.data.outputs import floating, named_tensors, primary
from bnaudit.errors import DataError, RunError, UsageError

Y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CLASSES = torch.tensor([0, 3, 1, 1, 2, 0])


def value(name: str, output: Any, labels: Tensor | None = None, index: int = 0) -> float:
    return float(choose_loss(name, labels, 0).compute(output, labels, index))


def log_softmax(row: list[float]) -> list[float]:
    total = math.log(sum(math.exp(v) for v in row))
    return [v - total for v in row]


def test_cross_entropy() -> None:
    rows = [log_softmax(r) for r in Y.tolist()]
    expected = -sum(r[c] for r, c in zip(rows, CLASSES.tolist(), strict=True)) / 6
    for labels in (CLASSES, CLASSES.int(), CLASSES.to(torch.uint8), CLASSES.unsqueeze(1)):
        assert value("cross_entropy", Y, labels) == pytest.approx(expected, rel=1e-12)
        assert value("auto", Y, labels) == pytest.approx(expected, rel=1e-12)


def test_cross_entropy_of_probabilities() -> None:
    soft = torch.softmax(Y.flip(0), 1)
    rows = [log_softmax(r) for r in Y.tolist()]
    expected = -sum(
        p * v for ps, r in zip(soft.tolist(), rows, strict=True) for p, v in zip(ps, r, strict=True)
    )
    assert value("cross_entropy", Y, soft) == pytest.approx(expected / 6, rel=1e-12)


def test_cross_entropy_of_pixels_leaves_ignored_ones_out() -> None:
    y = Y.reshape(2, 4, 3)
    labels = torch.tensor([[0, -100, 2], [3, 1, -100]])
    expected = 0.0
    for n, row in enumerate(labels.tolist()):
        for place, c in enumerate(row):
            if c != -100:
                expected -= log_softmax(y[n, :, place].tolist())[c] / 4
    assert value("cross_entropy", y, labels) == pytest.approx(expected, rel=1e-12)


def test_nll() -> None:
    expected = -sum(Y[i, c].item() for i, c in enumerate(CLASSES.tolist())) / 6
    assert value("nll", Y, CLASSES) == pytest.approx(expected, rel=1e-12)


def test_mse() -> None:
    target = Y.flip(0)
    expected = sum(
        (a - b) ** 2 for a, b in zip(Y.flatten().tolist(), target.flatten().tolist(), strict=True)
    )
    assert value("mse", Y, target) == pytest.approx(expected / 24, rel=1e-12)
    assert value("auto", Y, target) == value("mse", Y, target)


def test_mse_ignores_axes_of_size_one_and_nothing_else() -> None:
    column, flat = Y[:, :1], Y[:, 1]
    expected = value("mse", column, flat.unsqueeze(1))
    assert value("mse", column, flat) == expected
    assert value("mse", flat, column) == expected
    for labels in (Y.T, Y.reshape(6, 2, 2), Y.flatten(), Y[:, :3]):
        with pytest.raises(DataError, match="do not fit"):
            value("mse", Y, labels)


def test_bce_with_logits() -> None:
    z = Y[:, 0]
    t = torch.tensor([0, 1, 1, 0, 1, 0])
    expected = 0.0
    for v, target in zip(z.tolist(), t.tolist(), strict=True):
        p = 1 / (1 + math.exp(-v))
        expected -= (target * math.log(p) + (1 - target) * math.log(1 - p)) / 6
    for labels in (t, t.bool(), t.float().unsqueeze(1)):
        assert value("bce", z, labels) == pytest.approx(expected, rel=1e-10)


@given(
    seed=st.integers(0, 2**32 - 1),
    index=st.integers(0, 50),
    shape=st.lists(st.integers(1, 5), min_size=0, max_size=3),
)
def test_noise_mse_is_the_distance_to_seeded_noise(seed: int, index: int, shape: list[int]) -> None:
    y = torch.linspace(-1, 1, math.prod(shape), dtype=torch.float64).reshape(shape)
    loss = choose_loss(LABEL_FREE, None, seed)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
    r = torch.randn(shape, generator=generator, dtype=torch.float64)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-5)):
        rounded = y.to(dtype)
        expected = float(((rounded.double() - r) ** 2).mean() / 2)
        got = float(loss.compute(rounded, None, index))
        assert got == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_targets_of_noise_mse_do_not_depend_on_the_dtype(dtype: torch.dtype) -> None:
    """The gradient at y = 0 is -r / n: it shows the targets."""
    y = torch.zeros(5, 3, dtype=dtype, requires_grad=True)
    choose_loss("auto", None, 7).compute(y, None, 2).backward()
    assert y.grad is not None
    generator = torch.Generator().manual_seed(7 * 1_000_003 + 2)
    r = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    assert torch.allclose(y.grad, -r.to(dtype) / 15, rtol=1e-6, atol=0)


def test_noise_differs_between_batches_and_seeds() -> None:
    values = {
        float(choose_loss(LABEL_FREE, None, seed).compute(Y, None, index))
        for seed in (0, 1)
        for index in (0, 1)
    }
    assert len(values) == 4


def test_noise_mse_sums_over_all_floating_outputs() -> None:
    y, boxes = Y, Y[:, :2]
    got = value(LABEL_FREE, {"a": y, "ids": CLASSES, "b": [boxes]})
    generator = torch.Generator().manual_seed(0)
    expected = 0.0
    for t in (y, boxes):
        r = torch.randn(t.shape, generator=generator, dtype=torch.float64)
        expected += float((t - r).square().mean() / 2)
    assert got == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("labels", "name", "why"),
    [
        (None, LABEL_FREE, "no labels"),
        (CLASSES, "cross_entropy", "class indices"),
        (Y, "mse", "floating-point"),
    ],
)
def test_auto_says_why(labels: Tensor | None, name: str, why: str) -> None:
    loss = choose_loss("auto", labels, 0)
    assert loss.name == name
    assert why in loss.why
    assert loss.label_free is (labels is None)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in {"auto", LABEL_FREE, RETURNED}])
def test_a_loss_on_labels_needs_labels(name: str) -> None:
    with pytest.raises(UsageError, match=f"the loss {name} needs labels"):
        choose_loss(name, None, 0)
    with pytest.raises(DataError, match="a batch has none"):
        choose_loss(name, CLASSES, 0).compute(Y, None, 0)


def test_unknown_losses_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown loss 'hubert', did you mean 'huber'") as caught:
        choose_loss("hubert", None, 0)
    assert str(caught.value.hint).startswith(f"one of: {', '.join(NAMES)}")
    with pytest.raises(UsageError, match="neither a name nor a function"):
        choose_loss(3, None, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "labels", "hint"),
    [
        ("cross_entropy", CLASSES + 1, "run from 1 to 4, but there are 4 classes"),
        ("cross_entropy", CLASSES - 1, "run from -1 to 2, but there are 4 classes"),
        ("nll", CLASSES + 1, "run from 1 to 4"),
        ("cross_entropy", CLASSES[:5], "4 classes take class indices of shape [6], not [5]"),
        ("cross_entropy", CLASSES + 0.5, "class indices are whole numbers"),
        ("cross_entropy", Y, "class probabilities of a row have to sum to 1"),
        ("bce", Y.abs() + 1, "binary labels lie between 0 and 1"),
        ("bce", torch.full((6, 4), torch.nan), "the labels hold NaN or infinite values"),
        ("mse", torch.full((6, 4), torch.inf), "the labels hold NaN or infinite values"),
        ("mse", [{"boxes": Y}], "--loss file.py:function(output, labels) takes anything"),
        ("bce", CLASSES, "[6] values for [6, 4] outputs"),
        ("mse", CLASSES, "[6] values for [6, 4] outputs"),
    ],
)
def test_labels_that_do_not_fit_are_told(name: str, labels: Tensor, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        value(name, Y, labels)
    assert "do not fit the model's output float64 [6, 4]" in caught.value.message
    assert name in caught.value.message
    assert caught.value.hint is not None
    assert hint in caught.value.hint


@pytest.mark.parametrize("output", [Y[:, 0], Y[:, :1]])
def test_class_labels_on_one_score_name_the_loss_that_fits(output: Tensor) -> None:
    with pytest.raises(DataError) as caught:
        value("auto", output, torch.tensor([0, 1, 1, 0, 1, 0]))
    assert caught.value.hint is not None
    assert "--loss bce" in caught.value.hint


class Named(NamedTuple):
    features: Tensor
    logits: Tensor


@dataclass
class Record:
    loss: None
    logits: Tensor


OTHER = torch.zeros(6, 9, dtype=torch.float64)


@pytest.mark.parametrize(
    "output",
    [
        Y,
        (Y,),
        [Y, OTHER],
        (CLASSES, Y),
        {"features": OTHER, "logits": Y},
        OrderedDict(hidden=[OTHER, OTHER], out=Y),
        Named(OTHER, Y),
        Record(None, Y),
        {"deep": {"deeper": (Named(OTHER, Y),)}},
        (torch.empty(0), Y),
    ],
)
def test_labels_are_for_the_logits_wherever_they_are(output: Any) -> None:
    assert value("cross_entropy", output, CLASSES) == value("cross_entropy", Y, CLASSES)


def test_names_of_nested_outputs() -> None:
    nested = {"a": (Y, [CLASSES]), "b": Record(None, OTHER), "c": "text", "d": None}
    names = ["output.a[0]", "output.a[1][0]", "output.b.logits"]
    assert list(named_tensors(nested)) == names
    assert list(floating(named_tensors(nested))) == ["output.a[0]", "output.b.logits"]
    assert primary(floating(named_tensors(nested)))[0] == "output.b.logits"


@pytest.mark.parametrize("output", [None, "text", CLASSES, {"a": CLASSES}, [], torch.empty(0), 3.0])
def test_a_model_without_scores_is_told(output: Any) -> None:
    for name, labels in ((LABEL_FREE, None), ("cross_entropy", CLASSES)):
        with pytest.raises(RunError, match="no floating-point tensor to build a loss on"):
            value(name, output, labels)


def test_a_function_of_the_users_own_gets_the_whole_output() -> None:
    def own(output: Any, labels: Tensor | None) -> Tensor:
        assert isinstance(output, dict)
        assert labels is CLASSES
        return output["y"].square().sum().reshape(1, 1)

    loss = choose_loss(own, CLASSES, 0)
    assert (loss.name, loss.why, loss.label_free) == ("own", "given by the user", False)
    got = loss.compute({"y": Y}, CLASSES, 0)
    assert got.shape == ()
    assert float(got) == pytest.approx(float((Y**2).sum()))
    module = choose_loss(nn.CrossEntropyLoss(), CLASSES, 0)
    assert module.name == "CrossEntropyLoss"
    assert float(module.compute(Y, CLASSES, 0)) == value("cross_entropy", Y, CLASSES)


def failing(output: Any, labels: Any) -> Tensor:
    raise KeyError("score")


@pytest.mark.parametrize(
    ("function", "fact"),
    [
        (failing, r"the loss failing failed \(KeyError: 'score'\)"),
        (lambda output, labels: 3.0, r"returned no scalar tensor \(float\)"),
        (lambda output, labels: output, r"returned no scalar tensor \(Tensor\)"),
        (lambda output, labels: None, r"returned no scalar tensor \(NoneType\)"),
        (lambda output: output.sum(), "failed .TypeError"),
    ],
)
def test_a_function_that_gives_no_scalar_is_told(function: Any, fact: str) -> None:
    with pytest.raises(UsageError, match=fact):
        choose_loss(function, None, 0).compute(Y, None, 0)
