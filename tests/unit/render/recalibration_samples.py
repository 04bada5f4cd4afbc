"""Recalibrations as records: what there is to show, and what is missing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.documents import Recalibration
from bnaudit.records.recalibration import (
    LayerChange,
    Offset,
    Performance,
    Refusal,
    WrittenFile,
)
from bnaudit.records.run import DataInfo
from bnaudit.records.values import Estimate, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_LABELS = Skipped("no labels given")
_ONCE = Skipped("called once")
_SETTLED = Offset(0.0, 1e-7, 0.0, 2e-7)


def averaged(mean: float, by: float = 0.1) -> Estimate:
    return Estimate(mean, mean * (1 - by), mean * (1 + by), 8)


def performance(loss: float, accuracy: float, distance: float) -> Performance:
    return Performance(averaged(loss), averaged(accuracy, 0.01), averaged(distance))


def layer(name: str, before: Offset) -> LayerChange:
    return LayerChange(
        name=name,
        channels=2,
        calls=1,
        values=31_808,
        kept=None,
        before=before,
        after=_SETTLED,
        apart=_ONCE,
        running_mean=(0.25, -0.5),
        running_var=(1.5, 0.75),
    )


def averaged_weights() -> Recalibration:
    """Statistics of other weights, mended and written."""
    batch = replace(performance(0.144, 0.972, 0.1), distance=Skipped("compared with these outputs"))
    return Recalibration(
        model="ema.onnx",
        format="onnx",
        output="fixed.onnx",
        way="front-to-back",
        passes=4,
        device="cpu",
        dtype="float32",
        seed=0,
        data=DataInfo("file", ("train.npz",), 16, 32, 497),
        loss="cross_entropy",
        loss_why="the labels are class indices",
        labels="train.npz:labels",
        layers=(
            layer("stem.bn", Offset(0.038, 0.15, 0.23, 0.34)),
            layer("layer1.0.bn1", Offset(0.36, 1.1, 1.1, 1.4)),
        ),
        batch=batch,
        before=performance(1.11, 0.515, 0.68),
        after=performance(0.117, 0.979, 0.16),
        change=Estimate(-0.99, -1.1, -0.87, 8),
        accuracy_change=Estimate(0.46, 0.4, 0.52, 8),
        recovered=1.03,
        written=WrittenFile(0.0, 2e-7, 1e-4),
        versions={"python": "3.12.1", "torch": "2.9.0"},
        notes=("exported at batch size 4, and its rows are independent",),
    )


def shared() -> Recalibration:
    """One BatchNorm in two places: refused."""
    made = averaged_weights()
    hb = replace(made.layers[1], name="head.bn", calls=2, apart=Offset(0.51, 1.9, 3.2, 3.9))
    frozen = replace(
        made.layers[0],
        name="aux.bn",
        kept="it keeps no running statistics",
        before=Skipped("it keeps no running statistics"),
        after=Skipped("it keeps no running statistics"),
        apart=Skipped("it keeps no running statistics"),
        running_mean=None,
        running_var=None,
    )
    refusal = Refusal(
        "shared",
        "head.bn is called in several places, whose inputs are 0.51 sigma and a factor of 9.2 apart",
        "give each place a BatchNorm of its own",
    )
    return replace(
        made,
        output=None,
        layers=(made.layers[0], hb, frozen),
        refusals=(refusal,),
        written=Skipped("not requested"),
        notes=(),
    )


def forced() -> Recalibration:
    """The same, and worse than before."""
    return replace(
        shared(),
        forced=True,
        output="fixed.onnx",
        after=performance(1.4, 0.4, 0.9),
        change=Estimate(0.3, 0.2, 0.4, 8),
        accuracy_change=Estimate(-0.1, -0.2, -0.05, 8),
        recovered=-0.3,
    )


def without_labels() -> Recalibration:
    """A dry run on one batch, a way of its own, and numbers that are not there."""
    nothing = Skipped("a loss without labels says nothing about it (pass --labels)")
    alone = Skipped("one batch has no spread")

    def one(distance: float) -> Performance:
        return Performance(nothing, _NO_LABELS, Estimate(distance, alone, alone, 8))

    return replace(
        averaged_weights(),
        output=None,
        way="one-pass",
        passes=1,
        loss="noise_mse",
        loss_why="no labels given",
        labels=None,
        data=DataInfo("tensor", (), 1, 32, 32),
        batch=Performance(nothing, _NO_LABELS, Skipped("compared with these outputs")),
        before=one(0.9),
        after=one(0.05),
        change=Estimate(-0.85, alone, alone, 8),
        accuracy_change=_NO_LABELS,
        recovered=Skipped("there is no loss to compare"),
        written=Skipped("not requested"),
    )


ALL: dict[str, Callable[[], Recalibration]] = {
    "averaged_weights": averaged_weights,
    "shared": shared,
    "forced": forced,
    "without_labels": without_labels,
}
