"""A network that lives in this process: what its BatchNorm modules hold, without running it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import is_lazy

from bnaudit.inspection.absent import absent_by_classes
from bnaudit.inspection.layers import Layer, other_norms, own_forms, statics
from bnaudit.load.pickles.objects import StoredTensor
from bnaudit.records.inspection import Inspection
from bnaudit.records.model import TensorInfo
from bnaudit.tap.scripted import is_batchnorm, module_kind

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bnaudit.load.model import LoadedModel


def inspect_live(loaded: LoadedModel) -> Inspection:
    """What the modules of a network say of its BatchNorm layers.

    Args:
        loaded: the network, as `load_live` hands it over; nothing in it is changed.
    """
    root = loaded.module
    tensors: dict[int, Tensor] = {}

    def read(stored: StoredTensor) -> tuple[float, ...]:
        return tuple(tensors[id(stored)].detach().to("cpu", torch.float64).reshape(-1).tolist())

    layers = [_layer(path, sub, tensors) for path, sub in root.named_modules()]
    by_name = {layer.path or layer.kind: layer for layer in layers}
    places = _places(root)
    batchnorms = [
        replace(statics(by_name[d.name], d.name, d.origin, read), places=places.get(d.name, ()))
        for d in loaded.batchnorms
        if d.name in by_name
    ]
    own = [(name, x) for name, x in by_name.items() if x.is_own_batchnorm]
    batchnorms += [statics(x, name, f"module {name!r} ({x.kind})", read) for name, x in own]
    norms = other_norms(layers)
    absence = None
    if len(batchnorms) == len(own):
        what = [(n, f"class {x.home}.{x.kind}, which never calls batch_norm") for n, x in own]
        absence = own_forms(what) if own else absent_by_classes(layers, norms)
    return Inspection(
        path=module_kind(root),
        kind="module",
        producer=loaded.producer,
        facts=loaded.facts,
        parameters=sum(p.numel() for p in root.parameters()),
        inputs=tuple(TensorInfo(i.name, i.shape, i.dtype) for i in loaded.inputs),
        outputs=loaded.outputs,
        batchnorms=tuple(batchnorms),
        other_norms=norms,
        weight_layers=sum(layer.has_weights for layer in layers),
        absence=absence,
        notes=(*loaded.notes, *_several_names(root)),
    )


def _layer(path: str, module: nn.Module, tensors: dict[int, Tensor]) -> Layer:
    """A module as a file would have it; `tensors` is given what is behind each tensor's record."""
    values: dict[str, Any] = {n: getattr(module, n) for n in _ATTRIBUTES if hasattr(module, n)}
    own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    for name, tensor in own if not any(is_lazy(t) for _, t in own) else ():
        layout = "meta" if tensor.is_meta else "strided"
        dtype = str(tensor.dtype).removeprefix("torch.")
        values[name] = StoredTensor(None, dtype, tuple(tensor.shape), layout=layout)
        tensors[id(values[name])] = tensor
    home = type(module).__module__ if not is_batchnorm(module) else torch.nn.BatchNorm1d.__module__
    return Layer(path, module_kind(module), home, values)


_ATTRIBUTES = ("eps", "momentum", "training", "num_features", "affine", "track_running_stats")


def _places(root: nn.Module) -> dict[str, tuple[str, ...]]:
    """First name of a running variance's owner -> its other names, whatever module it is registered at."""
    named: dict[tuple[int, int], list[str]] = {}
    for path, tensor in root.named_buffers(remove_duplicate=False):
        owner, _, own = path.rpartition(".")
        if own == "running_var" and tensor.numel() and not tensor.is_meta:
            named.setdefault((tensor.data_ptr(), tensor.numel()), []).append(owner)
    return {first: tuple(others) for first, *others in named.values() if others}


def _several_names(root: nn.Module) -> tuple[str, ...]:
    """BatchNorm layers that are registered more than once."""
    first: dict[int, str] = {}
    notes = []
    for path, sub in root.named_modules(remove_duplicate=False):
        if id(sub) in first and is_batchnorm(sub):
            notes.append(f"{path} is {first[id(sub)]} under another name")
        first.setdefault(id(sub), path)
    return tuple(notes)
