"""All of the data, for what is computed from every row: no batch is left out, and the last is no shorter."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from bnaudit.data.batch import DEFAULT_BATCH_SIZE, Batch, Batches, Drawn, require_size
from bnaudit.data.digest import digest
from bnaudit.data.items import in_turn
from bnaudit.data.loader import checked_batches, labels_origin
from bnaudit.data.prepare import gives_batches, origin_of, samples_of
from bnaudit.data.room import free_memory
from bnaudit.data.taken import taken
from bnaudit.errors import DataError
from bnaudit.records.run import DataInfo
from bnaudit.user_data import UserData, seeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.data.batch import Samples
    from bnaudit.load.model import LoadedModel
    from bnaudit.options import AuditOptions


def held(options: AuditOptions) -> AuditOptions:
    """The same with the batches of an iterable in memory: they are run several times, the same each time.

    A DataLoader shuffles anew whenever it is read, and a generator is empty behind its end.
    """
    data, origin = options.data, origin_of(options.data)
    if data is None:
        return options
    with seeded(options.seed):
        data = data.made() if isinstance(data, UserData) else data
        if gives_batches(data):
            data = taken(in_turn(data, options.seed), options.batches, origin)
    return replace(options, data=data)


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
    origin = origin_of(options.data)
    source, paths = ("tensor", ()) if origin is None else ("function", (origin.text,))
    largest = max(b.rows for b in items)
    info = DataInfo(source, paths, len(items), largest, rows, digest=digest(names, items))
    labels_from = labels_origin(items, options)
    return Batches(tuple(items), info, names, labels_from), _left_out(left, rows, static_batch)


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
    small, larger = divmod(used, count)  # as many are one row larger
    asked = min(options.batches or count, count)
    sizes = [small + (i < larger) for i in range(asked)]
    parts = order[: sum(sizes)].split(sizes)
    items = Drawn(samples, parts).held(free_memory(torch.device("cpu")) // 8)
    names = tuple(samples.arrays)
    read = None if isinstance(items, Drawn) else digest(names, items)
    info = DataInfo(
        samples.source, samples.paths, len(items), max(map(len, parts)), rows, digest=read
    )
    batches = Batches(items, info, names, samples.labels_from)
    return batches, _left_out(rows - sum(map(len, parts)), rows, static_batch)


def merged(batches: Sequence[Batch]) -> Sequence[Batch]:
    """The same rows in as few batches as hold some million values each, where they can be put together.

    Args:
        batches: of a model that takes any size.
    """
    if isinstance(batches, Drawn):
        samples, rows = batches.samples, torch.cat(list(batches.places))
        size = max(1, _MOST * _BYTES // max(samples.row_bytes, 1), len(batches.places[0]))
        return batches if samples.shared else Drawn(samples, rows.split(size))
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
_BYTES = 4


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
