"""From what the user gave to batches that fit the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bnaudit.data.batch import DEFAULT_BATCHES, Batch, Batches, Samples, cut
from bnaudit.data.files import LABELS_KEY, read_samples
from bnaudit.data.signature import match, wanted
from bnaudit.data.synthetic import synthetic_batches
from bnaudit.errors import DataError, UsageError
from bnaudit.records.report import DataInfo

if TYPE_CHECKING:
    from torch import Tensor

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
    if data is None or (isinstance(data, Sequence) and len(data) == 0):
        if options.labels is not None:
            raise UsageError("labels without data", hint="pass --data as well")
        return synthetic_batches(
            model,
            _input_shapes(options.input_shapes, model),
            options.batch_size,
            options.batches,
            options.seed,
            static_batch,
        )
    if options.input_shapes:
        raise UsageError("--input-shape is for synthetic batches; the data has shapes of its own")
    if _is_loader(data):
        return _from_loader(data, model, options.batches), ()
    samples = _samples(data, options.labels, model)
    return cut(samples, options.batch_size, options.batches, static_batch), ()


def _input_shapes(
    shapes: Mapping[str, tuple[int, ...]], model: LoadedModel
) -> Mapping[str, tuple[int, ...]]:
    names = [s.name for s in model.inputs]
    if "" in shapes:
        if len(names) != 1 or len(shapes) != 1:
            raise UsageError(
                "--input-shape without a name fits models with one input only",
                hint=wanted(model.inputs),
            )
        return {names[0]: shapes[""]}
    for name in shapes:
        if name not in names:
            raise UsageError(f"--input-shape: no input {name!r}", hint=wanted(model.inputs))
    return shapes


def _is_path(data: Any) -> bool:
    return isinstance(data, (str, Path))


def _is_array(data: Any) -> bool:
    return isinstance(data, (torch.Tensor, np.ndarray))


def _is_loader(data: Any) -> bool:
    """An iterable of batches: neither paths, nor arrays, nor a collection of arrays."""
    if _is_path(data) or _is_array(data) or isinstance(data, Mapping):
        return False
    if isinstance(data, (tuple, list)):
        return not all(_is_path(d) or _is_array(d) for d in data)
    return isinstance(data, Iterable)


def _samples(data: Any, labels: Any, model: LoadedModel) -> Samples:
    if _is_path(data) or (isinstance(data, (tuple, list)) and all(_is_path(d) for d in data)):
        paths = [str(data)] if _is_path(data) else [str(d) for d in data]
        if labels is None or _is_path(labels):
            return read_samples(paths, model, None if labels is None else str(labels))
        samples = read_samples(paths, model, None)
        return Samples(samples.arrays, _array(labels), "given array", "file", samples.paths)
    arrays = _named(data, model)
    rows, labels_from = None, None
    ignore: list[str] = []
    if isinstance(labels, str):
        if labels not in arrays:
            raise DataError(f"labels {labels!r}: no such key in the data ({', '.join(arrays)})")
        rows, labels_from, ignore = arrays[labels], labels, [labels]
    elif labels is not None:
        rows, labels_from = _array(labels), "given array"
    elif LABELS_KEY in arrays and LABELS_KEY not in {s.name for s in model.inputs}:
        rows, labels_from, ignore = arrays[LABELS_KEY], LABELS_KEY, [LABELS_KEY]
    checked = match(arrays, model, source="data", ignore=ignore)
    return Samples(checked, rows, labels_from, "tensor")


def _array(value: Any) -> Tensor:
    return value.detach().cpu() if isinstance(value, torch.Tensor) else torch.as_tensor(value)


def _named(data: Any, model: LoadedModel) -> dict[str, Tensor]:
    if isinstance(data, Mapping):
        return {str(k): _array(v) for k, v in data.items()}
    parts = [data] if _is_array(data) else list(data)
    if len(parts) != len(model.inputs):
        raise DataError(
            f"data: {len(parts)} array(s) for {len(model.inputs)} inputs", hint=wanted(model.inputs)
        )
    return {s.name: _array(p) for s, p in zip(model.inputs, parts, strict=True)}


def _from_loader(data: Iterable[Any], model: LoadedModel, batches: int | None) -> Batches:
    """The first batches of an iterable; each item is (inputs..., labels), inputs or a mapping."""
    items = tuple(_item(item, model) for item in islice(data, batches or DEFAULT_BATCHES))
    if not items:
        raise DataError("data: the iterable gives no batch")
    rows = [next((t.shape[0] for t in b.inputs if t.dim()), 1) for b in items]
    labelled = all(b.labels is not None for b in items)
    info = DataInfo("tensor", (), len(items), rows[0], sum(rows))
    return Batches(items, info, "the data loader" if labelled else None)


def _item(item: Any, model: LoadedModel) -> Batch:
    labels: Tensor | None = None
    if isinstance(item, (tuple, list)) and len(item) == len(model.inputs) + 1:
        *parts, last = item
        item, labels = parts, _array(last)
    arrays = _named(item, model)
    if labels is None and LABELS_KEY not in {s.name for s in model.inputs}:
        labels = arrays.get(LABELS_KEY)
    checked = match(arrays, model, source="data", ignore=[LABELS_KEY])
    return Batch(tuple(checked.values()), labels)
