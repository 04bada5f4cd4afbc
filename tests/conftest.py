"""Before anything imports torch: one thread. Small tensors gain nothing from more, and a busy machine
makes threads wait for each other; commands that tests start inherit it."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of consecutive rows, as the references of a test cut them; what is drawn: data/test_cut.py."""
    import torch

    def places(_rows: int, size: int, count: int, _seed: int) -> list[torch.Tensor]:
        return list(torch.arange(size * count).split(size)) if count else []

    monkeypatch.setattr("bnaudit.data.batch.places", places)
