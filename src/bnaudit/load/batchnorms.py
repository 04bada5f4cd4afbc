"""Listing the BatchNorm layers that a module defines, executed or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.parameter import is_lazy

from bnaudit.errors import InputError
from bnaudit.load.model import BatchNormDef
from bnaudit.tap.scripted import is_batchnorm, module_kind

if TYPE_CHECKING:
    from torch import nn


def defined_batchnorms(module: nn.Module) -> tuple[BatchNormDef, ...]:
    """The BatchNorm modules inside `module` in registration order, each once.

    A layer registered under several names, or that has all of its tensors from another, appears under the
    first. Classes of the user's own that call `batch_norm` are found when they run, by the tap; their
    definition looks like any module's.

    Raises:
        InputError: a lazy layer has not been initialised.
    """
    found = []
    seen: set[tuple[int, ...]] = set()
    for path, sub in module.named_modules():
        name = path or module_kind(module)
        if any(is_lazy(t) for t in (*sub.parameters(recurse=False), *sub.buffers(recurse=False))):
            raise InputError(
                f"layer {name!r} is lazy and has no shape yet",
                hint="run one batch through the model before the audit",
            )
        places = _places(sub)
        if is_batchnorm(sub) and places not in seen:
            seen.add(places or (id(sub),))
            where = f"module {path!r}" if path else "the model itself"
            found.append(BatchNormDef(name, _channels(sub), f"{where} ({module_kind(sub)})"))
    return tuple(found)


def _places(module: nn.Module) -> tuple[int, ...]:
    """Where its tensors lie: a compiled module has another wrapper for each name that it is registered at."""
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = (getattr(module, name, None) for name in names)
    real = (t for t in tensors if isinstance(t, torch.Tensor) and t.numel() and not t.is_meta)
    return tuple(t.data_ptr() for t in real)


def _channels(module: nn.Module) -> int | None:
    for name in ("running_mean", "weight"):
        tensor = getattr(module, name, None)
        if tensor is not None and tensor.dim() == 1:
            return int(tensor.numel())
    features = getattr(module, "num_features", None)
    return features if isinstance(features, int) else None
