"""Loaded models by hand: signatures without files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnaudit.load.model import InputSpec, LoadedModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

X = InputSpec("x", ("batch", 3), "float32")
IDS = InputSpec("ids", ("batch", 4), "int64")


def model(*inputs: InputSpec, module: nn.Module | None = None, **given: Any) -> LoadedModel:
    """A model with this signature."""
    return LoadedModel(module or nn.Identity(), "onnx", inputs or (X,), **given)


class Rows(nn.Module):
    """A BatchNorm, then a function that treats the rows as it likes."""

    def __init__(self, mix: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bn = nn.BatchNorm1d(3)
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.bn(x))
