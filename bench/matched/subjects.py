"""The networks: those shipped, the trained ones of the defect suite, and two of ImageNet's shape."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from fixtures.nets import load_net

from bench.defects.data import held_back
from bench.defects.data import trained as of_the_suite
from bench.defects.nets import NETS
from bench.matched import large

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from torch import Tensor, nn

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


@dataclass(frozen=True, slots=True)
class Subject:
    """A trained network and rows that it was not trained on.

    Attributes:
        name: of the network.
        net: in eval mode.
        x, y: inputs and labels.
        target: "class", or "input" for an autoencoder.
        rows: in a batch.
        batches: of real rows, of noise and matched, fewer where there are not as many rows.
    """

    name: str
    net: nn.Module
    x: Tensor
    y: Tensor
    target: str = "class"
    rows: int = 32
    batches: int = 8

    def copy(self) -> nn.Module:
        """Another one that may be trained."""
        return copy.deepcopy(self.net)


def subjects(folder: Path, chosen: Collection[str] | None = None) -> Iterator[Subject]:
    """All of them, or some; the large ones are trained once and kept in a folder."""

    def wanted(names: Iterable[str]) -> list[str]:
        return [name for name in names if chosen is None or name in chosen]

    for name in wanted(("digits_resnet", "tabular_mlp")):
        net = load_net(name, FIXTURES / name / "state_dict.pt").requires_grad_(False)
        with np.load(FIXTURES / name / "batch.npz") as batch:
            x, y = (torch.from_numpy(batch[key]) for key in ("x", "labels"))
        yield Subject(name, net, x, y)
    for name in wanted(NETS):
        x, y = held_back(name)
        yield Subject(name, of_the_suite(name), x, y, NETS[name].target)
    for name in wanted(large.NAMES):
        x, y = large.crops(16, 7)
        yield Subject(name, large.trained(name, folder), x, y, rows=8, batches=1)
