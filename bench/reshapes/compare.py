"""One network written by one exporter at one batch size, audited at another beside the live module."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

import bnaudit
from bench.reshapes.nets import made
from bench.vision.cells import Way, write
from bnaudit.errors import BnauditError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

TOLERANCE = 1e-9
ROWS = 6
"""Of each of the two batches that are audited: no file is written for it."""

EXPORTERS = {"TorchScript": Way("torchscript", 18), "dynamo": Way("dynamo", 20)}
BATCHES = (1, 4)

Layers = list[dict[str, Any]]


class Cell(NamedTuple):
    """A network in a file."""

    network: str
    exporter: str
    batch: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it.

    Attributes:
        unwritten: why the exporter wrote no file, else "".
        refused: why it was not run at another batch size, else "".
        failed: why it was not audited, though that was not asked for, else "".
        numbers: how many were compared.
        difference: the largest, of a number over the larger of its size and 1e-3.
        where: that number.
    """

    unwritten: str = ""
    refused: str = ""
    failed: str = ""
    numbers: int = 0
    difference: float = math.inf
    where: str = ""

    @property
    def equal(self) -> bool:
        """Whether it was run, and every number is that of the live module."""
        return self.numbers > 0 and self.difference <= TOLERANCE


def data(shape: tuple[int, ...]) -> Tensor:
    """Rows for two batches."""
    return torch.randn(
        2 * ROWS, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


@cache
def live(network: str) -> Layers:
    """What an audit of the module itself finds."""
    net, shape = made(network)
    return _audited(net, shape)


def outcome(cell: Cell, folder: Path) -> Outcome:
    """Writes and audits a file.

    Args:
        cell: which.
        folder: an empty one, for the file.
    """
    net, shape = made(cell.network)
    path = folder / "net.onnx"
    # The fused kernel has no ONNX; what torch runs without it is the same.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        write(EXPORTERS[cell.exporter], net, data(shape)[: cell.batch], path)
    except Exception as error:  # whatever an exporter raises
        return Outcome(unwritten=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
    try:
        found = _audited(path, shape)
    except UsageError as error:
        return Outcome(refused=error.message)
    except BnauditError as error:
        return Outcome(failed=error.message)
    return _compared(live(cell.network), found)


def _audited(model: Any, shape: tuple[int, ...]) -> Layers:
    report = bnaudit.audit(
        model, data=data(shape), batch_size=ROWS, dtype="float64", channels=True, verify=False
    )
    layers: Layers = json.loads(report.to_json(channels=True))["layers"]
    return layers


def _compared(expected: Layers, found: Layers) -> Outcome:
    ours, theirs = _numbers(expected), _numbers(found)
    # Residuals are rounding, and the smaller the better.
    ours, theirs = (
        {k: v for k, v in side.items() if not k.endswith(".residual")} for side in (ours, theirs)
    )
    if ours.keys() != theirs.keys():
        missing = sorted(ours.keys() ^ theirs.keys())
        return Outcome(where=f"only one has {missing[0]}", numbers=len(ours))
    gaps = {k: abs(v - theirs[k]) / max(abs(v), 1e-3) for k, v in ours.items()}
    worst = max(gaps, key=lambda k: gaps[k])
    return Outcome(numbers=len(ours), difference=gaps[worst], where=worst)


def _numbers(value: Any, path: str = "") -> dict[str, float]:
    """Every number below a JSON value, by its path; layers by their place in the network."""
    if isinstance(value, (dict, list)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for n, part in parts for k, v in _numbers(part, f"{path}.{n}").items()}
    return {path: value} if isinstance(value, (int, float)) and not isinstance(value, bool) else {}
