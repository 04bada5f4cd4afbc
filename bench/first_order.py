"""The first-order audit against a plain train-mode forward and backward: time and peak memory.

    python -m bench.first_order [--batch 8] [--side 224] [--rounds 7] [--threads 2]

Times are taken interleaved in one process, after a warm-up round; peak memory is the resident
set of a fresh process that does the one thing, less that of one which only builds the model and batch.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import bnaudit
from bench.nets import resnet50

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


def plain_step(net: nn.Module, x: Tensor, y: Tensor) -> None:
    """What a training step does before the optimiser."""
    net.train()
    net.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(net(x), y).backward()


def audit_step(net: nn.Module, x: Tensor, y: Tensor) -> None:
    """One batch of the first-order audit, everything included but the loading."""
    net.zero_grad(set_to_none=True)
    bnaudit.audit(net, data=x, labels=y, batches=1, batch_size=x.shape[0], metrics=("first_order",))


def nothing(net: nn.Module, x: Tensor, y: Tensor) -> None:
    """Only the model and the batch."""


STEPS: dict[str, Callable[[nn.Module, Tensor, Tensor], None]] = {
    "nothing": nothing,
    "plain": plain_step,
    "audit": audit_step,
}


def workload(batch: int, side: int) -> tuple[nn.Module, Tensor, Tensor]:
    """ResNet-50 and a random labelled batch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, side, side, generator=generator)
    y = torch.randint(0, 1000, (batch,), generator=generator)
    return resnet50(), x, y


def times(batch: int, side: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step, interleaved."""
    net, x, y = workload(batch, side)
    seconds: dict[str, list[float]] = {"plain": [], "audit": []}
    for i in range(rounds + 1):
        for name, values in seconds.items():
            gc.collect()
            start = time.perf_counter()
            STEPS[name](net, x, y)
            if i:
                values.append(time.perf_counter() - start)
    return seconds


def high_water_mark() -> int:
    """Peak resident memory of this process in kB; getrusage would count the parent's before exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(ln for ln in status.splitlines() if ln.startswith("VmHWM")).split()[1])


def peak(step: str, batch: int, side: int, threads: int) -> int:
    """Peak resident memory in kB of a fresh process that does one step twice."""
    command = [sys.executable, "-m", "bench.first_order", "--peak-of", step]
    sizes = ["--batch", str(batch), "--side", str(side), "--threads", str(threads)]
    return int(subprocess.run([*command, *sizes], check=True, capture_output=True).stdout)


def main() -> None:
    """Prints the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak-of", choices=list(STEPS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak_of:
        for _ in range(2):
            STEPS[args.peak_of](*workload(args.batch, args.side))
        print(high_water_mark())
        return
    seconds = times(args.batch, args.side, args.rounds)
    plain, audit = (statistics.median(v) for v in seconds.values())
    print(f"ResNet-50, {args.batch}x3x{args.side}x{args.side}, {args.threads} threads")
    print(f"time    plain {plain:.3f} s   audit {audit:.3f} s   ratio {audit / plain:.2f}")
    base, plain_kb, audit_kb = (peak(s, args.batch, args.side, args.threads) for s in STEPS)
    plain_mb, audit_mb = ((kb - base) / 1024 for kb in (plain_kb, audit_kb))
    print(
        f"memory  plain {plain_mb:.0f} MB   audit {audit_mb:.0f} MB   ratio {audit_mb / plain_mb:.2f}"
    )


if __name__ == "__main__":
    main()
