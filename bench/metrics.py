"""What each metric costs, in forward passes of the model.

    python -m bench.metrics [--batch 2] [--side 96] [--threads 1] [--write]

One forward pass F is taken in inference mode without gradients, the median of several; each metric
is timed by the audit itself on one batch of ResNet-50, and given as seconds / F. The second order shares the
first batch's pass with the first order, whose time includes the recording.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import torch

import bnaudit
from bench.document import written
from bench.nets import resnet50
from bnaudit.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator


def forward_seconds(net: torch.nn.Module, x: torch.Tensor, rounds: int) -> float:
    """The median time of a forward pass, after one to warm up."""
    seconds = []
    with torch.no_grad():
        for _ in range(rounds + 1):
            start = time.perf_counter()
            net(x)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def rows(batch: int, side: int) -> Iterator[str]:
    """One line a metric."""
    net = resnet50().eval()
    x = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
    forward = forward_seconds(net, x, rounds=9)
    runs = [
        bnaudit.audit(net, data=x, batches=1, batch_size=batch, metrics=metrics).run
        for metrics in (
            tuple(METRICS),
            tuple(n for n in METRICS if n not in {"second_order_bound", "twins"}),
        )
    ]
    forward = statistics.median([forward, forward_seconds(net, x, rounds=9)])
    whole, others = (dict(run.seconds) if run else {} for run in runs)
    others["second_order_bound"] = whole["second_order"]
    others["twins"] = whole["twins"]  # in place of upstream
    yield "| metric | seconds | in F | in F a layer |"
    yield "|---|---|---|---|"
    for name in METRICS:
        seconds = others[name]
        yield f"| `{name}` | {seconds:.2f} | {seconds / forward:.1f} | {seconds / forward / 53:.2f} |"


def main() -> None:
    """Prints the table; writes it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    lines = list(rows(args.batch, args.side))
    print("\n".join(lines))
    if args.write:
        written("metrics", "\n".join(lines))


if __name__ == "__main__":
    main()
