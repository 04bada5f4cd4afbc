"""A network that lives in this Python process: its buffers are written, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bnaudit.recalibration.store.base import Store
from bnaudit.recalibration.store.numbers import TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from bnaudit.recalibration.passes import Layer, Statistics

_NOT_OWN = "its statistics are no tensors of the module"


@dataclass(frozen=True, slots=True)
class LiveStore(Store):
    """See `Store`; `tensors` are those of each layer."""

    tensors: Mapping[str, tuple[Tensor, Tensor]]

    @classmethod
    def open(cls, module: nn.Module, layers: Mapping[str, Layer]) -> LiveStore:
        """Finds the tensors, also where the run was on a copy of the module."""
        own: dict[str, Tensor] = dict(
            (
                *module.named_parameters(remove_duplicate=False),
                *module.named_buffers(remove_duplicate=False),
            )
        )
        dtypes, kept, tensors = {}, {}, {}
        for name, layer in layers.items():
            found = [own.get(paths[0]) if paths else None for paths in layer.paths]
            mean, var = found
            if mean is None or var is None:
                kept[name] = _NOT_OWN
                continue
            kinds = tuple(str(t.dtype).removeprefix("torch.") for t in (mean, var))
            if not all(kind in TYPES for kind in kinds):
                kept[name] = f"its statistics are {kinds[0]}"
                continue
            dtypes[name], tensors[name] = (kinds[0], kinds[1]), (mean, var)
        return cls("module", dtypes, kept, (), tensors)

    def write(self, folder: Path, name: str, statistics: Mapping[str, Statistics]) -> None:
        """Into the module; the folder stays empty."""
        del folder, name
        with torch.no_grad():
            for layer, found in statistics.items():
                for tensor, values in zip(self.tensors[layer], found, strict=True):
                    tensor.copy_(values)
