"""What healthy layers show: the distributions that thresholds are read from.

python -m bench.defects.train --sweep FOLDER 1 2 3
python -m bench.defects.sweep FOLDER        largest values over all networks, and what fires
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import bnaudit
from bench.defects.data import held_back
from bench.defects.nets import NETS
from bnaudit.records.drift import Channels, Drift
from bnaudit.records.finding import Severity
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.report import Report

SETTINGS = ((32, 8), (64, 4), (16, 8), (8, 8))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Audit every network of a sweep.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    for size, batches in SETTINGS:
        largest: dict[str, float] = defaultdict(float)
        layers = 0
        for path in sorted(folder.glob("*.pt")):
            report = _audit(path, size, batches)
            layers += len(report.layers)
            for key, value in _values(report):
                largest[key] = max(largest[key], value)
            for f in report.findings:
                if f.severity > Severity.INFO and f.name != "few-values":
                    print(f"  {path.stem}: {f.name} @ {f.layer}: {f.message}")
        print(f"{batches} x {size} rows, {layers} layers")
        for key, value in largest.items():
            print(f"  {key}: {value:.3g}")


def _audit(path: Path, size: int, batches: int) -> Report:
    name = path.name.partition(".")[0]
    net = NETS[name].make()
    net.load_state_dict(torch.load(path, weights_only=True))
    x, labels = held_back(name)
    return bnaudit.audit(
        net.eval().requires_grad_(False),
        data=x,
        labels=labels,
        batch_size=size,
        batches=min(batches, len(x) // size),
        metrics=("first_order", "statistics"),
    )


def _values(report: Report) -> Iterator[tuple[str, float]]:
    """What is largest in an unhealthy layer, so the largest of the healthy is what matters."""
    if isinstance(report.gradient_scale, Spread):
        yield "gradient scale", report.gradient_scale.median
        yield "1/gradient scale", 1 / report.gradient_scale.median
    for layer in report.layers:
        if isinstance(layer.first_order, FirstOrder):
            left = layer.first_order.projection
            if isinstance(left, Spread) and layer.m >= 16:
                yield "1 - projection", 1 - left.q75
        channels = layer.statistics
        if not isinstance(channels, Channels):
            continue
        yield "constant channels", float(len(channels.constant))
        if isinstance(channels.dead_gradient, tuple):
            yield "dead channels", float(len(channels.dead_gradient))
        for name in ("mean_drift", "variance_drift"):
            drift = getattr(channels, name)
            if isinstance(drift, Drift):
                yield from _drift(name, drift)


def _drift(name: str, drift: Drift) -> Iterator[tuple[str, float]]:
    if drift.excess is not None:
        yield f"{name}, layer", drift.excess.lower
    for channel, signed in enumerate(drift.signed):
        yield f"{name}, {'above' if signed > 0 else 'below'}", drift.surely(channel)


if __name__ == "__main__":
    main()
