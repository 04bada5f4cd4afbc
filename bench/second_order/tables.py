"""The tables, one function each: its rows from what was measured."""

from __future__ import annotations

import subprocess
import sys
from math import isnan
from typing import TYPE_CHECKING

import torch
from torch import nn

from bench.first_order import high_water_mark
from bench.second_order.models import BOTTLENECKS, build
from bench.second_order.script import CURVLINOPS, curvatures
from bench.second_order.ways import WAYS, audited, image, measured

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from torch import Tensor


def _placed(name: str, device: str) -> nn.Module | None:
    net = build(name)
    return None if net is None else net.to(device)


def _layers(net: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())


def times(args: argparse.Namespace) -> Iterator[str]:
    """Every way on every network."""
    tool = "curvlinops" if CURVLINOPS else "autograd.functional"
    yield f"| model | BN | F | sweep | double backward | ratio | {tool} | ratio | with bound | ratio |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name in args.models:
        net = _placed(name, args.device)
        if net is None:
            continue
        x = image(net, args.batch, args.side)
        f, in_f = measured(net, x, args.rounds, tuple(way for way in WAYS if way != "step"))
        ours, bound = in_f["sweep"], in_f["with bound"]
        yield (
            f"| {name} | {_layers(net)} | {f * 1e3:.1f} ms | {ours:.1f} F | {in_f['double backward']:.0f} F "
            f"| {in_f['double backward'] / ours:.1f} | {_script(in_f['script'], ours)} "
            f"| {bound:.1f} F | {in_f['double backward with bound'] / bound:.1f} |"
        )


def _script(theirs: float, ours: float) -> str:
    return "fails | " if isnan(theirs) else f"{theirs:.0f} F | {theirs / ours:.0f}"


def agreement(args: argparse.Namespace) -> Iterator[str]:
    """The script's values beside ours, to show that both measure the same."""
    yield "| model | largest difference of g'Hx g, in float32, relative to both parts |"
    yield "|---|---|"
    for name in args.models[:2]:
        net = _placed(name, args.device)
        if net is not None:
            x = image(net, args.batch, args.side)
            yield f"| {name} | {_difference(net, x):.0e} |"


def _difference(net: nn.Module, x: Tensor) -> float:
    theirs = iter(curvatures(net, x))
    largest = 0.0
    for layer in audited(net, x, "second_order").layers:
        order = layer.second_order
        value = next(theirs)
        scale = abs(order.transported.median) + abs(order.correction.median)  # type: ignore[union-attr]
        largest = max(largest, abs(order.measured.median - value) / scale)  # type: ignore[union-attr]
    return largest


def depth(args: argparse.Namespace) -> Iterator[str]:
    """Residual networks with bottlenecks at one image size."""
    yield "| network | BN | F | sweep | a layer | double backward | a layer | ratio |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in BOTTLENECKS:
        net = _placed(name, args.device)
        if net is None:
            continue
        x = image(net, args.batch, args.side)
        f, in_f = measured(net, x, args.rounds, ("sweep", "double backward"))
        layers, ours, double = _layers(net), in_f["sweep"], in_f["double backward"]
        yield (
            f"| {name} | {layers} | {f * 1e3:.1f} ms | {ours:.1f} F | {ours / layers:.2f} F | {double:.0f} F "
            f"| {double / layers:.1f} F | {double / ours:.1f} |"
        )


SIZES = ((1, 64), (2, 64), (4, 64), (8, 64), (16, 64), (2, 96), (2, 128), (2, 224), (8, 224))


def size(args: argparse.Namespace) -> Iterator[str]:
    """ResNet-50 over batch and image sizes."""
    yield "| ResNet-50 at | F | plain step | sweep | with bound | sweep in plain steps |"
    yield "|---|---|---|---|---|---|"
    net = _placed("resnet50", args.device)
    if net is None:
        return
    for batch, side in SIZES:
        x = image(net, batch, side)
        f, in_f = measured(net, x, args.rounds, ("step", "sweep", "with bound"))
        yield (
            f"| {batch}x3x{side}x{side} | {f * 1e3:.0f} ms | {in_f['step']:.1f} F | {in_f['sweep']:.1f} F "
            f"| {in_f['with bound']:.1f} F | {in_f['sweep'] / in_f['step']:.1f} |"
        )


def memory(args: argparse.Namespace) -> Iterator[str]:
    """Peaks of fresh processes above one that only builds the model."""
    yield "| model | plain step | sweep | ratio | with bound | ratio | double backward |"
    yield "|---|---|---|---|---|---|---|"
    for name in args.models:
        if build(name) is None:
            continue
        ways = ("step", "sweep", "with bound", "double backward")
        nothing = _peak("nothing", name, args)
        plain, ours, bound, double = (_peak(way, name, args) - nothing for way in ways)
        yield (
            f"| {name} | {plain:.0f} MB | {ours:.0f} MB | {ours / plain:.1f} | {bound:.0f} MB "
            f"| {bound / plain:.1f} | {double:.0f} MB |"
        )


def _peak(way: str, name: str, args: argparse.Namespace) -> float:
    command = [sys.executable, "-m", "bench.second_order", "--peak-of", way, name]
    for option in ("batch", "side", "threads", "device"):
        command += [f"--{option}", str(getattr(args, option))]
    return int(subprocess.run(command, check=True, capture_output=True).stdout) / 1024


def peak_of(way: str, name: str, args: argparse.Namespace) -> int:
    """Does one thing and says how much memory that took, in kB."""
    net = _placed(name, args.device)
    if net is None:
        raise SystemExit(f"{name} needs torchvision")
    x = image(net, args.batch, args.side)
    if way != "nothing":
        WAYS[way](net, x)
    if x.device.type == "cuda":
        return torch.cuda.max_memory_allocated(x.device) // 1024
    return high_water_mark()


TABLES = {
    "second_order_times": times,
    "second_order_script": agreement,
    "second_order_memory": memory,
    "second_order_depth": depth,
    "second_order_size": size,
}


def names(wanted: Sequence[str]) -> list[str]:
    """All, or those whose names end so."""
    return [
        n for n in TABLES if not wanted or n.removeprefix("second_order_") in wanted or n in wanted
    ]
