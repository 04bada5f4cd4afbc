"""What each metric costs, in forward passes of the model.

    python -m bench.metrics [--batch 2] [--side 96] [--threads 1]

One forward pass F is taken in inference mode without gradients, the median of several; each metric
is timed by the audit itself on one batch of ResNet-50, and given as seconds / F.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import bnaudit
from bench.nets import resnet50
from bnaudit.metrics import METRICS


def forward_seconds(net: torch.nn.Module, x: torch.Tensor, rounds: int) -> float:
    """The median time of a forward pass, after one to warm up."""
    seconds = []
    with torch.no_grad():
        for _ in range(rounds + 1):
            start = time.perf_counter()
            net(x)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    """Prints one line a metric."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    net = resnet50().eval()
    x = torch.randn(args.batch, 3, args.side, args.side, generator=torch.Generator().manual_seed(0))
    forward = forward_seconds(net, x, rounds=9)
    report = bnaudit.audit(net, data=x, batches=1, batch_size=args.batch, metrics=tuple(METRICS))
    forward = statistics.median([forward, forward_seconds(net, x, rounds=9)])
    shape = "x".join(map(str, x.shape))
    print(f"ResNet-50, {shape}, {args.threads} thread(s), F = {forward * 1e3:.1f} ms")
    layers = len(report.layers)
    for name, seconds in (report.run.seconds if report.run else {}).items():
        if name in METRICS:
            each = f"{seconds / forward / layers:6.2f} F a layer"
            print(f"{name:14} {seconds:7.2f} s {seconds / forward:7.1f} F {each}")


if __name__ == "__main__":
    main()
