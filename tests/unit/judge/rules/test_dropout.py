"""Dropout in front of BatchNorm is told where it drops anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bnaudit.inspection import inspect_file
from bnaudit.judge.verdicts import judge_inspection

if TYPE_CHECKING:
    from pathlib import Path


class _Functional(nn.Module):
    def __init__(self, rate: float, *, channels: bool) -> None:
        super().__init__()
        self.fc, self.bn, self.rate, self.channels = (
            nn.Conv1d(4, 8, 1),
            nn.BatchNorm1d(8),
            rate,
            channels,
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        if self.channels:
            y = functional.dropout1d(y, self.rate, self.training)
        else:
            y = functional.dropout(y, self.rate, self.training)
        out: Tensor = self.bn(y)
        return out


def _module(kind: str, rate: float) -> nn.Module:
    if kind == "module":
        return nn.Sequential(nn.Conv1d(4, 8, 1), nn.Dropout(rate), nn.BatchNorm1d(8))
    if kind == "in place":
        return nn.Sequential(nn.Conv1d(4, 8, 1), nn.Dropout(rate, inplace=True), nn.BatchNorm1d(8))
    return _Functional(rate, channels=kind == "whole channels")


@pytest.mark.parametrize("kind", ["module", "in place", "functional", "whole channels"])
@pytest.mark.parametrize("form", ["scripted", "traced", "exported"])
def test_a_rate_of_zero_drops_nothing(kind: str, form: str, tmp_path: Path) -> None:
    for rate in (0.0, 0.3):
        net, x = _module(kind, rate).eval(), torch.randn(4, 4, 5)
        path = tmp_path / f"{form}{rate}.pt2"
        if form == "exported":
            torch.export.save(torch.export.export(net, (x,)), path)
        else:
            made = torch.jit.script(net) if form == "scripted" else torch.jit.trace(net, x)
            torch.jit.save(made, path)
        found = inspect_file(path)
        told = [f.rule for f in judge_inspection(found).findings if f.rule == "BN015"]
        # What a scripted F.dropout1d returns hangs on branches over the rank: nothing is known of it.
        unknown = (form, kind) == ("scripted", "whole channels")
        before = None if unknown else "Conv" if rate == 0 else "Dropout"
        assert found.batchnorms[0].preceded_by == before
        assert len(told) == (before == "Dropout")
