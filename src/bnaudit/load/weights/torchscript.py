"""TorchScript files by the names of their parameters and buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bnaudit.load.sniff import FileKind
from bnaudit.load.torchscript import load_torchscript
from bnaudit.load.weights.model import Layout, NamedTensor, WeightFile

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn


def read_torchscript(path: Path) -> WeightFile:
    """The tensors of a scripted or traced module.

    Raises:
        InputError: see `load_torchscript`.
    """
    module = load_torchscript(path).module
    tensors = tuple(
        _named(name, tensor)
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point() and not tensor.is_quantized
    )
    return WeightFile(path, FileKind.TORCHSCRIPT, tensors, layouts=_layouts(module))


def _layouts(module: nn.Module) -> dict[str, Layout]:
    """The classes that the modules had when they were compiled."""
    layouts: dict[str, Layout] = {}
    for path, sub in module.named_modules():
        original = str(getattr(sub, "original_name", ""))
        name = f"{path}.weight" if path else "weight"
        if original.startswith(("ConvTranspose", "LazyConvTranspose")):
            groups: Any = getattr(sub, "groups", 1)
            layouts[name] = Layout(1, groups if isinstance(groups, int) else 1)
        elif original.startswith(("Conv", "LazyConv", "Linear")):
            layouts[name] = Layout(0)
    return layouts


def _named(name: str, tensor: Tensor) -> NamedTensor:
    def read() -> NDArray[np.float64]:
        values: NDArray[np.float64] = tensor.detach().to("cpu", torch.float64).numpy()
        return values

    return NamedTensor(name, tuple(tensor.shape), read)
