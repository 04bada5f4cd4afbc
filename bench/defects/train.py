"""Trains the networks on scikit-learn's bundled data; the only file here that needs scikit-learn.

    python -m bench.defects.train           rebuild fixtures/defects
    python -m bench.defects.train --sweep FOLDER [SEED ...]
                                            every network in every regime: what thresholds are read from

One thread, fixed seeds. Half of the data is held back, and audits see only that half.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from bench.defects.data import FOLDER, inputs_of
from bench.defects.nets import NETS, NetInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Regime:
    """How to train: what really trained networks differ in.

    Attributes:
        optimiser: "sgd" with momentum 0.9, or "adam".
        rate: learning rate.
        decay: weight decay.
        batch: rows a batch.
        epochs: passes over the data.
        cosine: whether the rate falls to zero; else the statistics trail weights that still move.
        augment: random shifts by a pixel and noise, which the held-back data does not have.
    """

    optimiser: str = "sgd"
    rate: float = 0.05
    decay: float = 5e-4
    batch: int = 64
    epochs: int = 25
    cosine: bool = True
    augment: bool = False


REGIMES: dict[str, Regime] = {
    "usual": Regime(),
    "constant-rate": Regime(cosine=False),
    "adam": Regime("adam", 3e-3, 0.0, cosine=False),
    "adam-short": Regime("adam", 1e-3, 0.0, 32, 8, cosine=False),
    "small-batch": Regime(rate=0.02, batch=16),
    "no-decay-long": Regime(decay=0.0, epochs=60),
    "strong-decay": Regime(decay=5e-3),
    "augmented": Regime(augment=True, epochs=40),
    "short": Regime(epochs=5),
}


LEAST = 100
"""Updates: 0.9^100 = 3e-5 of the initial running statistics is left. After 20 it is an eighth."""


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to train on and rows held back, as stored: uint8 digits, float32 features."""

    train: NDArray[np.generic]
    train_labels: NDArray[np.int64]
    held: NDArray[np.generic]
    held_labels: NDArray[np.int64]


def split(source: str) -> Split:
    """The stratified halves of "digits" or "cells"."""
    from sklearn.datasets import load_breast_cancer, load_digits
    from sklearn.model_selection import train_test_split

    load = load_digits if source == "digits" else load_breast_cancer
    x, y = load(return_X_y=True)
    x = x.astype(np.uint8 if source == "digits" else np.float32)
    train, held, labels, held_labels = train_test_split(
        x, y, test_size=0.5, random_state=0, stratify=y
    )
    return Split(train, labels, held, held_labels)


def source_of(info: NetInfo) -> str:
    """Which of the two data sets a network uses."""
    return "cells" if info.data.startswith("cells") else "digits"


def scaling(rows: NDArray[np.generic]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of the training half, a column each."""
    return rows.mean(0, dtype=np.float64).astype(np.float32), rows.std(0, dtype=np.float64).astype(
        np.float32
    )


def train(name: str, regime: Regime, seed: int) -> nn.Module:
    """A trained network, in evaluation mode."""
    info = NETS[name]
    parts = split(source_of(info))
    x = inputs_of(info.data, parts.train, scaling(parts.train))
    labels = torch.from_numpy(parts.train_labels)
    torch.manual_seed(seed)
    net = info.make().train()
    optimiser = _optimiser(net, regime)
    steps = len(x) // regime.batch
    epochs = max(regime.epochs, -(-LEAST // steps))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * steps)
    for _ in range(epochs):
        order = torch.randperm(len(x))[: len(x) // regime.batch * regime.batch]
        for chosen in order.reshape(-1, regime.batch):
            batch = _augmented(x[chosen], info) if regime.augment else x[chosen]
            optimiser.zero_grad()
            _loss(net(batch), batch, labels[chosen], info).backward()
            optimiser.step()
            if regime.cosine:
                schedule.step()
    return net.eval().requires_grad_(False)


def _optimiser(net: nn.Module, regime: Regime) -> torch.optim.Optimizer:
    if regime.optimiser == "adam":
        return torch.optim.Adam(net.parameters(), regime.rate)
    return torch.optim.SGD(
        net.parameters(), regime.rate, momentum=0.9, nesterov=True, weight_decay=regime.decay
    )


def _augmented(x: Tensor, info: NetInfo) -> Tensor:
    if info.image:
        shifted = torch.stack([x.roll((i, j), (2, 3)) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        x = shifted[torch.randint(9, (len(x),)), torch.arange(len(x))]
        return x + 0.1 * x.std() * torch.randn_like(x)
    return x + 0.1 * x.std(0) * torch.randn_like(x)


def _loss(out: Tensor, x: Tensor, labels: Tensor, info: NetInfo) -> Tensor:
    if info.target == "input":
        return nn.functional.mse_loss(out, x)
    return nn.functional.cross_entropy(out, labels)


def _rebuild() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for source in ("digits", "cells"):
        parts = split(source)
        mean, std = scaling(parts.train)
        np.savez_compressed(
            FOLDER / f"{source}.npz",
            x=parts.held[:320],
            labels=parts.held_labels[:320].astype(np.uint8),
            mean=mean,
            std=std,
        )
    for name in NETS:
        net = train(name, REGIMES["usual"], 0)
        weights = {key: value.numpy() for key, value in net.state_dict().items()}
        np.savez_compressed(FOLDER / f"{name}.npz", **weights)
        print(name, (FOLDER / f"{name}.npz").stat().st_size)


def _sweep(folder: Path, seeds: list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for label, regime in REGIMES.items():
            for name in NETS:
                path = folder / f"{name}.{label}.{seed}.pt"
                if not path.exists():
                    torch.save(train(name, regime, seed).state_dict(), path)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train the networks of the defect suite.")
    parser.add_argument("--sweep", type=Path, metavar="FOLDER")
    parser.add_argument("seeds", type=int, nargs="*", default=[1])
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.sweep is None:
        _rebuild()
    else:
        _sweep(options.sweep, options.seeds)


if __name__ == "__main__":
    main()
