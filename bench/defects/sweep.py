"""What healthy layers show, and what wrong statistics cost: what thresholds are read from.

python -m bench.defects.train --sweep FOLDER 1 2 3
python -m bench.defects.sweep FOLDER           largest values over all networks, and what fires
python -m bench.defects.sweep FOLDER --cost    accuracy that one wrong channel, or one wrong layer, costs
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

import bnaudit
from bench.defects.data import held_back
from bench.defects.nets import NETS
from bnaudit.data.batch import DEFAULT_BATCHES
from bnaudit.records.drift import Channels, Drift
from bnaudit.records.finding import Severity
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Estimate, Spread
from bnaudit.summary.deployment import deployed, lower_end, mean_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from bnaudit.records.report import Report

SETTINGS = ((32, 8), (64, 4), (16, 8), (8, 8))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Audit every network of a sweep.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cost", action="store_true", help="accuracy that wrong statistics cost")
    options = parser.parse_args()
    folder = options.folder
    torch.set_num_threads(1)
    if options.cost:
        _costs(folder)
        return
    for size, batches in SETTINGS:
        largest: dict[str, float] = defaultdict(float)
        layers = 0
        for path in sorted(folder.glob("*.pt")):
            report = audit(path, size, batches)
            layers += len(report.layers)
            for key, value in _values(report):
                largest[key] = max(largest[key], value)
            for f in report.findings:
                if f.severity > Severity.INFO and f.name != "few-values":
                    print(f"  {path.stem}: {f.name} @ {f.layer}: {f.message}")
        print(f"{batches} x {size} rows, {layers} layers")
        for key, value in largest.items():
            print(f"  {key}: {value:.3g}")


def audit(
    path: Path,
    size: int,
    batches: int,
    metrics: tuple[str, ...] = ("first_order", "statistics", "deployment"),
) -> Report:
    """One network of a sweep on the rows that it has not seen."""
    name = path.name.partition(".")[0]
    net = NETS[name].make()
    net.load_state_dict(torch.load(path, weights_only=True))
    x, labels = held_back(name)
    return bnaudit.audit(
        net.eval().requires_grad_(False),
        data=x,
        labels=labels,
        batch_size=size,
        batches=None if batches == DEFAULT_BATCHES else min(batches, len(x) // size),
        metrics=metrics,
    )


def _values(report: Report) -> Iterator[tuple[str, float]]:
    """What is largest in an unhealthy layer, so the largest of the healthy is what matters."""
    if isinstance(report.gradient_scale, Spread):
        yield "gradient scale", report.gradient_scale.median
        yield "1/gradient scale", 1 / report.gradient_scale.median
    found, run = deployed(report), report.run
    if found is not None and run is not None and isinstance(found.gap, Estimate):
        scale = max(mean_of(found.batch.loss) or 0.0, 0.1 * (run.loss.guess or 0.0))
        yield "deployed loss, near end", lower_end(found.gap) / scale
        yield "deployed loss, mean", found.gap.mean / scale
        yield "deployed outputs, mean", mean_of(found.distance) or 0.0
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


_STEPS = {
    "mean of a channel, sigma": (0.5, 1, 1.5, 2, 3, 4, 6),
    "variance of a channel, log2, data above": (1, 2, 3, 4, 5, 6, 8, 12),
    "variance of a channel, log2, data below": (2, 3, 4, 6, 20),
    "means of a layer, sigma, signs at random": (0.1, 0.2, 0.3, 0.5, 0.7, 1),
    "variances of a layer, log2, data above": (0.35, 0.5, 0.7, 1, 1.4, 2),
    "variances of a layer, log2, data below": (0.35, 0.5, 0.7, 1, 1.4, 2),
}

POINTS = 0.05
"""Of accuracy: what is called a cost."""


def _costs(folder: Path) -> None:
    """For every kind and size: how often it costs `POINTS`, and the most that it costs."""
    lost: dict[tuple[str, float], list[float]] = defaultdict(list)
    generator = torch.Generator().manual_seed(0)
    for path in sorted(folder.glob("*.1.pt")):
        name = path.name.partition(".")[0]
        if NETS[name].target != "class":
            continue
        net = NETS[name].make()
        net.load_state_dict(torch.load(path, weights_only=True))
        net.eval().requires_grad_(False)
        x, labels = held_back(name)
        whole = _accuracy(net, x, labels)
        for bn in net.modules():
            if isinstance(bn, nn.modules.batchnorm._BatchNorm):
                for key, accuracy in _wrong(net, bn, x, labels, generator):
                    lost[key].append(whole - accuracy)
    for (kind, step), values in lost.items():
        share = sum(value >= POINTS for value in values) / len(values)
        print(f"{kind} {step}: of {len(values)}, {share:.1%} cost 5 points; most {max(values):.2f}")


def _wrong(
    net: nn.Module,
    bn: nn.modules.batchnorm._BatchNorm,
    x: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> Iterator[tuple[tuple[str, float], float]]:
    """((kind, size), accuracy) of statistics of one layer that are wrong by so much."""
    mean, var = bn.running_mean, bn.running_var
    assert mean is not None  # noqa: S101
    assert var is not None  # noqa: S101
    kept = mean.clone(), var.clone()
    signs = torch.randint(0, 2, mean.shape, generator=generator) * 2.0 - 1
    chosen = torch.randperm(len(mean), generator=generator)[:2]
    for kind, steps in _STEPS.items():
        for step in steps:
            for channels in chosen.tolist() if "channel" in kind else [slice(None)]:
                if kind.startswith("mean"):
                    shift = step * signs * (kept[1] + bn.eps).sqrt()
                    mean[channels] += shift[channels]
                else:
                    var[channels] *= 2.0 ** (-step if "above" in kind else step)
                yield (kind, step), _accuracy(net, x, labels)
                mean.copy_(kept[0])
                var.copy_(kept[1])


def _accuracy(net: nn.Module, x: Tensor, labels: Tensor) -> float:
    return float((net(x).argmax(1) == labels).double().mean())


if __name__ == "__main__":
    main()
