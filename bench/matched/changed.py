"""Statistics that were changed in one layer of a trained network: does matching fail there (BN211)?"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

import bnaudit
from bench.defects.data import held_back, trained
from bench.defects.nets import NETS
from bnaudit.records.matching import Mismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

ROWS, BATCHES = 32, 2


def _shift(bn: Any, generator: torch.Generator) -> None:
    signs = torch.randint(0, 2, bn.running_mean.shape, generator=generator) * 2 - 1
    bn.running_mean += bn.running_var.sqrt() * signs


def _wide(bn: Any, _: torch.Generator) -> None:
    bn.running_var *= 4


def _mixed(bn: Any, generator: torch.Generator) -> None:
    order = torch.randperm(len(bn.running_mean), generator=generator)
    bn.running_mean.copy_(bn.running_mean[order].clone())
    bn.running_var.copy_(bn.running_var[order].clone())


def _one_mean(bn: Any, _: torch.Generator) -> None:
    bn.running_mean[1] += 3 * bn.running_var[1].sqrt()


def _one_variance(bn: Any, _: torch.Generator) -> None:
    bn.running_var[1] *= 16


CHANGES: dict[str, Callable[[Any, torch.Generator], None]] = {
    "all means by 1 sigma": _shift,
    "all variances by 4": _wide,
    "channels in another order": _mixed,
    "one mean by 3 sigma": _one_mean,
    "one variance by 16": _one_variance,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One network.

    Attributes:
        change: what was done, "" for nothing.
        first: whether it was done to the first layer, where an input of another scale may have it.
        largest: what is left of the channel that is farthest.
        found: whether BN211 tells of the layer that was changed; of an unchanged one, of any.
        alone: whether it tells of no other.
    """

    change: str
    first: bool
    largest: float
    found: bool
    alone: bool


def cases() -> Iterator[Case]:
    """The suite's networks as they are, and with each change in their first, middle and last layer."""
    for name in NETS:
        net, shape = trained(name), tuple(held_back(name)[0].shape[1:])
        yield _case(net, shape, "", "", first=False)
        layers = [
            path
            for path, module in net.named_modules()
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        ]
        for change, apply in CHANGES.items():
            for place in sorted({0, len(layers) // 2, len(layers) - 1}):
                other = copy.deepcopy(net)
                apply(other.get_submodule(layers[place]), torch.Generator().manual_seed(1))
                yield _case(other, shape, change, layers[place], first=place == 0)


def _case(net: nn.Module, shape: tuple[int, ...], change: str, layer: str, *, first: bool) -> Case:
    report = bnaudit.audit(
        net,
        data="matched",
        batches=BATCHES,
        metrics=("first_order",),
        input_shapes={"": (ROWS, *shape)},
    )
    told = {f.layer for f in report.findings if f.rule == "BN211"}
    left = [x.mismatch.largest for x in report.layers if isinstance(x.mismatch, Mismatch)]
    return Case(change, first, max(left), layer in told if change else bool(told), told <= {layer})
