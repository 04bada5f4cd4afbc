"""TorchScript files by the names of their parameters and buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.load.sniff import FileKind
from bnaudit.load.torchscript import load_torchscript
from bnaudit.load.weights.model import NamedTensor, WeightFile, layouts_by_class

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


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
    layouts = layouts_by_class(  # by the classes that the modules had when they were compiled
        (name, str(getattr(sub, "original_name", "")), getattr(sub, "groups", 1))
        for name, sub in module.named_modules()
    )
    return WeightFile(path, FileKind.TORCHSCRIPT, tensors, layouts=layouts)


def _named(name: str, tensor: Tensor) -> NamedTensor:
    def read() -> NDArray[np.float64]:
        values: NDArray[np.float64] = tensor.detach().to("cpu", torch.float64).numpy()
        return values

    return NamedTensor(name, tuple(tensor.shape), read)
