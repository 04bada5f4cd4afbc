"""Tables: `.csv` and `.parquet`. The columns beside the labels are one input's features, in their order.

Parquet is gone through by row groups, in pieces, for the rows that are wanted; a CSV file is read whole.
"""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.arrays import from_numpy
from bnaudit.data.room import free_memory
from bnaudit.data.rows import Held, Rows
from bnaudit.data.signature import LABELS, describe
from bnaudit.data.sources.source import COPY_AGAIN, Found, missing
from bnaudit.errors import DataError
from bnaudit.files import opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from bnaudit.data.sources.source import Wanted
    from bnaudit.load.model import InputSpec

_SUFFIXES = (".csv", ".tsv")
_PARQUET = b"PAR1"
_INDEX = ("", "Unnamed: 0", "__index_level_0__")
"""What pandas calls the index that it writes unasked."""
_PIECE = 1 << 14
"""Rows of a row group that are unpacked at once."""
_MOST_CLASSES = 10_000
_SHOWN = 6


def is_csv(path: Path, head: bytes) -> bool:
    """Whether it is one by its name: text says nothing of itself."""
    del head
    return path.suffix.lower() in _SUFFIXES


def is_parquet(path: Path, head: bytes) -> bool:
    """Whether it is one."""
    del path
    return head.startswith(_PARQUET)


def read_csv(path: Path, wanted: Wanted) -> Found:
    """Its columns."""
    pa = _pyarrow(path)
    from pyarrow import csv as reader

    with opened(path) as file:
        first = file.readline(1 << 20).decode("utf-8-sig", "replace").strip("\r\n")
        size = os.fstat(file.fileno()).st_size
        if size > free_memory(torch.device("cpu")) // 4:
            raise DataError(
                f"{path}: {size / 1e9:.1f} GB of text are read whole, and there is no memory for that",
                hint="write it as Parquet, which is read piece by piece",
            )
        delimiter = max(",;\t|", key=first.count)
        names = next(csv.reader([first], delimiter=delimiter), [])
        bare = bool(names) and all(map(_is_number, names))
        file.seek(0)
        try:
            table = reader.read_csv(
                file,
                reader.ReadOptions(autogenerate_column_names=bare, use_threads=False),
                reader.ParseOptions(delimiter=delimiter),
            )
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{path}: is no table ({str(error).splitlines()[0][:160]})",
                hint="a line of column names, then as many values in each line, with , ; or tabs between",
            ) from error
    if bare:
        table = table.rename_columns([str(i) for i in range(table.num_columns)])
    return _found(Table(path, table.schema, table.num_rows, table), wanted)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_parquet(path: Path, wanted: Wanted) -> Found:
    """Its columns, left in the file."""
    pa = _pyarrow(path)
    from pyarrow import parquet

    try:
        with opened(path) as file:
            whole = parquet.ParquetFile(file, pre_buffer=False)
            schema, rows = whole.schema_arrow, whole.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path}: a damaged or cut-off Parquet file",
            hint=COPY_AGAIN,
        ) from error
    return _found(Table(path, schema, rows, None), wanted)


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise missing("pyarrow", "tables", f"{path}: reading tables") from error
    return pa


class Table:
    """A table, in memory or in a Parquet file.

    Attributes:
        path: of it.
        kinds: column -> "integer", "boolean", "floating", "text", "numbers" (a list of them in each row) or
            its type, where that is none that is read.
        rows: how many.
    """

    def __init__(self, path: Path, schema: Any, rows: int, held: Any) -> None:
        if len(set(schema.names)) != len(schema.names):
            raise DataError(f"{path}: two columns have the same name", hint="rename one of them")
        self.path, self.rows, self.held = path, rows, held
        self.kinds = {f.name: _kind(f.type) for f in schema}
        self.wide = {
            f.name: str(f.type) in {"double", "int64", "uint64", "int32", "uint32"} for f in schema
        }

    def read(self, names: Sequence[str], index: Tensor) -> Any:
        """Some rows of some columns, in the order of the index."""
        import pyarrow as pa

        if self.held is not None:
            return self.held.select(list(names)).take(pa.array(index.numpy()))
        order = index.argsort(stable=True)
        try:
            parts = list(self._parts(names, index[order]))
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self.path}: a damaged Parquet file ({str(error).splitlines()[0][:160]})",
                hint=COPY_AGAIN,
            ) from error
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        return pa.concat_tables(parts).take(pa.array(back.numpy()))

    def _parts(self, names: Sequence[str], index: Tensor) -> Iterator[Any]:
        """Of a file, for places in ascending order."""
        import pyarrow as pa
        from pyarrow import parquet

        with opened(self.path) as file:
            whole = parquet.ParquetFile(file, pre_buffer=False)
            start = 0
            for group in range(whole.num_row_groups):
                rows = whole.metadata.row_group(group).num_rows
                inside = index[(index >= start) & (index < start + rows)]
                first = start
                start += rows
                if not len(inside):
                    continue
                for piece in whole.iter_batches(_PIECE, [group], list(names), use_threads=False):
                    here = inside[(inside >= first) & (inside < first + len(piece))] - first
                    if len(here):
                        yield pa.table(piece).take(pa.array(here.numpy()))
                    first += len(piece)
                    if first > int(inside[-1]):
                        break


def _kind(kind: Any) -> str:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if lists and _kind(kind.value_type) in {"integer", "floating", "boolean"}:
        return "numbers"
    tests = {
        "boolean": (types.is_boolean,),
        "integer": (types.is_integer,),
        "floating": (types.is_floating, types.is_decimal),
        "text": (types.is_string, types.is_large_string),
    }
    return next((name for name, ways in tests.items() if any(w(kind) for w in ways)), str(kind))


class Columns(Rows):
    """Columns of numbers beside each other.

    Args:
        table: they are of.
        names: theirs.
        dtype: of all.
        shape: of a row: () of a single column, (columns,), or the length of its lists.
    """

    def __init__(
        self, table: Table, names: Sequence[str], dtype: torch.dtype, shape: tuple[int, ...]
    ) -> None:
        self.table, self.names, self.dtype = table, names, dtype
        self.shape = (table.rows, *shape)

    def take(self, index: Tensor) -> Tensor:
        """See `Rows.take`."""
        if not len(index):
            return torch.empty((0, *self.shape[1:]), dtype=self.dtype)
        found = self.table.read(self.names, index)
        if self.table.kinds[self.names[0]] == "numbers":
            return self._lists(found.column(0).to_pylist(), index)
        columns = [self._numbers(found.column(i), name) for i, name in enumerate(self.names)]
        return torch.stack(columns, -1) if len(self.shape) > 1 else columns[0]

    def _numbers(self, column: Any, name: str) -> Tensor:
        import pyarrow as pa

        if column.null_count and not self.dtype.is_floating_point:
            raise DataError(
                f"{self.table.path}: column {name!r} has rows without a value",
                hint="fill or drop them as in training",
            )
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if self.dtype.is_floating_point or pa.types.is_decimal(column.type):
            column = column.cast("float64", safe=False)
        array = column.to_numpy()  # a row without a value is NaN, which is refused with its place
        return from_numpy(array, f"{self.table.path}: {name}").to(self.dtype)

    def _lists(self, rows: list[Any], index: Tensor) -> Tensor:
        name = self.names[0]
        for place, row in enumerate(rows):
            if row is None or len(row) != self.shape[1] or None in row:
                raise DataError(
                    f"{self.table.path}: column {name!r} has {0 if row is None else len(row)} numbers in row "
                    f"{int(index[place])}, and {self.shape[1]} in the first",
                    hint="lists of one length are read",
                )
        return torch.tensor(rows, dtype=self.dtype).reshape(len(rows), self.shape[1])


def _found(table: Table, wanted: Wanted) -> Found:
    """Arrays by input, or by the keys of `--map`, and the labels by their column."""
    if not table.rows:
        raise DataError(f"{table.path}: a table without rows", hint="one row a sample")
    labels, notes = _labels(table, wanted)
    inputs = wanted.inputs
    key = next(iter(labels), None)
    index = [n for n in table.kinds if n in _INDEX and n not in labels]
    features = [n for n in table.kinds if n not in labels and n not in index]
    specs = {s.name: s for s in inputs}
    arrays: dict[str, Rows] = {}
    if wanted.model is None:
        arrays = {n: _column(table, n, None) for n in features}
    elif wanted.given:
        for name, columns in wanted.given.items():
            arrays[columns] = _features(table, _named(table, columns), specs.get(name), key)
    elif len(inputs) > 1 or (len(inputs) == 1 and inputs[0].name in features):
        arrays = {n: _column(table, n, specs.get(n)) for n in features}
    else:
        name = inputs[0].name if inputs else "features"
        arrays[name] = _features(table, features, specs.get(name), key)
    if index and not wanted.given:
        notes.append(f"{table.path}: column {index[0]!r} is an index, and left out")
    return Found({**arrays, **labels}, notes=tuple(notes))


def _labels(table: Table, wanted: Wanted) -> tuple[dict[str, Rows], list[str]]:
    """The column of the labels, if there is one: asked for, or by its name."""
    names = {s.name for s in wanted.inputs}
    asked = wanted.labels if wanted.labels in table.kinds else None
    usual = next((n for n in LABELS if n in table.kinds and n not in names), None)
    key = asked or (usual if wanted.labels is None else None)
    if key is None:
        return {}, []
    if table.kinds[key] != "text":
        return {key: _column(table, key, None)}, []
    column = table.read([key], torch.arange(table.rows)).column(0)
    if column.null_count:
        raise DataError(f"{table.path}: column {key!r} has rows without a value", hint="drop them")
    texts = column.to_pylist()
    classes = sorted(set(texts))
    if len(classes) > _MOST_CLASSES:
        raise DataError(
            f"{table.path}: column {key!r} holds {len(classes)} different texts, too many for classes",
            hint="--labels COLUMN names the labels",
        )
    numbers = {text: number for number, text in enumerate(classes)}
    note = (
        f"{table.path}: labels 0 to {len(classes) - 1} are the values of {key!r} in alphabetical order, "
        f"{classes[0]!r} to {classes[-1]!r}; they have to be the model's classes in its order"
    )
    return {key: Held(torch.tensor([numbers[text] for text in texts]))}, [note]


def _named(table: Table, columns: str) -> list[str]:
    """The columns that `--map INPUT=A,B` names; a column's own name may hold commas."""
    if columns in table.kinds:
        return [columns]
    names = [name.strip() for name in columns.split(",")]
    for name in names:
        if name not in table.kinds:
            raise DataError(
                f"{table.path}: no column {name!r} (it has: {_listing(list(table.kinds))})",
                hint="--map INPUT=COLUMN,COLUMN,... names columns of the table",
            )
    return names


def _listing(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _column(table: Table, name: str, spec: InputSpec | None) -> Rows:
    """One column; (rows, 1) where an input wants two axes."""
    kind = table.kinds[name]
    if kind == "numbers":
        return _features(table, [name], spec, None)
    _require_numbers(table, name, None)
    dtype = torch.float64 if kind == "floating" else torch.int64
    two = spec is not None and spec.shape is not None and len(spec.shape) == 2
    return Columns(table, [name], _typed(dtype, spec), (1,) if two else ())


def _typed(dtype: torch.dtype, spec: InputSpec | None) -> torch.dtype:
    """Numbers of a table are numbers: whole ones too go into a floating-point input."""
    target = None if spec is None or spec.dtype is None else getattr(torch, spec.dtype, None)
    floating = isinstance(target, torch.dtype) and target.is_floating_point
    return torch.float64 if floating else dtype


def _require_numbers(table: Table, name: str, key: str | None) -> None:
    kind = table.kinds[name]
    if kind in {"integer", "boolean", "floating", "numbers"}:
        return
    what = kind
    if kind == "text":
        what = f"text ({table.read([name], torch.arange(1)).column(0)[0].as_py()!r})"
    labels = "" if key is not None else f"; --labels {name} where it holds the labels"
    raise DataError(
        f"{table.path}: column {name!r} holds {what}, not numbers",
        hint="encode it as in training; --map INPUT=COLUMN,COLUMN,... names the columns that are features"
        + labels,
    )


def _features(table: Table, names: list[str], spec: InputSpec | None, key: str | None) -> Rows:
    """Columns of numbers as one array (rows, columns)."""
    declared = None if spec is None or spec.shape is None else spec.shape
    if not names:
        raise DataError(f"{table.path}: has no columns beside the labels {key!r}")
    if len(names) == 1 and table.kinds[names[0]] == "numbers":
        first = table.read(names, torch.arange(1)).column(0)[0].as_py() or ()
        dtype = torch.int64 if all(isinstance(v, int) for v in first) else torch.float64
        return Columns(table, names, _typed(dtype, spec), (len(first),))
    width = declared[1] if declared is not None and len(declared) == 2 else None
    if isinstance(width, int) and width != len(names) and spec is not None:
        one_more = key is None and len(names) == width + 1
        labels = f"; one of them holds the labels? --labels {names[-1]}" if one_more else ""
        raise DataError(
            f"{table.path}: {len(names)} columns ({_listing(names)})"
            + ("" if key is None else f" beside the labels {key!r}")
            + f", but the model takes {describe(spec)}",
            hint=f"--map {spec.name}=COLUMN,COLUMN,... names the columns that are features{labels}",
        )
    for name in names:
        _require_numbers(table, name, key)
        if table.kinds[name] == "numbers":
            raise DataError(
                f"{table.path}: column {name!r} holds lists, and there are others beside it",
                hint=f"--map INPUT={name} takes it alone",
            )
    whole = all(table.kinds[name] != "floating" for name in names)
    dtype = _typed(torch.int64 if whole else torch.float64, spec)
    if spec is None or spec.dtype is None:
        dtype = torch.float64  # a model that does not say takes floats, as tables of features are
    if dtype == torch.float64 and not any(table.wide[name] for name in names):
        dtype = torch.float32
    single = declared is not None and len(declared) == 1 and len(names) == 1
    return Columns(table, names, dtype, () if single else (len(names),))
