"""One thing done once: the seconds that it took."""

from __future__ import annotations

import statistics
import time
from math import nan
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

import bnaudit
from bench.second_order.script import curvatures
from bnaudit.measure import second_order_sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


def now(x: Tensor) -> float:
    """Seconds, once the device has done what it was given."""
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter()


def loss(output: Tensor, _: Any) -> Tensor:
    """The mean square: what every way differentiates."""
    return output.square().mean()


def audited(net: nn.Module, x: Tensor, *metrics: str) -> bnaudit.Report:
    """One batch through the audit."""
    return bnaudit.audit(
        net,
        data=x,
        loss=loss,
        batches=1,
        batch_size=len(x),
        metrics=metrics,
        device=str(x.device),
    )


def added(net: nn.Module, x: Tensor, metric: str) -> float:
    """What a metric adds to an audit of the first order."""
    spent = []
    for metrics in ((), (metric,)):
        start = now(x)
        audited(net, x, *metrics)
        spent.append(now(x) - start)
    return spent[1] - spent[0]


def sweep(net: nn.Module, x: Tensor) -> float:
    """As it is by default: g'Hx g of every layer."""
    return added(net, x, "second_order")


def sweep_bound(net: nn.Module, x: Tensor) -> float:
    """With G'HzG and the bound: three directions a layer in place of one."""
    return added(net, x, "second_order_bound")


def double_backward(net: nn.Module, x: Tensor) -> float:
    """The reference for g'Hx g: one double backward a layer."""
    with mock.patch.object(second_order_sweep, "sweep_pays", return_value=False):
        return added(net, x, "second_order")


def double_bound(net: nn.Module, x: Tensor) -> float:
    """With G'HzG: two."""
    with mock.patch.object(second_order_sweep, "sweep_pays", return_value=False):
        return added(net, x, "second_order_bound")


def script(net: nn.Module, x: Tensor) -> float:
    """What a user would write; NaN where the library cannot differentiate an operator so."""
    start = now(x)
    try:
        curvatures(net, x)
    except NotImplementedError:
        return nan
    return now(x) - start


def step(net: nn.Module, x: Tensor) -> float:
    """A plain train-mode forward and backward."""
    net.train()
    net.zero_grad(set_to_none=True)
    start = now(x)
    loss(net(x), None).backward()
    spent = now(x) - start
    net.zero_grad(set_to_none=True)
    net.eval()
    return spent


def forward(net: nn.Module, x: Tensor) -> float:
    """The median of several forward passes in inference mode."""
    seconds = []
    with torch.inference_mode():
        for _ in range(6):
            start = now(x)
            net(x)
            seconds.append(now(x) - start)
    return statistics.median(seconds[1:])


WAYS: dict[str, Callable[[nn.Module, Tensor], float]] = {
    "sweep": sweep,
    "with bound": sweep_bound,
    "double backward": double_backward,
    "double backward with bound": double_bound,
    "script": script,
    "step": step,
}


def image(net: nn.Module, batch: int, side: int) -> Tensor:
    """A random batch where the network is."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, side, side, generator=generator)
    return x.to(next(net.parameters()).device)


def measured(
    net: nn.Module, x: Tensor, rounds: int, ways: tuple[str, ...]
) -> tuple[float, dict[str, float]]:
    """Seconds of a forward pass F, and each way in F: medians over interleaved rounds."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    forwards = []
    sweep(net, x)  # warms up
    for _ in range(rounds):
        for way in ways:
            forwards.append(forward(net, x))
            taken[way].append(WAYS[way](net, x))
    f = statistics.median(forwards)
    return f, {way: statistics.median(seconds) / f for way, seconds in taken.items()}
