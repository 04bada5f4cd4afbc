"""Batches of samples, and how they are cut from the rows that are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.errors import DataError, UsageError
from bnaudit.records.run import DataInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

DEFAULT_BATCH_SIZE = 32
DEFAULT_BATCHES = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """One sample batch.

    Attributes:
        inputs: in the model's order.
        labels: None without; a tensor, or whatever the user's own loss takes.
        given: the batch as the user's iterable gave it, None where bnaudit cut it.
    """

    inputs: tuple[Tensor, ...]
    labels: Any = None
    given: Any = None

    @property
    def rows(self) -> int:
        """How many samples: the first dimension of the first input that has one."""
        return next((t.shape[0] for t in self.inputs if t.dim()), 1)


@dataclass(frozen=True, slots=True)
class Batches:
    """What an audit runs on.

    Attributes:
        items: the batches, on the CPU, in the dtype they came in.
        info: how they were made, for the report.
        names: of the inputs of each batch, in their order.
        labels_from: where the labels came from, None without.
        further: batches of the same size that the data has beyond those, where nobody said how many to run.
    """

    items: Sequence[Batch]
    info: DataInfo
    names: tuple[str, ...]
    labels_from: str | None = None
    further: Sequence[Batch] = ()


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows to cut batches from.

    Attributes:
        arrays: input name -> (rows, ...), in the model's input order; rank-0 arrays are shared
            by all batches.
        labels: (rows, ...) or None; a list has an entry a row.
        labels_from: "batch.npz:labels", ...
        source: "file" or "tensor".
        paths: as the user typed them.
        shared: names of arrays that have no row a sample (a state whose first axis are layers), and are
            given to all batches.
        notes: what was assumed of them.
    """

    arrays: Mapping[str, Tensor]
    labels: Any
    labels_from: str | None
    source: str
    paths: tuple[str, ...] = ()
    shared: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def rows(self) -> int:
        """How many there are.

        Raises:
            DataError: the arrays disagree.
        """
        counts = {n: a.shape[0] for n, a in self.arrays.items() if a.dim() and n not in self.shared}
        if self.labels is not None:
            if isinstance(self.labels, torch.Tensor) and not self.labels.dim():
                raise DataError("the labels are a single number", hint="give one label a row")
            counts["labels"] = len(self.labels)
        if len(set(counts.values())) > 1:
            listing = ", ".join(f"{name} {n}" for name, n in counts.items())
            raise DataError(
                f"the arrays have different numbers of rows ({listing})",
                hint="the first dimension of every array is the batch; where it is not (a graph, sets of "
                "points), --data file.py:function can yield whole batches, as (inputs..., labels)",
            )
        return next(iter(counts.values()), 1)


def require_size(size: int, static_batch: int | None) -> None:
    """Refuses batches of another size than the only one that a model runs at.

    Raises:
        UsageError: it is another.
    """
    if static_batch is not None and size != static_batch:
        raise UsageError(
            f"the model runs at batch size {static_batch} only, not {size}",
            hint="export it with a dynamic batch axis, or leave the batch size out",
        )


def cut(
    samples: Samples, batch_size: int | None, batches: int | None, static_batch: int | None
) -> Batches:
    """Cuts batches of consecutive rows, in the order of the data.

    Args:
        samples: the rows.
        batch_size: rows a batch; default the model's fixed size, else 32 or all there are.
        batches: how many; default 8, or as many whole batches as there are.
        static_batch: the size that the model cannot leave, if it has one.

    Raises:
        DataError: there are fewer rows than asked for, or the inputs disagree about how many.
    """
    rows = samples.rows()
    if rows == 0:
        raise DataError(
            "the data has no rows", hint="the first dimension of every array is the batch"
        )
    size = batch_size or static_batch or min(DEFAULT_BATCH_SIZE, rows)
    require_size(size, static_batch)
    count = batches or min(DEFAULT_BATCHES, rows // size)
    if rows < size * count or count == 0:
        wanted = f"{max(count, 1)} x {size}"
        raise DataError(
            f"the data has {rows} rows, fewer than {wanted}",
            hint="give more data, or pass a smaller --batch-size or --batches",
        )
    items = tuple(
        Batch(
            tuple(
                a if a.dim() == 0 or name in samples.shared else a[i : i + size]
                for name, a in samples.arrays.items()
            ),
            None if samples.labels is None else samples.labels[i : i + size],
        )
        for i in range(0, size * (count if batches else rows // size), size)
    )
    info = DataInfo(samples.source, samples.paths, count, size, rows)
    return Batches(items[:count], info, tuple(samples.arrays), samples.labels_from, items[count:])


def picked(labels: Any, rows: Tensor) -> Any:
    """Those of some rows; a list has one a row."""
    if labels is None or isinstance(labels, torch.Tensor):
        return None if labels is None else labels[rows]
    return [labels[row] for row in rows.tolist()]


_ENOUGH_ROWS = 16
_MOST = 0.1
"""Of the columns: in one-hot codes, counts and other rare values more are 0 in every row by chance."""


def constant_columns(batches: Batches) -> list[str]:
    """A note on each input of features of which a few are the same in every row: a sensor that is stuck.

    Behind a linear layer no statistics show it: each channel mixes all of them.
    """
    notes = []
    for place, name in enumerate(batches.names):
        parts = [batch.inputs[place] for batch in batches.items]
        if not parts or parts[0].dim() != 2 or not parts[0].is_floating_point():
            continue
        rows = torch.cat(parts)
        same = (rows == rows[0]).all(0).nonzero().flatten().tolist()
        if rows.shape[0] < _ENOUGH_ROWS or not 0 < len(same) <= _MOST * rows.shape[1]:
            continue
        values = ", ".join(f"{i} ({float(rows[0, i]):.3g})" for i in same[:3])
        more = f" and {len(same) - 3} more" if len(same) > 3 else ""
        notes.append(
            f"{name}: {len(same)} of {rows.shape[1]} columns are the same in all {rows.shape[0]} rows: "
            f"{values}{more}; a dead or stuck feature shows so"
        )
    return notes
