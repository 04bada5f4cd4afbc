"""From what the user gave to batches that fit the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnaudit.data.arrays import by_name, is_array, to_tensor
from bnaudit.data.batch import Batches, Samples, constant_columns, cut
from bnaudit.data.files import labels_beside, read_samples
from bnaudit.data.labels import SORTED_NOTE, sorted_by_label
from bnaudit.data.loader import from_loader
from bnaudit.data.signature import match, named, wanted
from bnaudit.data.synthetic import brings_its_own, example_batches, synthetic_batches
from bnaudit.errors import UsageError

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
    data = options.data
    if data is None and options.labels is not None:
        raise UsageError("labels without data", hint="pass --data as well")
    if data is not None and options.input_shapes:
        raise UsageError("--input-shape is for synthetic batches; the data has shapes of its own")
    notes: tuple[str, ...] = ()
    if data is None and brings_its_own(model, options):
        batches = example_batches(model)
    elif data is None:
        batches, notes = synthetic_batches(
            model,
            _input_shapes(options.input_shapes, model),
            options.batch_size,
            options.batches,
            options.seed,
            static_batch,
        )
    elif gives_batches(data):
        batches, notes = from_loader(data, model, options, static_batch)
    else:
        samples = samples_of(options, model)
        batches = cut(samples, options.batch_size, options.batches, static_batch, options.seed)
        notes = samples.notes
    if data is not None:
        notes = (*notes, *constant_columns(batches))
    if sorted_by_label([batch.labels for batch in batches.items]):
        info = replace(batches.info, sorted_by_label=True)
        return replace(batches, info=info), (*notes, SORTED_NOTE)
    return batches, notes


def gives_batches(data: Any) -> bool:
    """Whether it is iterated over, and no rows to cut batches from."""
    return not (_is_paths(data) or _is_arrays(data))


def samples_of(options: AuditOptions, model: LoadedModel) -> Samples:
    """All rows of the data.

    Raises:
        DataError: it cannot be read, or does not fit the model.
    """
    samples = _samples(options.data, options.labels, model)
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
    return is_array(data) or isinstance(data, Mapping) or not isinstance(data, Iterable)


def _samples(data: Any, labels: Any, model: LoadedModel) -> Samples:
    if _is_paths(data):
        paths = [str(data)] if _is_path(data) else [str(d) for d in data]
        if labels is None or _is_path(labels):
            return read_samples(paths, model, None if labels is None else str(labels))
        samples = read_samples(paths, model, None)
        return replace(samples, labels=to_tensor(labels, "labels"), labels_from="given array")
    arrays = by_name(data, model)
    if labels is None or _is_path(labels):
        rows, labels_from, key = labels_beside(arrays, labels, model, "the data")
    else:
        rows, labels_from, key = to_tensor(labels, "labels"), "given array", None
    arrays, notes = named(arrays, model, key)
    checked = match(arrays, model, source="data", ignore=[] if key is None else [key])
    return Samples(checked, rows, labels_from, "tensor", notes=notes)
