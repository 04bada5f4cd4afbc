"""A run as a table for other programs: a row for each layer at each checkpoint, as CSV or Parquet."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from bnaudit.errors import UsageError
from bnaudit.records.training import LayerState, Moment
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from bnaudit.records.training import Trend

_MOMENT = tuple(f.name for f in fields(Moment) if f.name not in ("missing", "note", "layers"))
_STATE = tuple(f.name for f in fields(LayerState))
COLUMNS = (*_MOMENT, *_STATE, "missing", "note")
_TEXTS = ("path", "name", "missing", "note")
_WHOLE = ("line", "channels", "dead_gamma", "dead_gradient")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def rows_of(report: Trend) -> list[dict[str, Any]]:
    """A row a layer and checkpoint, None where there is no number; one for what is left out."""
    found = []
    place = 0
    for moment in report.moments:
        at = {name: _plain(getattr(moment, name)) for name in (*_MOMENT, "missing", "note")}
        states = [layer.states[place] for layer in report.layers] if moment.missing is None else []
        place += moment.missing is None
        empty = dict.fromkeys(COLUMNS)
        found += [
            {**empty, **at, **{name: _plain(getattr(state, name)) for name in _STATE}}
            for state in states
            if state is not None
        ] or [{**empty, **at}]
    return found


def _plain(value: Any) -> Any:
    return None if isinstance(value, Skipped) else value


def trend_to_csv(report: Trend) -> str:
    """Comma-separated, with a header; empty where there is no number.

    Texts that a spreadsheet would take for a formula have an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows_of(report):
        guarded = {
            name: f"'{row[name]}"
            for name in _TEXTS
            if isinstance(row[name], str) and row[name].startswith(_FORMULA)
        }
        writer.writerow({**row, **guarded})
    return out.getvalue()


def trend_to_parquet(report: Trend) -> bytes:
    """The same columns, typed.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            "parquet needs pyarrow, which is not installed", hint="pip install 'bnaudit[tables]'"
        ) from error
    kinds = {name: pa.float64() for name in COLUMNS}
    kinds |= dict.fromkeys(_TEXTS, pa.string()) | dict.fromkeys(_WHOLE, pa.int64())
    table = pa.Table.from_pylist(rows_of(report), schema=pa.schema(list(kinds.items())))
    out = pa.BufferOutputStream()
    parquet.write_table(table, out)
    written: bytes = out.getvalue().to_pybytes()
    return written
