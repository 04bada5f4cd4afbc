"""Batches from an iterable of the user's own: a DataLoader, a generator, a list of pairs."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.batch import DEFAULT_BATCH_SIZE, DEFAULT_BATCHES, Batch, Batches, require_size
from bnaudit.data.items import batch_of, collated, in_turn, is_sample, item_of
from bnaudit.data.loss import takes_batch
from bnaudit.errors import BnauditError, DataError, UsageError
from bnaudit.files import is_file
from bnaudit.records.run import DataInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bnaudit.data.items import Item
    from bnaudit.load.model import LoadedModel
    from bnaudit.options import AuditOptions


def from_loader(
    data: Iterable[Any], model: LoadedModel, options: AuditOptions, static_batch: int | None
) -> tuple[Batches, tuple[str, ...]]:
    """The first batches of an iterable, as it cuts them; each is (inputs..., labels), inputs or a mapping.

    Args:
        data: the iterable.
        model: what the batches must fit.
        options: how many, and under which key of a mapping the labels are.
        static_batch: the size that the model cannot leave, if it has one.

    Returns:
        The batches, and a note where some were left out for having another number of rows.

    Raises:
        DataError: the iterable fails, gives nothing, or gives what does not fit.
        UsageError: an option that only makes sense for data that bnaudit cuts itself.
    """
    names, found, notes = checked_batches(data, model, options, options.batches or DEFAULT_BATCHES)
    rows = [batch.rows for batch in found]
    if options.batch_size not in {None, rows[0]}:
        raise UsageError(
            f"the iterable gives batches of {rows[0]}, not {options.batch_size}",
            hint="set the size where the batches are made, and leave the batch size out",
        )
    require_size(rows[0], static_batch)
    # Measurements at different batch sizes are different quantities: the last batch is often shorter.
    items = tuple(b for b, n in zip(found, rows, strict=True) if n == rows[0])
    odd = sorted({n for n in rows if n != rows[0]})
    left_out = f"{len(found) - len(items)} of {len(found)} batches left out: they have " + (
        f"{', '.join(map(str, odd))} rows, the first has {rows[0]}"
    )
    info = DataInfo("tensor", (), len(items), rows[0], rows[0] * len(items), order="given")
    origin = labels_origin(items, options)
    return Batches(items, info, names, origin), (*notes, *((left_out,) if odd else ()))


def checked_batches(
    data: Iterable[Any], model: LoadedModel, options: AuditOptions, count: int | None
) -> tuple[tuple[str, ...], tuple[Batch, ...], tuple[str, ...]]:
    """Names of the inputs, the first batches of an iterable, of any size, and notes on them.

    Args:
        data: the iterable.
        model: what the batches must fit.
        options: under which key of a mapping the labels are.
        count: how many at most, None for all.

    Raises:
        DataError: the iterable fails, gives nothing, or gives what does not fit.
        UsageError: labels beside it.
    """
    taken = list(_taken(data, count, model, options))
    found = tuple(batch for batch, _, _ in taken)
    if not found:
        raise DataError(
            "data: the iterable gives no batch",
            hint="an iterator that was read before is empty: pass a list, or make it anew",
        )
    if any(isinstance(b.labels, torch.Tensor) and not b.labels.dim() for b in found):
        raise DataError(
            "data: the labels of a batch are a single number",
            hint="give one label a row: (inputs..., labels) with labels of as many rows as the inputs",
        )
    names = taken[0][1]
    if any(other != names for _, other, _ in taken):
        raise DataError("data: the batches of the iterable have different inputs")
    return names, found, taken[0][2]


def labels_origin(items: Sequence[Batch], options: AuditOptions) -> str | None:
    """Where the labels of an iterable's batches come from, None without.

    Raises:
        DataError: a batch lacks those that were asked for.
    """
    labelled = all(b.labels is not None for b in items)
    if options.labels is not None and not labelled:
        raise DataError(
            f"labels {options.labels!r}: no such key in every batch of the iterable",
            hint="--labels names a key of the mappings, or a place in the tuples (0, 1, ...)",
        )
    return (options.labels or "the data loader") if labelled else None


def _taken(
    data: Iterable[Any], count: int | None, model: LoadedModel, options: AuditOptions
) -> Iterator[tuple[Batch, tuple[str, ...], tuple[str, ...]]]:
    """The first batches, each with the names of its inputs and notes on them."""
    asked = options.labels
    if not isinstance(asked, str | None):
        raise UsageError(
            "labels beside an iterable of batches",
            hint="let it give (inputs..., labels), or mappings and name the key of the labels",
        )
    if asked is not None and is_file(asked):
        raise UsageError(
            f"--labels {asked} is a file, which cannot follow the batches of a function or iterable",
            hint="yield the labels with the inputs: (inputs..., labels), or a mapping",
        )
    taken = 0
    try:
        whole = takes_batch(options.loss)
        items = (
            item_of(item, model, asked, options.map, whole=whole)
            for item in in_turn(data, options.seed)
        )
        for item in _batches(items, model, options):
            yield batch_of(item, model, options.map)
            taken += 1
            if taken == count:
                return
    except BnauditError:
        raise
    except Exception as error:  # whatever the user's iterable raises
        raise DataError(
            f"data: the iterable failed after {taken} batches ({type(error).__name__}: {error})",
            hint="run it by itself to see where",
        ) from error


def _batches(items: Iterator[Item], model: LoadedModel, options: AuditOptions) -> Iterator[Item]:
    """The items themselves, or batches of them where they are samples."""
    first = next(items, None)
    if first is None:
        return iter(())
    whole = chain([first], items)
    if not is_sample(first, model):
        return whole
    return collated(whole, options.batch_size or model.static_batch or DEFAULT_BATCH_SIZE)
