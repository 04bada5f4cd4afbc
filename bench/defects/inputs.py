"""Defects of the data: inputs that were prepared otherwise than in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.defects.cases import Defect
from bench.defects.data import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bench.defects.cases import Change, Subject

_ANY = ("mean-drift", "variance-drift")
_GUESS = ("worse-than-guessing",)
_MODEL = (None,)


def fed(prepare: Callable[[Tensor], Tensor]) -> Change:
    """Other inputs; an autoencoder's labels stay what they were."""

    def change(case: Subject) -> None:
        case.x = prepare(case.x).contiguous()

    return change


def _column(index: int, factor: float) -> Callable[[Tensor], Tensor]:
    def prepare(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, index] *= factor
        return x

    return prepare


def _few(prepare: Callable[[Tensor], Tensor], rows: int) -> Change:
    """Other inputs, and hardly any."""

    def change(case: Subject) -> None:
        case.x, case.labels = prepare(case.x[:rows]).contiguous(), case.labels[:rows]
        case.options["batch_size"] = None

    return change


def _stuck(index: int) -> Callable[[Tensor], Tensor]:
    """A sensor that gives its first reading again and again."""

    def prepare(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, index] = x[0, index]
        return x

    return prepare


def _other_labels(case: Subject) -> None:
    """Labels in another order than the inputs."""
    case.labels = case.labels.roll(1)


def _unscaled(case: Subject) -> None:
    import numpy as np
    import torch

    with np.load(FOLDER / "cells.npz") as stored:
        case.x = torch.from_numpy(stored["x"].astype(np.float32))


def _negated(case: Subject) -> None:
    case.bn("bns.1").weight[4] *= -1


LIMITS = (
    Defect("one gamma negated", "conv", ("bns.1", "bns.2"), _ANY, _negated),
    Defect(
        "columns reversed", "tabular", ("bn1", None), (*_ANY, *_GUESS), fed(lambda x: x.flip(1))
    ),
)
"""Not told from healthy variation by the rows there are (columns: variances move by 2^0.48, +-2^0.25)."""

DEFECTS = (
    Defect("0..255 for 0..1", "conv", ("bns.0",), _ANY, fed(lambda x: 255 * x)),
    Defect("0..16 for 0..1", "sequence", ("bn1",), _ANY, fed(lambda x: 16 * x)),
    Defect("-1..1 for 0..1", "depthwise", ("bn",), _ANY, fed(lambda x: 2 * x - 1)),
    Defect("0..1/255 for 0..1", "autoencoder", ("bn1",), _ANY, fed(lambda x: x / 255)),
    Defect("standardised for 0..1", "concat", ("bns.0",), _ANY, fed(lambda x: (x - 0.3) / 0.38)),
    Defect("inverted", "preactivation", ("block1.bn1",), _ANY, fed(lambda x: 1 - x)),
    Defect("not standardised", "tabular", ("bn1",), _ANY, _unscaled),
    Defect("mirrored", "sequence", _MODEL, _GUESS, fed(lambda x: x.flip(1))),
    Defect("labels of other rows", "conv", _MODEL, _GUESS, _other_labels),
    Defect("one feature in other units", "raw_features", ("scaler",), _ANY, fed(_column(3, 0.01))),
    Defect("darkened to half", "conv", ("bns.0",), _ANY, fed(lambda x: 0.5 * x)),
    Defect("offset of 0.5", "depthwise", ("bn",), _ANY, fed(lambda x: x + 0.5)),
    Defect(
        "0..255 for 0..1, 32 rows",
        "preactivation",
        ("block1.bn1",),
        _ANY,
        _few(lambda x: 255 * x, 32),
    ),
    Defect("0..16 for 0..1, 8 rows", "conv", ("bns.0",), _ANY, _few(lambda x: 16 * x, 8)),
    Defect("one feature stuck", "raw_features", ("scaler",), _ANY, fed(_stuck(7))),
    Defect("another feature stuck", "raw_features", ("scaler",), _ANY, fed(_stuck(21))),
)
