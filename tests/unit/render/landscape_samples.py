"""Landscapes as records: what there is to show, and what is missing."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from typing import TYPE_CHECKING

from bnaudit.documents import Landscape
from bnaudit.records.landscape import (
    NETWORKS,
    Agreement,
    Comparison,
    Group,
    GroupWalk,
    Point,
    Walk,
)
from bnaudit.records.run import DataInfo
from bnaudit.records.values import Skipped, Spread

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = (0.001, 0.03, 1.0)
_OFF = Skipped("not finite in 2 of 2 batches")


def spread(median: float) -> Spread:
    return Spread(median, 0.8 * median, 1.5 * median, 2)


def walk(network: str, form: str, rough: float, finite: int = 3) -> Walk:
    """Rougher from step to step; finite at the first few."""
    norm = 2.0 if form == "relative" else 0.8
    points = []
    for place, step in enumerate(STEPS):
        there = place < finite
        beta = rough * (place + 1)
        points.append(
            Point(
                step,
                spread(0.03 * (1 + rough * step)) if there else _OFF,
                spread(beta * step * norm) if there else _OFF,
                spread(beta) if there else _OFF,
                0 if there else 2,
            )
        )
    none = Skipped("neither loss nor gradient is finite at any step")
    return Walk(
        network=network,
        form=form,
        grad_norm=spread(norm),
        loss=spread(0.03),
        variation=spread(0.03 * rough * STEPS[finite - 1]) if finite else none,
        change=spread(rough * finite * STEPS[finite - 1] * norm) if finite else none,
        beta=spread(rough * finite) if finite else none,
        points=tuple(points),
    )


def group(name: str, role: str, feeds: str | None, forms: tuple[str, ...], by: float) -> Group:
    walks = tuple(
        GroupWalk(
            network=network,
            form=form,
            grad_norm=spread(0.2),
            change=(0.01 * by, 0.2 * by, nan if network == "frozen" else 3.0 * by),
            beta=spread(by * (90.0 if network == "frozen" else 12.0)),
        )
        for form in forms
        for network in NETWORKS
    )
    return Group(name, role, feeds, (f"{name}.weight",), 1200, 2.31, spread(1.4e-5 * by), walks)


def smoother() -> Landscape:
    """Both forms, everything finite."""
    forms = ("raw", "relative")
    return Landscape(
        model="resnet.onnx",
        format="onnx",
        device="cpu",
        dtype="float32",
        seed=0,
        data=DataInfo("file", ("batch.npz",), 2, 32, 497),
        loss="cross_entropy",
        loss_why="the labels are class indices",
        labels="batch.npz:labels",
        layers=2,
        moved=42938,
        gradients=28,
        agreement=Agreement(1.9e-8, 2e-7, 3.4526698300124393e-4),
        walks=tuple(
            walk(network, form, 4.0 if network == "batchnorm" else 60.0)
            for form in forms
            for network in NETWORKS
        ),
        comparisons=tuple(
            Comparison(form, spread(15.0), spread(14.0), spread(13.0), 0) for form in forms
        ),
        groups=(
            group("layer1.0.conv1", "weights", "layer1.0.bn1", forms, 1.0),
            group("layer1.0.bn1", "batchnorm", None, forms, 2.0),
            group("fc", "other", None, forms, 3.0),
        ),
        seconds=1.5,
        versions={"python": "3.12.1", "torch": "2.9.0"},
        notes=("weights of 0 have no relative size and stay in the relative walk: layer1.0.bn2",),
    )


def overflowing() -> Landscape:
    """By eta alone; the frozen network is finite at the first step only, a layer gets no gradient."""
    made = smoother()
    nothing = Skipped("the layer does not move: no gradient arrives, or its weights are 0")
    conv, bn, fc = (group(g.name, g.role, g.feeds, ("raw",), 1.0) for g in made.groups)
    still = replace(
        bn,
        radial=Skipped("no gradient arrives"),
        walks=tuple(replace(w, beta=nothing, change=(nan, nan, nan)) for w in bn.walks),
    )
    return replace(
        made,
        data=DataInfo("synthetic", (), 1, 8, None, "standard normal"),
        walks=(walk("batchnorm", "raw", 4.0, 2), walk("frozen", "raw", 60.0, 1)),
        comparisons=(Comparison("raw", spread(0.5), spread(0.4), _OFF, 2),),
        groups=(conv, still, fc),
        labels=None,
        notes=(),
    )


def unequal() -> Landscape:
    """The two networks are not the same at the weights, and no step is finite."""
    why = Skipped("at no step both are finite, or nothing changes with BatchNorm")
    return replace(
        overflowing(),
        agreement=Agreement(0.02, 0.4, 3.4526698300124393e-4),
        walks=(walk("batchnorm", "raw", 4.0, 0), walk("frozen", "raw", 60.0, 0)),
        comparisons=(Comparison("raw", why, why, why, 3),),
    )


ALL: dict[str, Callable[[], Landscape]] = {
    "smoother": smoother,
    "overflowing": overflowing,
    "unequal": unequal,
}
