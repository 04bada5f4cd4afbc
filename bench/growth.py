"""How the time of an audit grows with depth, channels and batches: exponents between neighbouring sizes.

    python -m bench.growth [--device cpu] [--rounds 3] [--write]

Convolutions 3x3 with BatchNorm and ReLU, 8 channels at 8x8 unless these grow, batches of 16. Processor time
(wall time on another device) of each stage, the least of interleaved rounds. 1 is proportional; the exact
second order grows with the square of the depth, as each direction passes all layers behind its own.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from contextlib import contextmanager
from math import log
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch import Tensor, nn

import bnaudit
from bench.document import written
from bnaudit import pipeline
from bnaudit.assembly import full_report

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = {
    "depth": (10, 40, 100, 400),
    "channels": (8, 32, 128),
    "batches": (1, 4, 16),
}
STAGES = ("first order", "second order", "statistics", "report", "judging", "in all")
ROWS, SIDE = 16, 8


def network(depth: int, channels: int) -> nn.Module:
    """Layers behind each other, with running statistics of random data."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 1)]
    for _ in range(depth):
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    with torch.no_grad():
        net.train()(torch.randn(64, 3, SIDE, SIDE))
    return net.eval()


@contextmanager
def _timed(clock: Any, spent: dict[str, float]) -> Iterator[None]:
    """Notes what building the report and judging take, which the run itself does not say."""
    with (
        mock.patch.object(pipeline, "full_report") as report,
        mock.patch.object(pipeline, "_judged") as judged,
    ):
        for name, stand_in, call in (
            ("report", report, _REPORT),
            ("judging", judged, _JUDGED),
        ):

            def around(*given: Any, name: str = name, call: Any = call, **options: Any) -> Any:
                start = clock()
                found = call(*given, **options)
                spent[name] += clock() - start
                return found

            stand_in.side_effect = around
        yield


_REPORT, _JUDGED = full_report, pipeline._judged


def audited(net: nn.Module, x: Tensor, batches: int, device: str) -> dict[str, float]:
    """Seconds by stage."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    spent: dict[str, float] = defaultdict(float)
    with _timed(clock, spent), mock.patch("bnaudit.pipeline.time.perf_counter", clock):
        start = clock()
        report = bnaudit.audit(net, data=x, batches=batches, batch_size=ROWS, device=device)
        spent["in all"] = clock() - start
    run = report.run
    for name in ("first_order", "second_order", "statistics"):
        spent[name.replace("_", " ")] = 0.0 if run is None else run.seconds[name]
    return spent


def _case(what: str, size: int) -> tuple[nn.Module, Tensor, int]:
    depth = size if what == "depth" else 20
    batches = size if what == "batches" else 2
    net = network(depth, size if what == "channels" else 8)
    return net, torch.randn(ROWS * batches, 3, SIDE, SIDE), batches


def rows(device: str, rounds: int) -> Iterator[str]:
    """One line a size that grows: the exponents between the last two sizes."""
    yield f"| what grows | sizes | {' | '.join(STAGES)} |"
    yield "|---" * (2 + len(STAGES)) + "|"
    for what, sizes in SIZES.items():
        cases = {size: _case(what, size) for size in sizes}
        best: dict[int, dict[str, float]] = {}
        for _ in range(rounds):
            for size, (net, x, batches) in cases.items():
                found = audited(net, x, batches, device)
                known = best.setdefault(size, found)
                best[size] = {stage: min(known[stage], found[stage]) for stage in STAGES}
        cells = []
        for stage in STAGES:
            low, high = (best[size][stage] for size in sizes[-2:])
            cells.append(f"{log(high / low) / log(sizes[-1] / sizes[-2]):.2f}" if low else "-")
        shown = ", ".join(map(str, sizes))
        yield f"| {what} | {shown} | {' | '.join(cells)} |"


def main() -> None:
    """Prints the table; writes it where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for line in rows(args.device, args.rounds):
        lines.append(line)
        print(line, flush=True)
    if args.write:
        written("growth", "\n".join(lines))


if __name__ == "__main__":
    main()
