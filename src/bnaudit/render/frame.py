"""Rows of a document as a data frame of whichever library is there."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bnaudit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LIBRARIES = ("pandas", "polars")


def frame_of(rows: Iterable[Mapping[str, Any]]) -> Any:
    """A column for each number or text, under its dotted path.

    Raises:
        UsageError: no library is installed.
    """
    library = next((name for name in LIBRARIES if find_spec(name)), None)
    if library is None:
        raise UsageError(
            f"to_frame needs {' or '.join(LIBRARIES)}, of which none is installed",
            hint=f"pip install {LIBRARIES[0]}",
        )
    flat = [dict(_flat(row, "")) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    # A group that one layer lacks is null there, and has its numbers in another.
    groups = {name for name in names if any(other.startswith(f"{name}.") for other in names)}
    columns = {name: [row.get(name) for row in flat] for name in names if name not in groups}
    if library == "polars":
        return import_module(library).DataFrame(columns, strict=False)
    return import_module(library).DataFrame(columns)


def _flat(row: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            yield prefix + key, value
