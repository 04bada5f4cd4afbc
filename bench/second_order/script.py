"""What a user would write for g'Hx g at the input of every BatchNorm."""

from __future__ import annotations

import importlib.util
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

CURVLINOPS = importlib.util.find_spec("curvlinops") is not None


def curvatures(net: nn.Module, x: Tensor) -> list[float]:
    """G'Hx g of every layer: a shift of its input is the parameter.

    By curvlinops' Hessian where it is installed, else by `torch.autograd.functional.hvp`; the loss
    is the mean square of the output.
    """
    layers = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with _training(net, layers):
        return [_curvature(net, layer, x) for layer in layers]


def _curvature(net: nn.Module, layer: nn.Module, x: Tensor) -> float:
    zero = torch.zeros(_input_shape(net, layer, x), device=x.device)
    if CURVLINOPS:
        return _by_curvlinops(net, layer, nn.Parameter(zero), x)

    def loss(value: Tensor) -> Tensor:
        handle = layer.register_forward_pre_hook(lambda _, given: (given[0] + value,))
        try:
            found: Tensor = net(x).square().mean()
            return found
        finally:
            handle.remove()

    g = torch.autograd.functional.jacobian(loss, zero)
    return float((torch.autograd.functional.hvp(loss, zero, g)[1] * g).sum())


def _by_curvlinops(net: nn.Module, layer: Any, shift: nn.Parameter, x: Tensor) -> float:
    from curvlinops import HessianLinearOperator  # type: ignore[import-not-found, unused-ignore]

    layer.shift = shift  # a parameter of the layer: the operator swaps it by its name
    handle = layer.register_forward_pre_hook(lambda m, given: (given[0] + m.shift,))
    try:
        output = net(x)
        (g,) = torch.autograd.grad(output.square().mean(), [shift])
        data = [(x, torch.zeros_like(output))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hessian = HessianLinearOperator(
                net, nn.MSELoss(), [shift], data, check_deterministic=False
            )
            return float(g.flatten() @ (hessian @ g.flatten()))
    finally:
        handle.remove()
        del layer.shift


@contextmanager
def _training(net: nn.Module, layers: list[Any]) -> Iterator[None]:
    """Batch statistics, none written: torch.func forbids it, as it does dropout, which stays off."""
    kept = [{name: getattr(m, name) for name in _STATISTICS} for m in layers]
    for layer in layers:
        layer.train()
        for name in _STATISTICS:
            setattr(layer, name, None)
    try:
        yield
    finally:
        net.eval()
        for layer, values in zip(layers, kept, strict=True):
            for name, value in values.items():
                setattr(layer, name, value)


def _input_shape(net: nn.Module, layer: nn.Module, x: Tensor) -> torch.Size:
    shapes: list[torch.Size] = []
    handle = layer.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    with torch.no_grad():
        net(x)
    handle.remove()
    return shapes[0]
