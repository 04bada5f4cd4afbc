"""The held-back rows that audits see, and the trained weights; neither needs scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.defects.nets import NETS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "defects"

Scaling = tuple["NDArray[np.float32]", "NDArray[np.float32]"]


def inputs_of(data: str, rows: NDArray[np.generic], scaling: Scaling) -> Tensor:
    """What a network is fed, from rows as they are stored.

    Args:
        data: "digits" (N, 1, 8, 8) in 0..1, "rows" (N, 8, 8) in 0..1, "cells" standardised
            features, "cells-raw" features as they were measured, in hundredths: as they are, eps swamps
            the smallest.
        rows: (N, 64) digits in 0..16, or (N, 30) features.
        scaling: mean and standard deviation of the training half.
    """
    x = torch.from_numpy(rows.astype(np.float32))
    if data == "cells-raw":
        return 100 * x
    if data == "cells":
        mean, std = (torch.from_numpy(part) for part in scaling)
        return (x - mean) / std
    return (x / 16).reshape((-1, 8, 8) if data == "rows" else (-1, 1, 8, 8))


def held_back(name: str) -> tuple[Tensor, Tensor]:
    """Inputs and labels for an audit of the network; the autoencoder's labels are its inputs."""
    info = NETS[name]
    file = "cells" if info.data.startswith("cells") else "digits"
    with np.load(FOLDER / f"{file}.npz") as stored:
        x = inputs_of(info.data, stored["x"], (stored["mean"], stored["std"]))
        labels = torch.from_numpy(stored["labels"].astype(np.int64))
    return (x, x) if info.target == "input" else (x, labels)


def trained(name: str) -> nn.Module:
    """The network with its shipped weights, in evaluation mode."""
    net = NETS[name].make()
    with np.load(FOLDER / f"{name}.npz") as stored:
        weights = {key: torch.from_numpy(stored[key]) for key in stored.files}
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False)
