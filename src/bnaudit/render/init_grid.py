"""The table of a comparison: a line a weight, columns by importance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

from bnaudit.records.initialisation import Rows, ScaleTest
from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.table.numbers import (
    align_decimal,
    error_size,
    percent,
    significant,
    whole_percent,
)
from bnaudit.render.table.text import pad_left, pad_right

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnaudit.records.initialisation import InitReport, Range, Value, WeightReport
    from bnaudit.render.table.text import Charset

_GAP = "  "
_NAME_MIN, _NAME_MAX = 20, 44
_MARK = {"yes": "yes", "no": "no", "unknown": "?"}
_SUFFIX = ".weight"


@dataclass(frozen=True, slots=True)
class _Column:
    """One column: its title, the title over it and its neighbours, and the cell of a weight."""

    key: str
    title: str
    read: Callable[[WeightReport], str]
    group: str = ""
    aligned: bool = True


def display_names(report: InitReport) -> list[str]:
    """The weights' names; the layers' where every weight is called `weight`."""
    names = [weight.name for weight in report.weights]
    if all(name.endswith(_SUFFIX) for name in names):
        return [name.removesuffix(_SUFFIX) for name in names]
    return names


def _plain(value: float) -> str:
    """Cosines and k are of order one: three decimals, until k grows out of them."""
    return f"{value:.3f}" if abs(value) < 100 else significant(value)


def _show(value: Value, write: Callable[[float], str]) -> str:
    return "–" if isinstance(value, Skipped) else write(value)


def _whole(key: str, write: Callable[[float], str]) -> Callable[[WeightReport], str]:
    def read(weight: WeightReport) -> str:
        return _show(getattr(weight.alignment, key, NOT_REQUESTED), write)

    return read


def _row(pick: str) -> Callable[[WeightReport], str]:
    def read(weight: WeightReport) -> str:
        found: Range | Skipped = getattr(weight.rows, "k", NOT_REQUESTED)
        return "–" if isinstance(found, Skipped) else _plain(getattr(found, pick))

    return read


def _positive(weight: WeightReport) -> str:
    rows = weight.rows
    return _show(rows.positive, whole_percent) if isinstance(rows, Rows) else "–"


def _scale(key: str) -> Callable[[WeightReport], str]:
    def read(weight: WeightReport) -> str:
        test = weight.scale
        return _show(getattr(test, key), error_size) if isinstance(test, ScaleTest) else "–"

    return read


_ROWS, _TEST = "k of rows", "scale test"
_COLUMNS = (
    _Column("name", "weight", lambda w: w.name, aligned=False),
    _Column("bn", "BN", lambda w: _MARK[w.followed], aligned=False),
    _Column("start", "|W0|", _whole("start_norm", significant)),
    _Column("trained", "|W|", _whole("trained_norm", significant)),
    _Column("cosine", "cos", _whole("cosine", _plain)),
    _Column("k", "k", _whole("k", _plain)),
    _Column("gain", "nearer", _whole("gain_share", percent), aligned=False),
    _Column("ray", "to ray", _whole("ray_distance", significant)),
    _Column("row_min", "min", _row("minimum"), _ROWS),
    _Column("row_median", "median", _row("median"), _ROWS),
    _Column("row_max", "max", _row("maximum"), _ROWS),
    _Column("row_positive", "> 0", _positive, _ROWS, aligned=False),
    _Column("change", "|dL|/L", _scale("largest_change"), _TEST, aligned=False),
    _Column("residual", "identity", _scale("residual"), _TEST, aligned=False),
)
# Each is kept if it fits beside those before it.
_BY_IMPORTANCE = (
    "name",
    "bn",
    "k",
    "cosine",
    "gain",
    "change",
    "residual",
    "ray",
    "row_positive",
    "row_median",
    "row_min",
    "row_max",
    "trained",
    "start",
)


def weight_grid(report: InitReport, charset: Charset, width: int) -> list[str]:
    """Titles, a rule and a line a weight, in `width` columns.

    Args:
        report: the comparison.
        charset: what may be printed.
        width: of the page.
    """
    tested = any(isinstance(w.scale, ScaleTest) for w in report.weights)
    columns = [c for c in _COLUMNS if tested or c.group != _TEST]
    cells = {c.key: _cells(c, report, charset) for c in columns}
    widths = {c.key: max(map(cell_len, (charset.clean(c.title), *cells[c.key]))) for c in columns}
    longest = min(widths["name"], _NAME_MAX)
    widths["name"] = min(longest, _NAME_MIN)
    kept: set[str] = set()
    for key in _BY_IMPORTANCE:
        if key in widths and _total(widths, kept | {key}) <= width:
            kept.add(key)
    widths["name"] = min(longest, widths["name"] + width - _total(widths, kept))
    shown = [c for c in columns if c.key in kept]
    cells["name"] = charset.shorten_names(cells["name"], widths["name"])
    titles = _GAP.join(_pad(c.key, charset.clean(c.title), widths) for c in shown)
    rows = [
        _GAP.join(_pad(c.key, cells[c.key][i], widths) for c in shown)
        for i in range(len(report.weights))
    ]
    rule = charset.clean("─")
    return [_groups(shown, widths, rule), titles, rule * _total(widths, kept), *rows]


def _groups(shown: Sequence[_Column], widths: dict[str, int], rule: str) -> str:
    """The titles that several columns share."""
    spans: dict[str, int] = {}
    for column in shown:
        key = column.group or column.key
        spans[key] = spans.get(key, -len(_GAP)) + widths[column.key] + len(_GAP)
    pieces = []
    for key, size in spans.items():
        fits = key in {_ROWS, _TEST} and size >= len(key)
        text = f" {key} " if fits and size > len(key) + 3 else key
        pieces.append(text.center(size, rule if text != key else " ") if fits else " " * size)
    return _GAP.join(pieces)


def _cells(column: _Column, report: InitReport, charset: Charset) -> list[str]:
    if column.key == "name":
        return [charset.clean(name) for name in display_names(report)]
    strings = [charset.clean(column.read(weight)) for weight in report.weights]
    return align_decimal(strings) if column.aligned else strings


def _total(widths: dict[str, int], kept: set[str]) -> int:
    return sum(widths[key] for key in kept) + len(_GAP) * (len(kept) - 1)


def _pad(key: str, text: str, widths: dict[str, int]) -> str:
    return (pad_right if key == "name" else pad_left)(text, widths[key])
