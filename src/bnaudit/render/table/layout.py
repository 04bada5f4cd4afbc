"""How wide each column becomes. Numbers are never cut: columns go instead, names are shortened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

from bnaudit.render.table.columns import BY_IMPORTANCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnaudit.render.table.columns import Column

GAP = 2
MARGIN = 2
"""Room for the letter that says which rows have findings."""

_NAME_MIN, _NAME_MAX = 20, 48
_BOX_MIN, _BOX_MAX = 12, 24


@dataclass(frozen=True, slots=True)
class Placed:
    """A column with its place on the line."""

    column: Column
    start: int
    width: int

    @property
    def end(self) -> int:
        """One past the column's last cell."""
        return self.start + self.width


def place(
    columns: Sequence[Column], cells: Mapping[str, Sequence[str]], titles: Titles, width: int
) -> list[Placed]:
    """Keep what fits in order of importance, then share what is left over.

    Args:
        columns: candidates, left to right.
        cells: the strings of each column, already aligned.
        titles: how titles and groups are written.
        width: of the page.
    """
    keys = set(BY_IMPORTANCE[:2])
    for key in BY_IMPORTANCE[2:]:
        candidates = [column for column in columns if column.key in keys | {key}]
        if _spare(_natural(candidates, cells, titles), width) >= 0:
            keys.add(key)
    kept = [column for column in columns if column.key in keys]
    widths = _natural(kept, cells, titles)
    longest = max((cell_len(cell) for cell in cells["layer"]), default=0)
    _grow(widths, "layer", _spare(widths, width), max(min(longest, _NAME_MAX), widths["layer"]))
    _grow(widths, "spread", _spare(widths, width), _BOX_MAX)
    return _positions(kept, widths)


@dataclass(frozen=True, slots=True)
class Titles:
    """Titles and group names as they will be printed, by column key."""

    title: Mapping[str, str]
    group: Mapping[str, str]


def group_spans(placed: Sequence[Placed], titles: Titles) -> list[tuple[str, int, int]]:
    """Each group's printed name with the first and one past the last cell it covers."""
    spans: list[tuple[str, int, int]] = []
    for item in placed:
        name = titles.group[item.column.key]
        if spans and name and spans[-1][0] == name:
            spans[-1] = (name, spans[-1][1], item.end)
        else:
            spans.append((name, item.start, item.end))
    return [span for span in spans if span[0]]


def _natural(
    columns: Sequence[Column], cells: Mapping[str, Sequence[str]], titles: Titles
) -> dict[str, int]:
    widths = {}
    for column in columns:
        content = max((cell_len(cell) for cell in cells[column.key]), default=0)
        if column.key == "layer":
            content = min(content, _NAME_MIN)
        if column.key == "spread":
            content = _BOX_MIN
        widths[column.key] = max(content, cell_len(titles.title[column.key]))
    for name, start, end in group_spans(_positions(columns, widths), titles):
        first = next(c.key for c in columns if titles.group[c.key] == name)
        widths[first] += max(0, cell_len(name) - (end - start))
    return widths


def _spare(widths: Mapping[str, int], width: int) -> int:
    return width - MARGIN - sum(widths.values()) - GAP * (len(widths) - 1)


def _grow(widths: dict[str, int], key: str, spare: int, limit: int) -> None:
    """Negative `spare` shrinks: with every other column gone only the name can still give way."""
    if key in widths:
        widths[key] = max(4, min(widths[key] + spare, limit))


def _positions(columns: Sequence[Column], widths: Mapping[str, int]) -> list[Placed]:
    placed: list[Placed] = []
    start = MARGIN
    for column in columns:
        placed.append(Placed(column, start, widths[column.key]))
        start += widths[column.key] + GAP
    return placed
