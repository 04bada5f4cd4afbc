"""Training steps with and without a watch, in turn, in one process.

    python -m bench.watch [--write] [--rounds 12] [--threads 1] [--stem imagenet]

ResNet-18 at 32x32, batch 128, SGD with momentum: a step is zero_grad, forward, loss, backward, update. Three
copies of one network train side by side (processor time) on the same batches: one without a watch, one that
is watched every 100 steps, one at every step. Every hundredth step alone costs what the third's do, so that
the cost of the second is a hundredth of that and what its quiet steps have, the hook of a pass that is not
due; that is timed by itself, since a step as a whole (in brackets) varies by more. The trained weights of all
three are compared bit by bit.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import bnaudit
from bench.document import DOCS, written

if TYPE_CHECKING:
    from torch import Tensor


class Trained:
    """One copy in training."""

    def __init__(self, net: nn.Module) -> None:
        self.net = copy.deepcopy(net).train()
        self.optimizer = torch.optim.SGD(self.net.parameters(), 0.05, momentum=0.9)
        self.seconds: list[float] = []

    def step(self, x: Tensor, y: Tensor) -> None:
        """One step; the processor time of it, on a machine that others use."""
        start = time.process_time()
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.net(x), y)
        loss.backward()
        self.optimizer.step()
        self.seconds.append(time.process_time() - start)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        z: Tensor = self.relu(self.bn2(self.conv2(y)) + self.downsample(x))
        return z


def network(stem: str) -> nn.Module:
    """ResNet-18; for images of 32x32 usually without the stem that makes them 8x8."""
    torch.manual_seed(0)
    first: list[nn.Module] = [
        nn.Conv2d(3, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
    ]
    if stem == "imagenet":
        first = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        first.append(nn.MaxPool2d(3, 2, 1))
    sizes = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    blocks = [
        Block(before, after, 1 if before == after else 2) for before, after in pairwise(sizes)
    ]
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def row(stem: str, rounds: int) -> str:
    """A line of the table."""
    plain, rare, always = (Trained(network(stem)) for _ in range(3))
    folder = Path(tempfile.mkdtemp())
    watches: list[Any] = [
        bnaudit.watch(rare.net, every=100, step=1, to=folder / "rare.jsonl"),
        bnaudit.watch(always.net, every=1, to=folder / "always.jsonl"),
    ]
    runs = [plain, rare, always]
    for i in range(rounds):
        x, y = torch.randn(128, 3, 32, 32), torch.randint(0, 10, (128,))
        for trained in runs[i % 3 :] + runs[: i % 3]:
            trained.step(x, y)
    watches[0].every = 10**9
    start = time.process_time()
    for _ in range(1000):
        watches[0]._entered(rare.net)  # what a pass that is not due has
    quiet = (time.process_time() - start) / 1000
    for watch in watches:
        watch.stop()
    states = [trained.net.state_dict() for trained in runs]
    for other in states[1:]:
        if not all(torch.equal(other[name], t) for name, t in states[0].items()):
            raise SystemExit("the watch has changed the trained weights")
    # The least of each: other processes make steps longer, never shorter.
    base = min(plain.seconds[1:])
    noise, looking = (min(t.seconds[1:]) / base - 1 for t in (rare, always))
    hundredth = quiet / base + 0.01 * looking
    return (
        f"| ResNet-18, stem for {'32x32' if stem == 'cifar' else '224x224'} "
        f"| {base:.3f} s | {1e6 * quiet:.1f} us ({100 * noise:+.1f} %) "
        f"| {100 * looking:.1f} % "
        f"| {100 * hundredth:.2f} % | bit-equal |"
    )


def main() -> None:
    """Prints the table; writes it where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12, help="for the larger stem a third")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--stem", choices=["cifar", "imagenet"], action="append")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    lines = [
        "| network | step | quiet steps | watched steps | every 100 | weights |",
        "|---|---|---|---|---|---|",
    ]
    for stem in args.stem or ["cifar", "imagenet"]:
        lines.append(row(stem, args.rounds // (3 if stem == "cifar" else 1)))
        print(lines[-1], flush=True)
    if args.write:
        written("watch_cost", "\n".join(lines), DOCS / "watch.md")


if __name__ == "__main__":
    main()
