"""A network that lives in this process: what its BatchNorm modules hold, without running it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.inspection.absent import absent_by_classes
from bnaudit.inspection.layers import Layer, other_norms
from bnaudit.records.inspection import BatchNormStatics, Inspection
from bnaudit.records.model import TensorInfo
from bnaudit.tap.scripted import is_batchnorm, module_kind

if TYPE_CHECKING:
    from torch import nn

    from bnaudit.load.model import LoadedModel


def inspect_live(loaded: LoadedModel) -> Inspection:
    """What the modules of a network say of its BatchNorm layers.

    Args:
        loaded: the network, as `load_live` hands it over; nothing in it is changed.
    """
    root = loaded.module
    modules = {path or module_kind(root): sub for path, sub in root.named_modules()}
    layers = [
        Layer(path, module_kind(sub), type(sub).__module__) for path, sub in root.named_modules()
    ]
    batchnorms = tuple(
        _statics(defined.name, defined.origin, modules[defined.name], defined.channels)
        for defined in loaded.batchnorms
        if defined.name in modules
    )
    norms = other_norms(layers)
    return Inspection(
        path=module_kind(root),
        kind="module",
        producer=loaded.producer,
        facts=loaded.facts,
        parameters=sum(p.numel() for p in root.parameters()),
        inputs=tuple(TensorInfo(i.name, i.shape, i.dtype) for i in loaded.inputs),
        outputs=loaded.outputs,
        batchnorms=batchnorms,
        other_norms=norms,
        weight_layers=sum(layer.has_weights for layer in layers),
        absence=None if batchnorms else absent_by_classes(layers, norms),
        notes=(*loaded.notes, *_several_names(root)),
    )


def _statics(name: str, origin: str, module: nn.Module, channels: int | None) -> BatchNormStatics:
    known = [
        tensor
        for own in ("running_mean", "weight")
        if isinstance(tensor := getattr(module, own, None), torch.Tensor)
    ]
    return BatchNormStatics(
        name=name,
        origin=origin,
        channels=channels,
        eps=_number(getattr(module, "eps", None)),
        momentum=_number(getattr(module, "momentum", None)),
        training=bool(module.training),
        batches_tracked=_counter(getattr(module, "num_batches_tracked", None)),
        dtype=str(known[0].dtype).removeprefix("torch.") if known else None,
        gamma=_vector(getattr(module, "weight", None)),
        beta=_vector(getattr(module, "bias", None)),
        running_mean=_vector(getattr(module, "running_mean", None)),
        running_var=_vector(getattr(module, "running_var", None)),
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _vector(tensor: Any) -> tuple[float, ...] | None:
    if not isinstance(tensor, torch.Tensor) or tensor.dim() != 1 or tensor.is_meta:
        return None
    return tuple(tensor.detach().to("cpu", torch.float64).tolist())


def _counter(tensor: Any) -> int | None:
    if not isinstance(tensor, torch.Tensor) or tensor.numel() != 1 or tensor.is_meta:
        return None
    value = float(tensor.detach().to("cpu", torch.float64))
    return int(value) if math.isfinite(value) else None


def _several_names(root: nn.Module) -> tuple[str, ...]:
    """BatchNorm layers that are registered more than once."""
    first: dict[int, str] = {}
    notes = []
    for path, sub in root.named_modules(remove_duplicate=False):
        if id(sub) in first and is_batchnorm(sub):
            notes.append(f"{path} is {first[id(sub)]} under another name")
        first.setdefault(id(sub), path)
    return tuple(notes)
