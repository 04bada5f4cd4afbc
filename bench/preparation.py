"""Prepares the inputs of trained networks otherwise than in training, and counts who is told what was done.

    python -m bench.preparation          the table
    python -m bench.preparation FOLDER   healthy networks of `python -m bench.defects.train --sweep FOLDER`

No labels are given: the first layers tell.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import bnaudit
from bench.defects.data import held_back, trained
from bench.defects.nets import NETS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bnaudit.records.report import Report

_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
_STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


class Colour(nn.Module):
    """Images of three channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, 2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, 24, 3, 2, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 4)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        out: Tensor = self.fc(torch.relu(self.bn3(self.conv3(x))).mean((2, 3)))
        return out


class Last(nn.Module):
    """The same on images with the channels last, as TensorFlow has them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Colour()

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, 3) -> (N, 4)."""
        out: Tensor = self.body(x.permute(0, 3, 1, 2))
        return out


class Both(nn.Module):
    """An image and a table beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.table = Colour(), nn.Linear(6, 16)
        self.bn = nn.BatchNorm1d(16)
        self.fc = nn.Linear(20, 4)

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        """(N, 3, H, W), (N, 6) -> (N, 4)."""
        beside = torch.relu(self.bn(self.table(table)))
        out: Tensor = self.fc(torch.cat([self.image(image), beside], 1))
        return out


def scenes(rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images in 0..1 of sky, ground and stripes, a table (columns in units of their own), classes."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (rows,), generator=draw)
    height, width = torch.linspace(0, 1, 24)[:, None], torch.linspace(0, 1, 24)
    sky, ground = torch.tensor([0.45, 0.55, 0.75]), torch.tensor([0.55, 0.45, 0.25])
    line = 0.3 + 0.4 * torch.rand(rows, 1, 1, generator=draw)
    above = (height < line).float()[:, None]
    x = above * sky[:, None, None] + (1 - above) * ground[:, None, None]
    phase = 6.3 * torch.rand(rows, 1, 1, generator=draw)
    across = torch.where((labels % 2 == 0)[:, None, None], width + 0 * height, height + 0 * width)
    wave = torch.sin((10 + 10 * (labels // 2))[:, None, None] * across + phase)
    x = x * (0.5 + 0.5 * torch.rand(rows, 1, 1, 1, generator=draw))
    x = x + 0.15 * wave[:, None] * torch.rand(rows, 3, 1, 1, generator=draw)
    table = torch.randn(rows, 6, generator=draw) + labels[:, None] * torch.tensor(
        [1.0, 0, 0, 0, 0, -1]
    )
    units = torch.tensor([1.0, 30.0, 0.2, 5.0, 100.0, 2.0])
    offsets = torch.tensor([10.0, 80.0, -1.0, 0.0, 500.0, 3.0])
    return (
        (x + 0.03 * torch.randn(x.shape, generator=draw)).clamp(0, 1),
        table * units + offsets,
        labels,
    )


@cache
def made(kind: str) -> nn.Module:
    """A network that was trained here, a few seconds: "colour", "raw", "last" or "both"."""
    torch.manual_seed(0)
    x, labels = inputs(kind, 512, 0)
    net = {"colour": Colour, "raw": Colour, "last": Last, "both": Both}[kind]().train()
    optimiser = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    for step in range(120):
        for group in optimiser.param_groups:
            group["lr"] = 0.05 * (1 - step / 120)
        rows = torch.arange(64) + step % 8 * 64
        optimiser.zero_grad()
        cross_entropy(net(*(part[rows] for part in x)), labels[rows]).backward()
        optimiser.step()
    return net.eval().requires_grad_(False)


def inputs(kind: str, rows: int, seed: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """What such a network is fed, and labels."""
    x, table, labels = scenes(rows, seed)
    if kind != "raw":
        x = (x - _MEAN) / _STD
    _, all_rows, _ = scenes(512, 0)
    table = (table - all_rows.mean(0)) / all_rows.std(0)
    if kind == "last":
        return (x.permute(0, 2, 3, 1).contiguous(),), labels
    return ((x, table) if kind == "both" else (x,)), labels


def healthy(net: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network and rows that it has not seen, as in training."""
    if net in NETS:
        return trained(net), (held_back(net)[0],)
    return made(net), inputs(net, 128, 1)[0]


@dataclass(frozen=True)
class Cause:
    """What is done to the first input.

    Attributes:
        nets: to which networks.
        change: how.
        told: causes that are right.
    """

    nets: tuple[str, ...]
    change: Callable[[Tensor], Tensor]
    told: tuple[str, ...]


_PLAIN = ("conv", "sequence", "depthwise", "preactivation", "concat", "autoencoder", "raw")
_IMAGES = ("colour", "both")
_ALL = (*NETS, "colour", "raw", "last", "both")
_SQUARE = ("conv", "sequence", "depthwise", "preactivation", "autoencoder")


def _pixels(x: Tensor) -> Tensor:
    return x * _STD + _MEAN


def _reshaped(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(x.shape)


CAUSES: Mapping[str, Cause] = {
    "0..255 for 0..1": Cause(_PLAIN, lambda x: 255 * x, ("inputs-scaled",)),
    "0..1 for 0..255": Cause(_PLAIN, lambda x: x / 255, ("inputs-scaled",)),
    "-1..1 for 0..1": Cause(_PLAIN, lambda x: 2 * x - 1, ("inputs-in-other-range",)),
    "half as large": Cause(_ALL, lambda x: x / 2, ("inputs-scaled",)),
    "shifted": Cause(
        _ALL, lambda x: x + 0.75 * x.std(), ("inputs-shifted", "inputs-in-other-range")
    ),
    "inverted": Cause(_PLAIN, lambda x: 1 - x, ("inputs-inverted",)),
    "mean and std missing": Cause(_IMAGES, _pixels, ("inputs-not-normalised",)),
    "0..255, mean and std missing": Cause(
        _IMAGES, lambda x: 255 * _pixels(x), ("inputs-not-normalised",)
    ),
    "mean and std twice": Cause(
        _IMAGES, lambda x: (x - _MEAN) / _STD, ("inputs-normalised-twice",)
    ),
    "mean and std taken off": Cause(("raw",), lambda x: (x - _MEAN) / _STD, ("inputs-normalised",)),
    "BGR": Cause((*_IMAGES, "raw"), lambda x: x.flip(1), ("channels-reversed",)),
    "BGR, normalised as RGB": Cause(
        _IMAGES, lambda x: (_pixels(x).flip(1) - _MEAN) / _STD, ("channels-reversed",)
    ),
    "BGR, channels last": Cause(("last",), lambda x: x.flip(-1), ("channels-reversed",)),
    "NHWC reshaped to NCHW": Cause((*_IMAGES, "raw"), _reshaped, ("inputs-in-other-layout",)),
    "rows for columns": Cause(
        _SQUARE, lambda x: x.transpose(-1, -2).contiguous(), ("inputs-in-other-layout",)
    ),
    "NHWC reshaped, 0..255": Cause(
        ("raw",), lambda x: 255 * _reshaped(x), ("inputs-in-other-layout",)
    ),
}


def audited(net: nn.Module, x: tuple[Tensor, ...], **options: Any) -> Report:
    """Without labels, what the first layers need alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bnaudit.audit(net, data=x, metrics=("first_order", "statistics"), **options)


def told(cause: Cause, net: str) -> bool:
    """Whether a finding about drift names the cause, and its code mends the inputs."""
    module, (x, *others) = healthy(net)
    wrong = cause.change(x)
    report = audited(module, (wrong, *others))
    drift = [f for f in report.findings if f.rule in {"BN201", "BN202"}]
    named = [e for e in report.preparation if e.cause in cause.told]
    return bool(named) and any(named[0].sentence in f.message for f in drift)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Count who is told how inputs were prepared.")
    parser.add_argument("folder", type=Path, nargs="?")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.folder is not None:
        spoken = 0
        paths = sorted(options.folder.glob("*.pt"))
        for path in paths:
            name = path.name.partition(".")[0]
            net = NETS[name].make().eval().requires_grad_(False)
            net.load_state_dict(torch.load(path))
            found = audited(net, (held_back(name)[0],)).preparation
            spoken += bool(found)
            for evidence in found:
                print(path.name, evidence.sentence, evidence.code)
        print(f"{spoken} of {len(paths)} healthy networks are told of other inputs")
        return
    for kind in _ALL:
        for evidence in audited(*healthy(kind)).preparation:
            print(f"{kind}, as in training: {evidence.sentence}")
    right = count = 0
    for name, cause in CAUSES.items():
        missed = [net for net in cause.nets if not told(cause, net)]
        right, count = right + len(cause.nets) - len(missed), count + len(cause.nets)
        print(
            f"{name}: {len(cause.nets) - len(missed)} of {len(cause.nets)}",
            ", ".join(missed),
            flush=True,
        )
    print(f"{right} of {count}")


if __name__ == "__main__":
    main()
