"""Every named loss and each of its options, against its definition written out in plain numbers."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from bnaudit.data.loss import choose_loss
from bnaudit.data.losses.definition import Definition, definition
from bnaudit.errors import DataError, UsageError
from bnaudit.losses import LOSSES, SETTINGS

Y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CLASSES = torch.tensor([0, 3, 1, 1, 2, 0])
BITS = torch.tensor(
    [[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1], [1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]
)
WEIGHTS = [0.5, 2.0, 1.0, 3.0]


def value(name: str, y: Tensor, labels: Any, **settings: Any) -> float:
    return float(choose_loss(name, labels, 0, settings).compute(y, labels, 0))


def log_p(row: list[float]) -> list[float]:
    total = math.log(sum(math.exp(v) for v in row))
    return [v - total for v in row]


def log_sigmoid(y: float) -> float:
    return -math.log(1 + math.exp(-y))


def rows(y: Tensor, labels: Tensor) -> list[tuple[list[float], int]]:
    """Log-probabilities and class of each row."""
    return [(log_p(r), c) for r, c in zip(y.tolist(), labels.tolist(), strict=True)]


def test_weights_make_the_mean_a_weighted_one() -> None:
    pairs = rows(Y, CLASSES)
    wanted = -sum(WEIGHTS[c] * p[c] for p, c in pairs) / sum(WEIGHTS[c] for _, c in pairs)
    for name, y in (("cross_entropy", Y), ("nll", Y.log_softmax(1))):
        assert value(name, y, CLASSES, class_weights=WEIGHTS) == pytest.approx(wanted, rel=1e-12)


def test_smoothing_spreads_a_label_over_all_classes() -> None:
    wanted = -sum(0.9 * p[c] + 0.1 * sum(p) / 4 for p, c in rows(Y, CLASSES)) / 6
    assert value("cross_entropy", Y, CLASSES, label_smoothing=0.1) == pytest.approx(
        wanted, rel=1e-12
    )


@pytest.mark.parametrize("name", ["cross_entropy", "nll", "focal", "hinge"])
def test_what_ignore_index_names_is_left_out_of_classes(name: str) -> None:
    marked = torch.where(torch.arange(6) % 3 == 1, 255, CLASSES)
    kept = marked != 255
    wanted = value(name, Y[kept], CLASSES[kept])
    assert value(name, Y, marked, ignore_index=255) == pytest.approx(wanted, rel=1e-12)
    minus = torch.where(kept, CLASSES, -100)
    assert value(name, Y, minus) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("name", ["bce", "focal"])
def test_what_ignore_index_names_is_left_out_of_masks(name: str) -> None:
    y, mask = Y.reshape(6, 1, 2, 2), BITS.reshape(6, 1, 2, 2)
    marked = torch.where(torch.arange(24).reshape(6, 1, 2, 2) % 5 == 1, 255, mask)
    kept = marked != 255
    wanted = value(name, y[kept], mask[kept].double())
    for labels in (marked, marked[:, 0], marked.to(torch.uint8), marked.double()):
        assert value(name, y, labels, ignore_index=255) == pytest.approx(wanted, rel=1e-12)


def test_the_sum_is_that_of_all_labels() -> None:
    numbers = Y.flip(0)
    cases = {"mse": numbers, "l1": numbers, "huber": numbers, "bce": BITS, "focal": CLASSES}
    cases |= {"cross_entropy": CLASSES, "nll": CLASSES, "hinge": CLASSES}
    for name, labels in cases.items():
        count = 24 if labels.shape == Y.shape else 6
        total = value(name, Y, labels, reduction="sum")
        assert total == pytest.approx(count * value(name, Y, labels), rel=1e-12), name


def test_bce_of_several_labels_with_weights_and_smoothing() -> None:
    for weight, smooth in product((None, 2.5, [1.0, 2.0, 3.0, 4.0]), (0.0, 0.2)):
        wanted = 0.0
        for y_row, t_row in zip(Y.tolist(), BITS.tolist(), strict=True):
            for k, (y, bit) in enumerate(zip(y_row, t_row, strict=True)):
                t = bit * (1 - smooth) + smooth / 2
                w = 1.0 if weight is None else weight[k] if isinstance(weight, list) else weight
                wanted -= (w * t * log_sigmoid(y) + (1 - t) * log_sigmoid(-y)) / 24
        settings: dict[str, Any] = {"label_smoothing": smooth}
        if weight is not None:
            settings["pos_weight"] = weight
        assert value("bce", Y, BITS, **settings) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_focal_loss_of_classes(gamma: float) -> None:
    wanted = -sum((1 - math.exp(p[c])) ** gamma * p[c] for p, c in rows(Y, CLASSES)) / 6
    assert value("focal", Y, CLASSES, gamma=gamma) == pytest.approx(wanted, rel=1e-10)
    weighted = (
        -sum(WEIGHTS[c] * (1 - math.exp(p[c])) ** gamma * p[c] for p, c in rows(Y, CLASSES)) / 6
    )
    found = value("focal", Y, CLASSES, gamma=gamma, class_weights=WEIGHTS)
    assert found == pytest.approx(weighted, rel=1e-10)


def test_focal_loss_of_zeros_and_ones() -> None:
    wanted = 0.0
    for y, bit in zip(Y.flatten().tolist(), BITS.flatten().tolist(), strict=True):
        log = log_sigmoid(y if bit else -y)
        wanted -= (0.25 if bit else 0.75) * (1 - math.exp(log)) ** 2 * log / 24
    assert value("focal", Y, BITS, alpha=0.25) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("margin", [1.0, 0.4])
def test_hinge_of_classes_and_of_sides(margin: float) -> None:
    wanted = 0.0
    for row, c in zip(Y.tolist(), CLASSES.tolist(), strict=True):
        wanted += sum(max(0.0, margin - row[c] + v) for k, v in enumerate(row) if k != c) / 4 / 6
    assert value("hinge", Y, CLASSES, margin=margin) == pytest.approx(wanted, rel=1e-12)
    bits = BITS[:, 0]
    sides = 2 * bits - 1
    wanted = sum(
        max(0.0, margin - t * y) for y, t in zip(Y[:, 0].tolist(), sides.tolist(), strict=True)
    )
    for labels in (bits, sides, bits.double().unsqueeze(1)):
        assert value("hinge", Y[:, 0], labels, margin=margin) == pytest.approx(
            wanted / 6, rel=1e-12
        )


def test_losses_of_numbers() -> None:
    labels = Y.flip(0)
    apart = [
        abs(a - b) for a, b in zip(Y.flatten().tolist(), labels.flatten().tolist(), strict=True)
    ]
    assert value("mse", Y, labels) == pytest.approx(sum(d * d for d in apart) / 24, rel=1e-12)
    assert value("l1", Y, labels) == pytest.approx(sum(apart) / 24, rel=1e-12)
    for delta in (1.0, 0.3):
        huber = sum(d * d / 2 if d <= delta else delta * (d - delta / 2) for d in apart) / 24
        assert value("huber", Y, labels, delta=delta) == pytest.approx(huber, rel=1e-12)


def spelled(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """What a path spells: repetitions are one symbol, blanks none."""
    return tuple(c for i, c in enumerate(path) if c != blank and (i == 0 or path[i - 1] != c))


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("layout", ["rows first", "times first"])
def test_ctc_is_the_sum_over_all_paths(blank: int, layout: str) -> None:
    y = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    symbols = [k for k in range(3) if k != blank]
    targets = [(symbols[0], symbols[1]), (symbols[1],)]
    wanted = 0.0
    for row, target in enumerate(targets):
        logs = [log_p(v) for v in y[row].tolist()]
        paths = [p for p in product(range(3), repeat=4) if spelled(p, blank) == target]
        total = sum(math.exp(sum(logs[t][c] for t, c in enumerate(p))) for p in paths)
        wanted -= math.log(total) / len(target) / 2
    output = y if layout == "rows first" else y.transpose(0, 1)
    for padding in (-1, blank):
        labels = torch.tensor([targets[0], (*targets[1], padding)])
        assert value("ctc", output, labels, blank=blank) == pytest.approx(wanted, rel=1e-10)
    flat = {"targets": torch.tensor([*targets[0], *targets[1]]), "target_lengths": [2, 1]}
    flat["input_lengths"] = torch.tensor([4, 4])
    assert value("ctc", output, flat, blank=blank) == pytest.approx(wanted, rel=1e-10)
    assert choose_loss("auto", flat, 0).name == "ctc"


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        (torch.tensor([[1, 1, 2, 2, 1], [1, 0, 0, 0, 0]]), "5 symbols in 4 times"),
        (torch.tensor([[1, 9], [1, 0]]), "symbols run to 9, but there are 3 classes"),
        (torch.tensor([[1], [1], [1]]), "3 labels for an output [2, 4, 3]"),
        ({"targets": torch.tensor([[1, 2], [1, 1]]), "target_lengths": [3, 1]}, "a target of 3"),
        ({"labels": torch.tensor([[1]])}, "targets, input_lengths, target_lengths"),
    ],
)
def test_ctc_labels_that_would_be_read_out_of_bounds(labels: Any, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        value("ctc", torch.zeros(2, 4, 3), labels)
    assert hint in str(caught.value.hint)


def test_classes_last_and_masks_with_an_axis_of_one() -> None:
    y = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.arange(10).reshape(2, 5) % 3
    wanted = value("cross_entropy", y.reshape(10, 3), labels.flatten())
    assert value("cross_entropy", y, labels) == pytest.approx(wanted, rel=1e-12)
    assert value("cross_entropy", y.transpose(1, 2), labels) == pytest.approx(wanted, rel=1e-12)
    dense = y.transpose(1, 2).reshape(2, 3, 5, 1)
    assert value("cross_entropy", dense, labels.reshape(2, 1, 5, 1)) == pytest.approx(
        wanted, rel=1e-12
    )
    assert value("cross_entropy", dense, labels.reshape(2, 5, 1).double()) == pytest.approx(wanted)


def test_a_mask_of_255_is_told_how_to_leave_it_out() -> None:
    y, labels = torch.zeros(2, 3, 2, 2), torch.full((2, 2, 2), 255)
    labels[0] = 1
    with pytest.raises(DataError) as caught:
        value("cross_entropy", y, labels)
    assert "run from 1 to 255, but there are 3 classes" in str(caught.value.hint)
    assert "--loss-option ignore_index=255" in str(caught.value.hint)
    with pytest.raises(DataError) as caught:
        value("bce", y[:, :1], torch.where(labels == 255, 255, 0))
    assert "--loss-option ignore_index=255" in str(caught.value.hint)
    with pytest.raises(DataError, match="do not fit") as caught:
        value("cross_entropy", y, torch.full((2, 2, 2), 255), ignore_index=255)
    assert "every label of the batch is 255" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mse", {"ignore_index": 3}, "the loss mse has no option 'ignore_index'"),
        ("cross_entropy", {"weight": [1]}, "'weight', did you mean 'class_weights'?"),
        ("bce", {"pos_weights": 2}, "'pos_weights', did you mean 'pos_weight'?"),
        ("cross_entropy", {"ignore_index": "x"}, "has to be a whole number"),
        ("cross_entropy", {"ignore_index": 2.5}, "has to be a whole number"),
        ("cross_entropy", {"ignore_index": True}, "has to be a whole number"),
        ("cross_entropy", {"label_smoothing": 1.5}, "has to be a number from 0 to 1"),
        ("cross_entropy", {"class_weights": [1, -1]}, "has to be a list of numbers"),
        ("cross_entropy", {"class_weights": [0, 0]}, "has to be a list of numbers"),
        ("cross_entropy", {"class_weights": 3}, "has to be a list of numbers"),
        ("bce", {"pos_weight": 0}, "has to be a number above 0"),
        ("huber", {"delta": float("nan")}, "has to be a number above 0"),
        ("mse", {"reduction": "none"}, "has to be mean or sum"),
        ("ctc", {"zero_infinity": 1}, "has to be true or false"),
    ],
)
def test_options_are_checked(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match="the ") as caught:
        choose_loss(name, CLASSES, 0, settings)
    assert message in caught.value.message


def test_options_of_another_length_than_the_output_has() -> None:
    with pytest.raises(DataError) as caught:
        value("cross_entropy", Y, CLASSES, class_weights=[1.0, 2.0])
    assert "class_weights has 2 entries for 4 classes" in str(caught.value.hint)
    with pytest.raises(DataError) as caught:
        value("bce", Y, BITS, pos_weight=[1.0, 2.0])
    assert "pos_weight has 2 entries for 4 outputs" in str(caught.value.hint)


def test_arrays_are_options_too_and_a_function_gets_its_own() -> None:
    found = choose_loss("cross_entropy", CLASSES, 0, {"class_weights": torch.tensor(WEIGHTS)})
    assert found.settings == {"class_weights": tuple(WEIGHTS)}

    def own(y: Tensor, labels: Tensor, scale: float = 1.0) -> Tensor:
        return scale * y.square().sum()

    loss = choose_loss(own, CLASSES, 0, {"scale": 3.0})
    assert float(loss.compute(Y, CLASSES, 0)) == pytest.approx(3 * float(Y.square().sum()))


def test_every_entry_has_a_definition_and_known_options() -> None:
    for name, entry in LOSSES.items():
        assert isinstance(definition(name), Definition)
        assert set(entry.options) <= set(SETTINGS)
    assert {option for entry in LOSSES.values() for option in entry.options} == set(SETTINGS)
