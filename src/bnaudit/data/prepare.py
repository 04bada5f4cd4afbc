"""From what the user gave to batches that fit the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.arrays import by_name, is_array
from bnaudit.data.batch import Batches, Samples, constant_columns, cut
from bnaudit.data.digest import digest
from bnaudit.data.files import labels_beside, read_samples
from bnaudit.data.items import is_indexed
from bnaudit.data.labels import SORTED_NOTE, sorted_by_label
from bnaudit.data.loader import from_loader
from bnaudit.data.rows import Held, Listed, Rows
from bnaudit.data.signature import match, named, wanted
from bnaudit.data.synthetic import (
    brings_its_own,
    example_batches,
    is_matched,
    synthetic_batches,
)
from bnaudit.data.taken import Taken
from bnaudit.data.targets import targets
from bnaudit.errors import UsageError
from bnaudit.user_data import UserData, seeded

if TYPE_CHECKING:
    from bnaudit.load.model import LoadedModel
    from bnaudit.options import AuditOptions


def prepare(
    options: AuditOptions, model: LoadedModel, static_batch: int | None
) -> tuple[Batches, tuple[str, ...]]:
    """The batches of an audit, and notes on what had to be assumed for them.

    Args:
        options: data, labels, sizes and seed.
        model: what the batches must fit.
        static_batch: the size that the model cannot leave, if it has one.

    Raises:
        DataError: the data does not fit.
        UsageError: the options contradict each other.
    """
    made = is_matched(options.data)
    data = None if made else options.data
    if made and options.labels is not None:
        raise UsageError(
            "labels do not go with --data matched, whose rows nobody has labelled",
            hint="leave --labels out: labels are drawn from the model where its output is recognised",
        )
    if data is None and options.labels is not None:
        raise UsageError("labels without data", hint="pass --data as well")
    if data is None and options.map and not options.input_shapes:
        raise UsageError("--map without data", hint="it names arrays of --data")
    if data is not None and options.input_shapes:
        raise UsageError("--input-shape is for synthetic batches; the data has shapes of its own")
    notes: tuple[str, ...] = ()
    if data is None and not made and brings_its_own(model, options):
        batches = example_batches(model)
    elif data is None:
        batches, notes = synthetic_batches(
            model,
            _input_shapes(options.input_shapes, model),
            options.batch_size,
            options.batches,
            options.seed,
            static_batch,
            matched=made,
        )
    else:
        batches, notes = _given(options, model, static_batch)
    if sorted_by_label([batch.labels for batch in batches.items]):
        info = replace(batches.info, sorted_by_label=True)
        return replace(batches, info=info), (*notes, SORTED_NOTE)
    return batches, notes


def _given(
    options: AuditOptions, model: LoadedModel, static_batch: int | None
) -> tuple[Batches, tuple[str, ...]]:
    """Batches of the user's own data; whatever draws in its making does so under the seed."""
    with seeded(options.seed):
        origin = origin_of(options.data)
        if isinstance(options.data, UserData):
            options = replace(options, data=options.data.made())
        if gives_batches(options.data):
            batches, notes = from_loader(options.data, model, options, static_batch)
        else:
            samples = samples_of(options, model)
            batches = cut(samples, options.batch_size, options.batches, static_batch, options.seed)
            notes = samples.notes
    info = replace(batches.info, digest=digest(batches.names, batches.items))
    if origin is not None:
        info = replace(info, source="function", paths=(origin.text,))
    return replace(batches, info=info), (*notes, *constant_columns(batches))


def origin_of(data: Any) -> UserData | None:
    """The function that made the data, if one did."""
    return data if isinstance(data, UserData) else getattr(data, "origin", None)


def gives_batches(data: Any) -> bool:
    """Whether it is iterated over, and no rows to cut batches from."""
    return isinstance(data, Taken) or not (_is_paths(data) or _is_arrays(data))


def samples_of(options: AuditOptions, model: LoadedModel) -> Samples:
    """All rows of the data.

    Raises:
        DataError: it cannot be read, or does not fit the model.
    """
    samples = _samples(options, model)
    return replace(samples, shared=_shared(samples, model))


def _shared(samples: Samples, model: LoadedModel) -> frozenset[str]:
    """Arrays of exactly the shape that a file declares, whose first axis is not the batch's."""
    shapes = {s.name: s.shape for s in model.inputs}
    first = next((shape[0] for shape in shapes.values() if shape), None)
    rows = model.static_batch or first
    if not isinstance(rows, int):
        return frozenset()
    return frozenset(
        name
        for name, array in samples.arrays.items()
        if array.dim() and array.shape[0] != rows and tuple(array.shape) == shapes.get(name)
    )


def _input_shapes(
    shapes: Mapping[str, tuple[int, ...]], model: LoadedModel
) -> Mapping[str, tuple[int, ...]]:
    names = [s.name for s in model.inputs]
    if "" in shapes:
        if len(names) != 1 or len(shapes) != 1:
            raise UsageError(
                "--input-shape without a name fits models with one input only", hint=wanted(model)
            )
        return {names[0]: shapes[""]}
    for name in shapes:
        if not model.accepts(name):
            raise UsageError(f"--input-shape: no input {name!r}", hint=wanted(model))
    return shapes


def _is_path(data: Any) -> bool:
    return isinstance(data, (str, Path))


def _is_paths(data: Any) -> bool:
    return _is_path(data) or (
        isinstance(data, (tuple, list)) and bool(data) and all(_is_path(d) for d in data)
    )


def _is_arrays(data: Any) -> bool:
    """One array, or a collection of them; what else can be iterated over gives batches."""
    if isinstance(data, (tuple, list)):
        return bool(data) and all(is_array(d) for d in data)
    if is_array(data) or isinstance(data, Mapping):
        return True
    return not isinstance(data, Iterable) and not is_indexed(data)


def _samples(options: AuditOptions, model: LoadedModel) -> Samples:
    data, labels = options.data, options.labels
    known = labels is None or _is_path(labels)
    key = None if labels is None or not known else str(labels)
    beside = None if known else _rows_of(targets(labels, "labels"))
    if _is_paths(data):
        paths = [str(data)] if _is_path(data) else [str(d) for d in data]
        samples = read_samples(paths, model, options, key)
        return samples if known else replace(samples, labels=beside, labels_from="given array")
    arrays: dict[str, Rows] = {n: Held(t) for n, t in _arrays(data, model, options).items()}
    rows: Any = beside
    labels_from, found = None if known else "given array", None
    if known:
        rows, labels_from, found = labels_beside(arrays, key, model, "the data")
    arrays, notes = named(arrays, model, found, options.map)
    checked = match(arrays, model, source="data", ignore=[] if found is None else [found])
    return Samples(checked, rows, labels_from, "tensor", notes=notes)


def _rows_of(labels: Any) -> Rows | Listed:
    """Labels that were given beside the data; those that are no array have an entry a row."""
    if isinstance(labels, torch.Tensor):
        return Held(labels)
    if not isinstance(labels, (list, tuple)):
        raise UsageError(
            f"labels: a {type(labels).__name__} for all rows together cannot be dealt to batches",
            hint="a list with an entry a row, or an iterable of batches (inputs..., labels)",
        )
    return Listed(labels)


def _arrays(data: Any, model: LoadedModel, options: AuditOptions) -> dict[str, Any]:
    """By name; with --map by place, where they have none."""
    if options.map and isinstance(data, (tuple, list)):
        data = {str(place): array for place, array in enumerate(data)}
    return by_name(data, model)
