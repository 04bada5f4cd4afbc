"""The second order by the sweep, by double backward and as a user would write it, interleaved.

    python -m bench.second_order [--write] [--side 96] [--batch 2] [--threads 1] [--rounds 3]

Times are medians of processor seconds, which other work on the machine disturbs least, in forward passes F
of inference mode, taken in the same round; the user's script is
one `torch.autograd.functional.hvp` a layer for g'Hx g alone. Peak memory is the resident set of a fresh
process above that of one which only builds the model. ResNet-50 comes with the bench; torchvision's
models join where it is installed. `--write` puts the tables between the markers in docs/performance.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch import Tensor, nn

import bnaudit
from bench.first_order import high_water_mark
from bench.nets import resnet50
from bnaudit.measure import second_order_sweep

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[1] / "docs" / "performance.md"
MODELS = ("resnet50", "resnet18", "mobilenet_v2", "efficientnet_b0", "densenet121")


def build(name: str) -> nn.Module | None:
    """A network with random weights, or None where it would need torchvision."""
    torch.manual_seed(0)
    if name == "resnet50":
        return resnet50()
    if importlib.util.find_spec("torchvision") is None:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for op in ("nms", "qnms"):  # a build without its C++ part does not import otherwise
        library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import models

    net: nn.Module = getattr(models, name)(weights=None)
    return net


def audit(net: nn.Module, x: Tensor, metric: str) -> float:
    """Seconds that a metric adds to an audit of the first order."""
    spent = []
    for metrics in ((), (metric,)):
        start = time.perf_counter()
        bnaudit.audit(net, data=x, batches=1, batch_size=len(x), metrics=metrics)
        spent.append(time.perf_counter() - start)
    return spent[1] - spent[0]


def sweep(net: nn.Module, x: Tensor) -> float:
    """As it is by default: g'Hx g of every layer."""
    return audit(net, x, "second_order")


def sweep_bound(net: nn.Module, x: Tensor) -> float:
    """With G'HzG and the bound: three directions a layer in place of one."""
    return audit(net, x, "second_order_bound")


def double_backward(net: nn.Module, x: Tensor) -> float:
    """The reference for g'Hx g: one double backward a layer."""
    with mock.patch.object(second_order_sweep, "sweep_pays", return_value=False):
        return audit(net, x, "second_order")


def double_bound(net: nn.Module, x: Tensor) -> float:
    """With G'HzG: two."""
    with mock.patch.object(second_order_sweep, "sweep_pays", return_value=False):
        return audit(net, x, "second_order_bound")


def script(net: nn.Module, x: Tensor) -> float:
    """What a user would write: hooks shift each layer's input, and autograd.functional does the rest."""
    layers = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    net.train()
    start = time.perf_counter()
    for layer in layers:

        def loss(shift: Tensor, layer: nn.Module = layer) -> Tensor:
            hook: Callable[..., Any] = lambda _, given: (given[0] + shift,)  # noqa: E731
            handle = layer.register_forward_pre_hook(hook)
            try:
                value: Tensor = net(x).square().mean()
                return value
            finally:
                handle.remove()

        zero = torch.zeros(_input_shape(net, layer, x))
        g = torch.autograd.functional.jacobian(loss, zero)
        torch.autograd.functional.hvp(loss, zero, g)
    net.eval()
    return time.perf_counter() - start


def _input_shape(net: nn.Module, layer: nn.Module, x: Tensor) -> torch.Size:
    shapes: list[torch.Size] = []
    handle = layer.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    with torch.no_grad():
        net(x)
    handle.remove()
    return shapes[0]


def forward(net: nn.Module, x: Tensor) -> float:
    """The median of several forward passes."""
    seconds = []
    with torch.inference_mode():
        for _ in range(6):
            start = time.perf_counter()
            net(x)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def plain_step(net: nn.Module, x: Tensor) -> float:
    """A train-mode forward and backward."""
    net.train()
    net.zero_grad(set_to_none=True)
    net(x).square().mean().backward()
    net.eval()
    return 0.0


WAYS: dict[str, Callable[[nn.Module, Tensor], float]] = {
    "sweep": sweep,
    "with bound": sweep_bound,
    "double backward": double_backward,
    "double backward with bound": double_bound,
    "script": script,
}


def measured(name: str, batch: int, side: int, rounds: int, ways: tuple[str, ...]) -> list[float]:
    """F in ms, then each way in F."""
    net = build(name)
    assert net is not None  # noqa: S101
    net.eval()
    x = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
    taken: dict[str, list[float]] = {way: [] for way in ways}
    forwards = []
    sweep(net, x)  # warms up
    for _ in range(rounds):
        for way in ways:
            forwards.append(forward(net, x))
            taken[way].append(WAYS[way](net, x))
    f = statistics.median(forwards)
    return [f * 1e3, *(statistics.median(taken[way]) / f for way in ways)]


def peak(what: str, name: str, batch: int, side: int, threads: int) -> float:
    """Peak resident MB of a fresh process."""
    sizes = ["--batch", str(batch), "--side", str(side), "--threads", str(threads)]
    command = [sys.executable, "-m", "bench.second_order", "--peak-of", what, name, *sizes]
    return int(subprocess.run(command, check=True, capture_output=True).stdout) / 1024


def peak_of(what: str, name: str, batch: int, side: int) -> int:
    """Does one thing and says how much memory that took, in kB."""
    net = build(name)
    assert net is not None  # noqa: S101
    net.eval()
    x = torch.randn(batch, 3, side, side)
    if what != "nothing":
        {"plain": plain_step, **WAYS}[what](net, x)
    return high_water_mark()


def tables(args: argparse.Namespace) -> dict[str, str]:
    """The tables by the name of their markers."""
    ways, lines = (
        tuple(WAYS),
        [
            "| model | BN | F | sweep | sweep, g'Hx g alone | double backward | ratio "
            "| ratio, g'Hx g alone | script, g'Hx g alone |"
        ],
    )
    lines.append("|---|---|---|---|---|---|---|---|---|")
    memory = ["| model | plain step | sweep | ratio | double backward |", "|---|---|---|---|---|"]
    for name in [n for n in args.models if build(n) is not None]:
        net = build(name)
        layers = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) if net else 0
        f, ours, alone, double, double_alone, own = measured(
            name, args.batch, args.side, args.rounds, ways
        )
        lines.append(
            f"| {name} | {layers} | {f:.0f} ms | {ours:.1f} F | {alone:.1f} F | {double:.0f} F "
            f"| {double / ours:.1f} | {double_alone / alone:.1f} | {own:.0f} F |"
        )
        print(lines[-1], flush=True)
        sizes = (name, args.batch, args.side, args.threads)
        base = peak("nothing", *sizes)
        mb = [peak(what, *sizes) - base for what in ("plain", "sweep", "double backward")]
        memory.append(
            f"| {name} | {mb[0]:.0f} MB | {mb[1]:.0f} MB | {mb[1] / mb[0]:.1f} | {mb[2]:.0f} MB |"
        )
        print(memory[-1], flush=True)
    scaling = ["| ResNet-50 at | F | sweep |", "|---|---|---|"]
    for batch, side in ((2, 64), (4, 64), (2, 96)):
        f, ours = measured("resnet50", batch, side, args.rounds, ("sweep",))
        scaling.append(f"| {batch}x3x{side}x{side} | {f:.0f} ms | {ours:.1f} F |")
        print(scaling[-1], flush=True)
    found = {"second_order": lines, "second_order_memory": memory, "second_order_size": scaling}
    return {name: "\n".join(rows) for name, rows in found.items()}


def main() -> None:
    """Prints the tables; writes them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak_of:
        what, name = args.peak_of
        print(peak_of(what, name, args.batch, args.side))
        return
    found = tables(args)
    if args.write:
        text = DOCS.read_text(encoding="utf-8")
        for name, rows in found.items():
            begin, end = f"<!-- numbers:begin {name} -->", "<!-- numbers:end -->"
            pattern = re.escape(begin) + r".*?" + re.escape(end)
            text = re.sub(pattern, f"{begin}\n{rows}\n{end}", text, flags=re.DOTALL)
        DOCS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
