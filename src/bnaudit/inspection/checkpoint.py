"""A checkpoint without a run: a state_dict by its names, a whole module by its classes. No torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.inspection.absent import (
    absent_by_classes,
    absent_by_names,
    norm_pairs,
    odd_statistics,
)
from bnaudit.inspection.layers import (
    Layer,
    address,
    few,
    other_norms,
    own_forms,
    own_notes,
    require_run,
    statics,
    with_places,
)
from bnaudit.inspection.named import (
    count_parameters,
    named_batchnorms,
    shape_notes,
    unwrapped,
    wrapper_notes,
    wrapping,
)
from bnaudit.load.pickles.checkpoint import explained
from bnaudit.load.pickles.modules import attributes, named_modules
from bnaudit.load.pickles.objects import Opaque, StoredTensor
from bnaudit.load.weights.checkpoint import open_weights
from bnaudit.records.inspection import BatchNormStatics, Inspection

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.load.weights.stored import StoredFile

_LIGHTNING = "pytorch-lightning_version"
_PROGRESS = {
    "step": ("global_step", "step", "iteration", "num_updates"),
    "epoch": ("epoch",),
}
"""How far the training had come: the fact, and what stands beside the weights under which key."""


def inspect_checkpoint(path: Path, entry: str | None = None) -> Inspection:
    """What a checkpoint, or the checkpoints of an index, store of BatchNorm.

    Nothing in the file is executed, and only vectors of BatchNorm layers are read. Of a file with several
    networks (moving averages beside the weights, a discriminator) all are judged; layers of the others have
    their entry before their name.

    Args:
        path: the file.
        entry: the keys of the one entry to read, dotted; None for all.

    Raises:
        InputError: it is damaged, holds no named tensors, or has no such entry.
    """
    stored = open_weights(path, entry)
    found = _inspected(stored)
    others = {key: _inspected(other) for key, other in stored.beside.items() if other.tensors}
    layers = [
        replace(layer, name=f"{key}.{layer.name}", origin=f"entry {key!r}, {layer.origin}")
        for key, other in others.items()
        for layer in other.batchnorms
    ]
    if not others:
        return found
    parameters = sum(o.parameters or 0 for o in (found, *others.values()))
    judged = [key for key, other in others.items() if other.batchnorms]
    if not judged:
        note = f"read as well, without BatchNorm: {few(list(others))}; --entry KEY reads one alone"
        return replace(found, parameters=parameters, notes=(*found.notes, note))
    note = f"judged as well: {few(judged)}; --entry KEY reads one alone"
    absence = None if found.absence is None or found.absence.case != "other-form" else found.absence
    return replace(
        found,
        parameters=parameters,
        batchnorms=(*found.batchnorms, *layers),
        absence=absence,
        notes=(*found.notes, note),
    )


def _inspected(stored: StoredFile) -> Inspection:
    if stored.module is not None:
        with explained(stored.path, "PyTorch checkpoint"):
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
    notes = []
    pairs = norm_pairs(stored.tensors)
    if pairs:
        notes.append(
            f"{len(pairs)} pairs of vectors weight and bias without running statistics ({few(pairs)}): "
            "LayerNorm, GroupNorm, or BatchNorm that tracks none"
        )
    odd = odd_statistics(stored.tensors)
    if odd:
        notes.append(
            f"{few([prefix for prefix, _ in odd])}: running statistics, but not one number a channel as "
            "of weight and bias; left out"
        )
    unclear = tuple(notes)
    return Inspection(
        path=str(stored.path),
        kind=kind,
        producer=producer,
        facts=facts,
        size=stored.size,
        parameters=count_parameters(stored),
        batchnorms=batchnorms,
        absence=None if batchnorms else absent_by_names(stored.tensors),
        notes=(
            *_notes(stored),
            *wrapper_notes(stored.tensors),
            *shape_notes(stored.tensors),
            *unclear,
        ),
    )


def _module(stored: StoredFile, root: Opaque) -> Inspection:
    layers = []
    sizes: dict[tuple[object, ...], int] = {}
    for path, module in named_modules(root, once=True):
        parameters = attributes(module, "_parameters")
        plain = {n: v for n, v in module.state.items() if isinstance(n, str)}
        values = {**plain, **parameters, **attributes(module, "_buffers")}
        layers.append(Layer(path, module.kind, module.home, values))
        for tensor in parameters.values():
            if isinstance(tensor, StoredTensor):
                place = tensor.storage and (tensor.storage.key, tensor.storage.start)
                key = (place, tensor.offset, tensor.shape, id(tensor) if place is None else 0)
                sizes[key] = tensor.numel
    found = [layer for layer in layers if layer.is_batchnorm or layer.is_own_batchnorm]
    require_run(stored.path, layers)
    own = [(x.path, f"class {x.home}.{x.kind}") for x in found if x.is_own_batchnorm]
    norms = other_norms(layers)
    notes = ["a whole module was pickled: it was read as data, and none of its code was run"]
    notes += own_notes(own_forms(own))
    return Inspection(
        path=str(stored.path),
        kind="checkpoint",
        producer=_producer(stored),
        facts={**_facts(stored), "class": f"{root.home}.{root.kind}"},
        size=stored.size,
        parameters=sum(sizes.values()),
        batchnorms=_layers(stored, root, found),
        other_norms=norms,
        weight_layers=sum(layer.has_weights for layer in layers),
        absence=None if found else absent_by_classes(layers, norms),
        notes=(*_notes(stored), *wrapper_notes(stored.tensors), *notes),
    )


def _layers(stored: StoredFile, root: Opaque, found: list[Layer]) -> tuple[BatchNormStatics, ...]:
    """The records of the BatchNorms, with the other names of those that stand in several places."""
    wrapper = wrapping(stored.tensors)
    names: dict[int, list[str]] = {}
    for path, module in named_modules(root, once=False):
        names.setdefault(id(module), []).append(path)
    again = {first: others for first, *others in names.values()}

    def record(layer: Layer) -> BatchNormStatics:
        where = f"module {layer.path!r}" if layer.path else "the model"
        name = unwrapped(layer.path, wrapper) or layer.kind
        made = statics(layer, name, f"{where} ({layer.kind})", stored.vector)
        return replace(made, places=tuple(unwrapped(p, wrapper) for p in again.get(layer.path, ())))

    places = {
        unwrapped(x.path, wrapper) or x.kind: at for x in found if (at := address(x)) is not None
    }
    return with_places([record(layer) for layer in found], places)


def _facts(stored: StoredFile) -> dict[str, str]:
    facts = {"format": stored.form}
    if len(stored.paths) > 1:
        facts["files"] = str(len(stored.paths))
    for fact, keys in _PROGRESS.items():
        found = (stored.top.get(key) for key in keys)
        number = next((n for n in found if type(n) is int and 0 <= n < 2**53), None)
        if number is not None:
            facts[fact] = str(number)
    return facts


def _producer(stored: StoredFile) -> str | None:
    version = stored.top.get(_LIGHTNING)
    return f"pytorch-lightning {version[:40]}" if isinstance(version, str) else None


def _notes(stored: StoredFile) -> tuple[str, ...]:
    """The reader's notes; they need not name the one file that is looked at."""
    return tuple(note.removeprefix(f"{stored.path}: ") for note in stored.notes)
