"""A row for each layer of each model, as CSV or Parquet, for notebooks; one model is in memory at a time.

A model without layers has one row, with its outcome and the reason: failures are rows and no gaps.
"""

from __future__ import annotations

import csv
import os
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_type_hints

from bnaudit.errors import UsageError
from bnaudit.records.fleet import FleetLayer
from bnaudit.records.wire.forms import hint_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from bnaudit.records.fleet import FleetRow

SUFFIXES = (".csv", ".parquet")
_GROUP = 20_000
"""Rows that Parquet writes at once: some MB."""
_OWN: dict[str, type] = {
    "model": str, "weights": str, "outcome": str, "exit_code": int, "reason": str, "format": str,
    "parameters": int, "seconds": float,
}  # fmt: skip
COLUMNS: dict[str, type] = {
    **_OWN,
    **{
        name: hint_of(kind).base
        for name, kind in get_type_hints(FleetLayer, include_extras=True).items()
    },
}
"""Column -> what its values are, where they are there."""


def check(path: Path) -> None:
    """Whether a table can be written, before hours are spent.

    Raises:
        UsageError: the suffix says no format, or its library is not there.
    """
    if path.suffix.lower() not in SUFFIXES:
        known = " and ".join(SUFFIXES)
        raise UsageError(f"--table {path}: the suffix says no format", hint=f"known: {known}")
    if not path.parent.is_dir() or path.is_dir():
        raise UsageError(f"--table {path}: no such folder, or a folder itself", hint="name a file")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def write_table(path: Path, rows: Iterable[FleetRow]) -> None:
    """Writes the table, in place of the file that is there, once it is whole.

    Raises:
        UsageError: it cannot be written.
    """
    write = _parquet if path.suffix.lower() == ".parquet" else _csv
    beside = path.with_name(f".{path.name[:200]}.{os.urandom(4).hex()}.part")
    try:
        write(beside, records(rows))
        beside.replace(path)
    except OSError as error:
        raise UsageError(
            f"--table {path}: cannot be written ({error.strerror})", hint="name another file for it"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def records(rows: Iterable[FleetRow]) -> Iterator[dict[str, Any]]:
    """The rows of the table."""
    for row in rows:
        own = {name: getattr(row, name, None) for name in _OWN}
        own["weights"] = row.options.get("weights")
        for layer in row.layers:
            yield own | {f.name: getattr(layer, f.name) for f in fields(FleetLayer)}
        if not row.layers:
            yield own | {f.name: None for f in fields(FleetLayer)}


def _csv(path: Path, found: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS))
        writer.writeheader()
        writer.writerows(found)
        file.flush()
        os.fsync(file.fileno())


def _pyarrow() -> Any:
    try:
        return import_module("pyarrow")
    except ImportError as error:
        raise UsageError(
            f"--table: Parquet needs pyarrow, which cannot be imported ({error})",
            hint="pip install 'bnaudit[tables]', or name a .csv file",
        ) from error


def _parquet(path: Path, found: Iterable[dict[str, Any]]) -> None:
    arrow, parquet = _pyarrow(), import_module("pyarrow.parquet")
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    with parquet.ParquetWriter(path, schema) as writer:
        for group in _groups(found):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))


def _groups(found: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for record in found:
        group.append(record)
        if len(group) == _GROUP:
            yield group
            group = []
    yield group
