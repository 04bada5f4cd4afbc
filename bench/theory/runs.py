"""Audits of the shipped networks, and of live modules on their data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from fixtures.nets import NETS, load_net
from torch import nn

import bnaudit
from bnaudit.records.values import Skipped, Spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report

FIXTURES = Path(__file__).parents[2] / "fixtures"
BATCH = 32
"""Rows in a batch: the tool's own default."""

EVERYTHING = (
    *("first_order", "second_order", "second_order_bound", "statistics", "weight_space", "twins"),
)


def audit(model: str | nn.Module, net: str, **options: Any) -> Report:
    """A shipped file or a live module on the shipped batch of `net`; float64 unless told otherwise."""
    folder = FIXTURES / net
    options = {"dtype": "float64", "batch_size": BATCH, "metrics": EVERYTHING, **options}
    options["data"] = str(folder / "batch.npz")
    return bnaudit.audit(folder / model if isinstance(model, str) else model, **options)


def value(found: object) -> float:
    """The number of a metric; NaN where it was skipped."""
    if isinstance(found, Spread):
        return found.median
    return found if isinstance(found, float) else math.nan


def at(layer: LayerReport, path: str) -> float:
    """A number of a layer by its dotted path; NaN where it was skipped."""
    found: object = layer
    for name in path.split("."):
        if isinstance(found, Skipped):
            return math.nan
        found = getattr(found, name)
    return value(found)


def trained(net: str) -> nn.Module:
    """A shipped network as a live module."""
    return load_net(net, FIXTURES / net / "state_dict.pt")


def drawn(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A net with fresh weights, drawn in float64: in float32 they depend on the processor."""
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    try:
        return make().float().eval()
    finally:
        torch.set_default_dtype(torch.float32)


def untrained(net: str, seed: int) -> nn.Module:
    """A shipped architecture with fresh weights."""
    return drawn(NETS[net], seed)


def loss(report: Report) -> float:
    """Median over the batches."""
    return math.nan if report.run is None else value(report.run.loss.value)
