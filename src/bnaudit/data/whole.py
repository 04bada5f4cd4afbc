"""All of the data, for what is computed from every row: no batch is left out, and the last is no shorter."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from bnaudit.data.batch import DEFAULT_BATCH_SIZE, Batch, Batches, picked, require_size
from bnaudit.data.loader import checked_batches, labels_origin
from bnaudit.data.prepare import gives_batches, samples_of
from bnaudit.errors import DataError
from bnaudit.records.run import DataInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.data.batch import Samples
    from bnaudit.load.model import LoadedModel
    from bnaudit.options import AuditOptions


def held(options: AuditOptions) -> AuditOptions:
    """The same with the batches of an iterable in memory: they are run several times, the same each time.

    A DataLoader shuffles anew whenever it is read, and a generator is empty behind its end.
    """
    if options.data is None or not gives_batches(options.data):
        return options
    count, items = options.batches, []
    try:
        for item in options.data:
            items.append(item)
            if len(items) == count:
                break
    except Exception as error:  # whatever the user's iterable raises
        raise DataError(
            f"data: the iterable failed after {len(items)} batches ({type(error).__name__}: {error})",
            hint="run it by itself to see where",
        ) from error
    return replace(options, data=items)


def whole_data(
    options: AuditOptions, model: LoadedModel, static_batch: int | None
) -> tuple[Batches, tuple[str, ...]]:
    """Every row once, and notes on what could not be used.

    Rows of files and arrays are mixed (by the seed) and dealt out evenly, so that batches are alike; batches
    of an iterable stay as they come.

    Args:
        options: data, labels, sizes and seed; `held` has been called on them.
        model: what the batches must fit.
        static_batch: the size that the model cannot leave, if it has one.

    Raises:
        DataError: the data does not fit.
        UsageError: the options contradict each other.
    """
    if not gives_batches(options.data):
        return _dealt(samples_of(options, model), options, static_batch)
    names, found, _ = checked_batches(options.data, model, options, options.batches)
    items = [b for b in found if static_batch in {None, b.rows}]
    if not items:
        require_size(found[0].rows, static_batch)
    rows = sum(b.rows for b in found)
    left = rows - sum(b.rows for b in items)
    info = DataInfo("tensor", (), len(items), max(b.rows for b in items), rows)
    origin = labels_origin(items, options)
    return Batches(tuple(items), info, names, origin), _left_out(left, rows, static_batch)


def _dealt(
    samples: Samples, options: AuditOptions, static_batch: int | None
) -> tuple[Batches, tuple[str, ...]]:
    rows = samples.rows()
    if rows == 0:
        raise DataError(
            "the data has no rows", hint="the first dimension of every array is the batch"
        )
    size = options.batch_size or static_batch or min(DEFAULT_BATCH_SIZE, rows)
    require_size(size, static_batch)
    count = rows // size if static_batch is not None else -(-rows // size)
    if count == 0:
        raise DataError(
            f"the data has {rows} rows, and the model runs at batches of {size} only",
            hint="give more data, or export the model with a dynamic batch axis",
        )
    used = count * size if static_batch is not None else rows
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(options.seed))[:used]
    parts = torch.tensor_split(order, count)[: options.batches]
    items = tuple(
        Batch(
            tuple(
                a if a.dim() == 0 or name in samples.shared else a[part]
                for name, a in samples.arrays.items()
            ),
            picked(samples.labels, part),
        )
        for part in parts
    )
    info = DataInfo(samples.source, samples.paths, len(items), max(map(len, parts)), rows)
    batches = Batches(items, info, tuple(samples.arrays), samples.labels_from)
    return batches, _left_out(rows - sum(map(len, parts)), rows, static_batch)


def merged(batches: Sequence[Batch]) -> list[Batch]:
    """The same rows in as few batches as hold some million values each, where they can be put together.

    Args:
        batches: of a model that takes any size.
    """
    groups: list[list[Batch]] = []
    size = 0
    for batch in batches:
        values = sum(t.numel() for t in batch.inputs)
        if not groups or size + values > _MOST:
            groups.append([])
            size = 0
        groups[-1].append(batch)
        size += values
    try:
        return [group[0] if len(group) == 1 else _together(group) for group in groups]
    except (RuntimeError, ValueError):  # of other shapes, or with inputs that have no row a sample
        return list(batches)


_MOST = 1 << 22
"""Values of the inputs in a batch: 27 images of 3x224x224, 65 thousand of the digits'."""


def _together(group: list[Batch]) -> Batch:
    inputs = []
    for parts in zip(*(batch.inputs for batch in group), strict=True):
        if any(t.dim() == 0 or len(t) != b.rows for t, b in zip(parts, group, strict=True)):
            raise ValueError("an input without rows")
        inputs.append(torch.cat(parts))
    labels = [batch.labels for batch in group if isinstance(batch.labels, torch.Tensor)]
    if not labels and any(batch.labels is not None for batch in group):
        raise ValueError("labels that are no arrays")
    return Batch(tuple(inputs), torch.cat(labels) if len(labels) == len(group) else None)


def _left_out(left: int, rows: int, static_batch: int | None) -> tuple[str, ...]:
    if not left:
        return ()
    why = f"the model runs at batches of {static_batch} only" if static_batch else "--batches"
    return (f"{left} of {rows} rows left out: {why}",)
