"""Reports as the renderers see them: plain records, no files and no torch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from bnaudit.initialisation.lemma import alignment, row_alignments
from bnaudit.load.weights.model import Layout
from bnaudit.records.initialisation import (
    FileInfo,
    InitReport,
    InitRun,
    ScaleChange,
    ScaleTest,
    Unfed,
    WeightReport,
)
from bnaudit.records.run import DataInfo
from bnaudit.records.values import NOT_REQUESTED, Skipped

_CHECKPOINT = "PyTorch checkpoint"


def weight(
    name: str,
    followed: str = "yes",
    seed: int = 0,
    scale: ScaleTest | Skipped = NOT_REQUESTED,
    sign: float = 1,
) -> WeightReport:
    rng = np.random.default_rng(seed)
    start = rng.normal(size=(8, 4, 3, 3))
    trained = sign * start + 0.5 * rng.normal(size=start.shape)
    return WeightReport(
        name=name,
        shape=start.shape,
        followed=followed,
        batchnorm=name.replace("conv", "bn").removesuffix(".weight") if followed == "yes" else None,
        followed_from="names",
        alignment=alignment(start, trained),
        rows=row_alignments(start, trained, Layout(0, 1, "assumed")),
        scale=scale,
    )


def scale_of(change: float = 3.2e-5, residual: float = 4.1e-16) -> ScaleTest:
    factors = enumerate((0.25, 0.5, 2.0, 4.0))
    changes = tuple(ScaleChange(f, change / 2**i) for i, f in factors)
    return ScaleTest(changes, change, 1.2e-5, residual, 1e-10)


def checkpoints() -> InitReport:
    return InitReport(
        start=FileInfo("epoch_0.pt", _CHECKPOINT, 20, ""),
        trained=FileInfo("epoch_90.pt", _CHECKPOINT, 20, "module."),
        identical=False,
        weights=(
            weight("conv1.weight"),
            weight("layer1.0.conv1.weight", seed=1),
            weight("layer1.0.conv2.weight", "unknown", seed=2),
            weight("fc.weight", "no", seed=3),
        ),
        run=Skipped("the trained file (PyTorch checkpoint) holds weights but no network to run"),
        notes=("epoch_90.pt: read from its entry 'model'",),
    )


def with_run() -> InitReport:
    info = InitRun(
        device="cpu",
        seed=0,
        data=DataInfo("file", ("batch.npz",), 1, 32, 256),
        loss="cross_entropy",
        loss_why="the labels are class indices",
        labels="batch.npz:labels",
        value=0.0376,
        unfed=(Unfed("layer2.0.bn1", "its input is a sum (a skip connection)"),),
        versions={"python": "3.11", "torch": "2.0"},
    )
    weights = (
        replace(weight("conv1.weight", scale=scale_of()), followed_from="run"),
        replace(weight("layer1.0.conv1.weight", seed=1, scale=scale_of(2e-4)), followed_from="run"),
        replace(
            weight(
                "stem.weight",
                "no",
                seed=2,
                scale=Skipped("its output also goes where no BatchNorm stands"),
            ),
            followed_from="run",
        ),
        replace(
            weight("fc.weight", "no", seed=3, scale=Skipped("no BatchNorm follows")),
            followed_from="run",
        ),
    )
    trained = FileInfo("model.onnx", "ONNX", 20, "")
    return replace(checkpoints(), trained=trained, weights=weights, run=info, notes=())


def broken() -> InitReport:
    report = with_run()
    bad = replace(report.weights[0], scale=scale_of(0.3, 2e-3))
    return replace(report, weights=(bad, *report.weights[1:]))


def odd() -> InitReport:
    """Zero, not finite, reversed and hostile weights; a synthetic batch of an unknown loss."""
    zero, one = np.zeros((2, 3)), np.ones((2, 3))
    plain = weight("\x1b[31mconv\u202e.weight", sign=-1)
    nothing = Skipped("the loss is 0")
    flat = ScaleTest((ScaleChange(0.25, nothing),), nothing, math.inf, nothing, 1e-10)
    report = with_run()
    assert isinstance(report.run, InitRun)
    return replace(
        report,
        weights=(
            plain,
            replace(plain, name="zero.weight", alignment=alignment(one, zero),
                    rows=row_alignments(one, zero, Layout(0))),
            replace(plain, name="nan.weight", alignment=alignment(one, one * math.nan),
                    rows=row_alignments(one, one * math.nan, Layout(0)), scale=flat),
            replace(plain, name="start_is_zero.weight", alignment=alignment(zero, one),
                    rows=row_alignments(zero, one, Layout(1, 1, "batchnorm"))),
        ),
        run=replace(
            report.run,
            data=DataInfo("synthetic", (), 1, 8, None, "standard normal"),
            value=Skipped("not finite"),
            labels=None,
        ),
    )  # fmt: skip


def identical() -> InitReport:
    report = checkpoints()
    one = np.ones((2, 3))
    same = replace(
        report.weights[0], alignment=alignment(one, one), rows=row_alignments(one, one, Layout(0))
    )
    return replace(report, identical=True, weights=(same,))


ALL = {f.__name__: f for f in (checkpoints, with_run, broken, odd, identical)}
