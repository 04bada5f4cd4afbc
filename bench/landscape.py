"""A landscape of ten steps, in training steps of the same model and batch.

    python -m bench.landscape [--write] [--batch 8] [--side 224] [--threads 1] [--rounds 3]

A training step is a forward and backward pass in training mode with the gradients of all parameters, and
what SGD with momentum writes; a landscape is everything but start-up: the first look at the model, 42
gradients (both networks at the weights, and ten steps of two walks each), norms by layer, the record. Medians
of interleaved rounds in one process, in processor time. ResNet-50 has random weights.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

import bnaudit
from bench.document import written
from bench.nets import resnet50


def step(
    net: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor
) -> float:
    """Processor seconds of one."""
    net.train()
    start = time.process_time()
    optimizer.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
    return time.process_time() - start


def main() -> None:
    """Prints the table; writes it where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    net = resnet50()
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(args.batch, 3, args.side, args.side, generator=draw)
    y = torch.arange(args.batch)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    step(net, optimizer, x, y)
    steps: list[float] = []
    whole: list[float] = []
    gradients = 0
    for _ in range(args.rounds):
        steps += [step(net, optimizer, x, y) for _ in range(4)]
        start = time.process_time()
        gradients = bnaudit.landscape(net, data=x, labels=y, batch_size=args.batch).gradients
        whole.append(time.process_time() - start)
        steps += [step(net, optimizer, x, y) for _ in range(4)]
    one, all_of_it = statistics.median(steps), statistics.median(whole)
    lines = [
        "| model | input | training step | landscape, 10 steps | gradients | in training steps |",
        "|---|---|---|---|---|---|",
        f"| ResNet-50 | {args.batch}x3x{args.side}x{args.side} | {one:.2f} s | {all_of_it:.1f} s | "
        f"{gradients} | {all_of_it / one:.1f} |",
    ]
    print("\n".join(lines))
    if args.write:
        written("landscape", "\n".join(lines))


if __name__ == "__main__":
    main()
