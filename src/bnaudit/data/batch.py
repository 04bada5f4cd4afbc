"""Batches of samples, and how they are cut from the rows that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import torch

from bnaudit.errors import DataError, UsageError
from bnaudit.records.run import DataInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from bnaudit.data.rows import Listed, Rows

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
        items: the batches, on the CPU, in the dtype they came in; `Drawn` where memory is too small.
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

    @property
    def sizes(self) -> list[int]:
        """Rows of each batch."""
        if isinstance(self.items, Drawn):
            return [len(place) for place in self.items.places]
        return [batch.rows for batch in self.items]


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows to cut batches from.

    Attributes:
        arrays: input name -> (rows, ...), in the model's input order; rank-0 arrays are shared
            by all batches.
        labels: `Rows`, or a list with an entry a row, or None.
        labels_from: "batch.npz:labels", ...
        source: "file" or "tensor".
        paths: as the user typed them.
        shared: names of arrays that have no row a sample (a state whose first axis are layers), and are
            given to all batches.
        notes: what was assumed of them.
    """

    arrays: Mapping[str, Rows]
    labels: Rows | Listed | None
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
        counts = {n: len(a) for n, a in self.arrays.items() if a.dim() and n not in self.shared}
        inputs = set(counts.values())
        if self.labels is not None:
            if not self.labels.dim():
                raise DataError("the labels are a single number", hint="give one label a row")
            counts["labels"] = len(self.labels)
        if len(inputs) == 1 and len(set(counts.values())) > 1:
            raise DataError(
                f"{counts['labels']} labels ({self.labels_from}) for {inputs.pop()} rows",
                hint="give one label a row, in the order of the rows",
            )
        if len(inputs) > 1:
            listing = ", ".join(f"{name} {n}" for name, n in counts.items())
            raise DataError(
                f"the arrays have different numbers of rows ({listing})",
                hint="the first dimension of every array is the batch; where it is not (a graph, sets of "
                f"points), yield whole batches: --data file.py:function, with `yield {', '.join(counts)}`",
            )
        return next(iter(counts.values()), 1)

    def batch(self, index: Tensor) -> Batch:
        """These rows, in this order.

        Raises:
            DataError: they cannot be read, or are not what the model takes.
        """
        return self.read([index])[0]

    def read(self, places: Sequence[Tensor]) -> list[Batch]:
        """Batches of these rows, all read at once: a table is gone through once for all of them.

        Raises:
            DataError: as `batch`.
        """
        if not places:
            return []
        index, sizes = torch.cat(list(places)), [len(place) for place in places]
        inputs = [
            a.take(index).split(sizes)
            if a.dim() and name not in self.shared
            else [a.all()] * len(sizes)
            for name, a in self.arrays.items()
        ]
        labels = None if self.labels is None else self.labels.take(index)
        found, start = [], 0
        for i, size in enumerate(sizes):
            own = None if labels is None else labels[start : start + size]
            found.append(Batch(tuple(parts[i] for parts in inputs), own))
            start += size
        return found

    @property
    def row_bytes(self) -> int:
        """What one row of all inputs takes in memory."""
        return sum(a.row_bytes for n, a in self.arrays.items() if a.dim() and n not in self.shared)


class Drawn(Sequence[Batch]):
    """Batches that are read each time that they are asked for.

    Attributes:
        samples: where their rows are.
        places: of the rows of each.
    """

    def __init__(self, samples: Samples, places: Sequence[Tensor]) -> None:
        self.samples, self.places = samples, places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Batch: ...

    @overload
    def __getitem__(self, index: slice) -> Drawn: ...

    def __getitem__(self, index: int | slice) -> Batch | Drawn:
        if isinstance(index, slice):
            return Drawn(self.samples, self.places[index])
        return self.samples.batch(self.places[index])

    def held(self, free: int) -> Sequence[Batch]:
        """The batches themselves where they fit into so many bytes, else as they are."""
        rows = sum(len(place) for place in self.places)
        if rows * self.samples.row_bytes > free:
            return self
        return tuple(self.samples.read(self.places))


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


MOST_BATCHES = 1024
"""That are ever cut: the rows of these are spread over all of the data."""


def places(rows: int, size: int, count: int, seed: int) -> list[Tensor]:
    """Which rows make which batch: all parts of the data alike, whatever order it is in.

    The data is divided into as many equal stretches as there are rows to be taken, each gives one, drawn by
    the seed, and they are dealt out at random. So data that is sorted by its labels gives mixed batches, and
    the first batches are as much of a sample as all of them. Within a batch the rows keep their order.

    Args:
        rows: that there are.
        size: of a batch.
        count: of batches; where there are more rows, some are left out.
        seed: of the draw.
    """
    draw, taken = torch.Generator().manual_seed(seed), size * count
    starts = torch.arange(taken + 1) * rows // max(taken, 1)
    width = starts.diff()
    chosen = starts[:-1] + (torch.rand(taken, generator=draw, dtype=torch.float64) * width).long()
    dealt = chosen[torch.randperm(taken, generator=draw)]
    return [part.sort().values for part in dealt.split(size)] if taken else []


def cut(
    samples: Samples,
    batch_size: int | None,
    batches: int | None,
    static_batch: int | None,
    seed: int = 0,
) -> Batches:
    """Cuts batches out of rows, see `places`; those that are run are read, others when they are asked for.

    Args:
        samples: the rows.
        batch_size: rows a batch; default the model's fixed size, else 32 or all there are.
        batches: how many; default 8, or as many whole batches as there are.
        static_batch: the size that the model cannot leave, if it has one.
        seed: of which rows make which batch.

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
    # A batch is the same however many there are.
    most = max(count, min(rows // size, MOST_BATCHES))
    drawn = Drawn(samples, places(rows, size, most, seed)[:batches])
    info = DataInfo(samples.source, samples.paths, count, size, rows, order="seed")
    items, further = tuple(samples.read(drawn.places[:count])), drawn[count:]
    return Batches(items, info, tuple(samples.arrays), samples.labels_from, further)


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
