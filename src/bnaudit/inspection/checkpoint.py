"""A checkpoint without a run: a state_dict by its names, a whole module by its classes. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.inspection.absent import absent_by_classes, absent_by_names, few, norm_pairs
from bnaudit.inspection.layers import Layer, other_norms, statics
from bnaudit.inspection.named import (
    count_parameters,
    groups,
    length,
    named_batchnorms,
    unwrapped,
    wrapper_notes,
    wrapping,
)
from bnaudit.load.pickles.checkpoint import explained
from bnaudit.load.pickles.modules import attributes, named_modules
from bnaudit.load.pickles.objects import Opaque, StoredTensor
from bnaudit.load.weights.checkpoint import open_weights
from bnaudit.records.inspection import Inspection

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.load.weights.stored import StoredFile
    from bnaudit.records.inspection import BatchNormStatics

_LIGHTNING = "pytorch-lightning_version"


def inspect_checkpoint(path: Path) -> Inspection:
    """What a checkpoint, or the checkpoints of an index, store of BatchNorm.

    Nothing in the file is executed, and only vectors of BatchNorm layers are read.

    Raises:
        InputError: it is damaged, or holds no named tensors.
    """
    stored = open_weights(path)
    if stored.module is not None:
        with explained(path, "PyTorch checkpoint"):
            return _module(stored, stored.module)
    return inspect_names(stored, "checkpoint", _producer(stored), _facts(stored))


def inspect_names(
    stored: StoredFile, kind: str, producer: str | None, facts: dict[str, str]
) -> Inspection:
    """What a file of named tensors stores of BatchNorm.

    Raises:
        InputError: it has no tensors, or those of a BatchNorm are damaged.
    """
    if not stored.tensors:
        raise InputError(
            f"{stored.path}: holds no named tensors",
            hint="point bnaudit at the checkpoint or exported model itself",
        )
    batchnorms = named_batchnorms(stored)
    return Inspection(
        path=str(stored.path),
        kind=kind,
        producer=producer,
        facts=facts,
        size=stored.size,
        parameters=count_parameters(stored),
        batchnorms=batchnorms,
        absence=None if batchnorms else absent_by_names(stored.tensors),
        notes=(*_notes(stored), *wrapper_notes(stored.tensors), *_unclear(stored)),
    )


def _module(stored: StoredFile, root: Opaque) -> Inspection:
    layers = [_layer(path, module) for path, module in named_modules(root, once=True)]
    wrapper = wrapping(stored.tensors)
    batchnorms: list[BatchNormStatics] = [
        statics(layer, unwrapped(layer.path, wrapper) or layer.kind, _origin(layer), stored.vector)
        for layer in layers
        if layer.is_batchnorm
    ]
    norms = other_norms(layers)
    return Inspection(
        path=str(stored.path),
        kind="checkpoint",
        producer=_producer(stored),
        facts={**_facts(stored), "class": f"{root.home}.{root.kind}"},
        size=stored.size,
        parameters=_parameters(root),
        batchnorms=tuple(batchnorms),
        other_norms=norms,
        weight_layers=sum(layer.has_weights for layer in layers),
        absence=None if batchnorms else absent_by_classes(layers, norms),
        notes=(
            *_notes(stored),
            *wrapper_notes(stored.tensors),
            "a whole module was pickled: it was read as data, and none of its code was run",
        ),
    )


def _layer(path: str, module: Opaque) -> Layer:
    tensors = {**attributes(module, "_parameters"), **attributes(module, "_buffers")}
    values = {n: v for n, v in module.state.items() if isinstance(n, str)}
    return Layer(path, module.kind, module.home, {**values, **tensors})


def _origin(layer: Layer) -> str:
    return f"module {layer.path!r} ({layer.kind})" if layer.path else f"the model ({layer.kind})"


def _parameters(root: Opaque) -> int:
    sizes: dict[tuple[object, ...], int] = {}
    for _, module in named_modules(root, once=True):
        for tensor in attributes(module, "_parameters").values():
            if isinstance(tensor, StoredTensor):
                place = tensor.storage and (tensor.storage.key, tensor.storage.start)
                key = (place, tensor.offset, tensor.shape, id(tensor) if place is None else 0)
                sizes[key] = tensor.numel
    return sum(sizes.values())


def _facts(stored: StoredFile) -> dict[str, str]:
    facts = {"format": stored.form}
    if len(stored.paths) > 1:
        facts["files"] = str(len(stored.paths))
    return facts


def _producer(stored: StoredFile) -> str | None:
    version = stored.top.get(_LIGHTNING)
    return f"pytorch-lightning {version[:40]}" if isinstance(version, str) else None


def _notes(stored: StoredFile) -> tuple[str, ...]:
    """The reader's notes; they need not name the one file that is looked at."""
    return tuple(note.removeprefix(f"{stored.path}: ") for note in stored.notes)


def _unclear(stored: StoredFile) -> tuple[str, ...]:
    """What might be a normalisation but cannot be told by names and shapes."""
    notes = []
    pairs = norm_pairs(stored.tensors)
    if pairs:
        notes.append(
            f"{len(pairs)} pairs of vectors weight and bias without running statistics ({few(pairs)}): "
            "LayerNorm, GroupNorm, or BatchNorm that tracks none"
        )
    odd = [
        group.prefix
        for group in groups(stored.tensors).values()
        if {"mean", "var"} <= group.roles.keys() and length(stored.tensors, group) is None
    ]
    if odd:
        notes.append(
            f"{few(odd)}: running statistics, but not of one length with weight and bias; left out"
        )
    return tuple(notes)
