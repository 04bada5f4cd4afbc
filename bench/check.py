"""A default check, everything included but start-up, in training steps of the same model and batch.

    python -m bench.check [--write] [--batch 8] [--threads 2] [--rounds 3]

A step is a train-mode forward and backward with the gradients of all parameters; a check loads the model,
runs its four batches, measures what is measured by default, and judges. Medians of interleaved rounds.
light_resnet50 is a real topology that the onnx package ships, with constant weights; ResNet-50 has
random ones.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch

import bnaudit
from bench.document import written
from bench.nets import resnet50
from bnaudit.load import load
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def step(net: nn.Module, x: Tensor) -> float:
    """Seconds of one."""
    net.train()
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    start = time.perf_counter()
    net(x).square().mean().backward()
    spent = time.perf_counter() - start
    net.zero_grad(set_to_none=True)
    net.eval()
    return spent


def check(model: Any, batch: int, x: Tensor) -> tuple[float, bnaudit.Report]:
    """Seconds of one, and what it found."""
    data: dict[str, Any] = {} if isinstance(model, Path) else {"data": x.repeat(4, 1, 1, 1)}
    start = time.perf_counter()
    report = bnaudit.audit(model, batch_size=batch, **data)
    return time.perf_counter() - start, report


def rows(batch: int, rounds: int) -> Iterator[str]:
    """One line a model."""
    yield "| model | BN | train step | check | ratio | second order alone | layers with a second order |"
    yield "|---|---|---|---|---|---|---|"
    x = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    light = LIGHT / "light_resnet50.onnx"
    live = resnet50().eval()
    for name, model, net in (
        ("ResNet-50", live, live),
        ("light_resnet50.onnx", light, load(light).module),
    ):
        step(net, x)
        steps, checks, second = [], [], []
        for _ in range(rounds):
            steps += [step(net, x), step(net, x)]
            seconds, report = check(model, batch, x)
            checks.append(seconds)
            second.append(report.run.seconds["second_order"] if report.run else 0.0)
        plain, whole = statistics.median(steps), statistics.median(checks)
        measured = sum(not isinstance(layer.second_order, Skipped) for layer in report.layers)
        yield (
            f"| {name} | {len(report.layers)} | {plain:.2f} s | {whole:.1f} s | {whole / plain:.1f} "
            f"| {statistics.median(second) / plain:.1f} | {measured} |"
        )


def main() -> None:
    """Prints the table; writes it where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    lines = []
    for row in rows(args.batch, args.rounds):
        lines.append(row)
        print(row, flush=True)
    if args.write:
        written("default_check", "\n".join(lines))


if __name__ == "__main__":
    main()
