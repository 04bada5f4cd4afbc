"""Listing the BatchNorm layers that a module defines, executed or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.modules.batchnorm import _BatchNorm

from bnaudit.load.model import BatchNormDef
from bnaudit.tap.scripted import is_scripted_batchnorm

if TYPE_CHECKING:
    from torch import nn


def defined_batchnorms(module: nn.Module) -> tuple[BatchNormDef, ...]:
    """The BatchNorm modules inside `module` in registration order, each once.

    A layer registered under several names appears under the first. Classes of the user's own that
    call `batch_norm` are found when they run, by the tap; their definition looks like any module's.
    """
    return tuple(
        BatchNormDef(path or type(module).__name__, _channels(sub), _origin(path, sub))
        for path, sub in module.named_modules()
        if isinstance(sub, _BatchNorm) or is_scripted_batchnorm(sub)
    )


def _origin(path: str, module: nn.Module) -> str:
    kind = getattr(module, "original_name", type(module).__name__)
    return f"module {path!r} ({kind})" if path else f"the model itself ({kind})"


def _channels(module: nn.Module) -> int | None:
    for name in ("running_mean", "weight"):
        tensor = getattr(module, name, None)
        if tensor is not None and tensor.dim() == 1:
            return int(tensor.numel())
    features = getattr(module, "num_features", None)
    return features if isinstance(features, int) else None
