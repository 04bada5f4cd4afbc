"""How wide each column becomes. Numbers are never cut: columns go instead, names are shortened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GAP = 2
MARGIN = 2
"""Room for the letter that says which rows have findings."""

_NARROWEST = 4


@dataclass(frozen=True, slots=True)
class Placed:
    """A column, by its key, with its place on the line."""

    key: str
    start: int
    width: int

    @property
    def end(self) -> int:
        """One past the column's last cell."""
        return self.start + self.width


@dataclass(frozen=True, slots=True)
class Titles:
    """Titles and group names as they will be printed, by column key."""

    title: Mapping[str, str]
    group: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Elastic:
    """A column that takes what room there is.

    Attributes:
        minimum: it is not dropped for want of more than this.
        maximum: it does not grow beyond this.
        drawn: whether its cells are drawn to the width, instead of being cut to it.
    """

    minimum: int
    maximum: int
    drawn: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How the columns of a table give way to each other.

    Attributes:
        importance: keys; each is kept if it fits beside those before it, the first two always.
        elastic: by key, in the order in which they share what is left over.
    """

    importance: Sequence[str]
    elastic: Mapping[str, Elastic]


def place(
    keys: Sequence[str],
    cells: Mapping[str, Sequence[str]],
    titles: Titles,
    width: int,
    plan: Plan,
) -> list[Placed]:
    """Keep what fits in order of importance, then share what is left over.

    Args:
        keys: candidates, left to right.
        cells: the strings of each column, already aligned.
        titles: how titles and groups are written.
        width: of the page.
        plan: what gives way to what.
    """
    chosen = set(plan.importance[:2])
    for key in plan.importance[2:]:
        candidates = [candidate for candidate in keys if candidate in chosen | {key}]
        if _spare(_natural(candidates, cells, titles, plan), width) >= 0:
            chosen.add(key)
    kept = [key for key in keys if key in chosen]
    widths = _natural(kept, cells, titles, plan)
    for key, elastic in plan.elastic.items():
        if key in widths:
            _grow(widths, key, _spare(widths, width), _limit(elastic, cells[key], widths[key]))
    return _positions(kept, widths)


def group_spans(placed: Sequence[Placed], titles: Titles) -> list[tuple[str, int, int]]:
    """Each group's printed name with the first and one past the last cell it covers."""
    spans: list[tuple[str, int, int]] = []
    for item in placed:
        name = titles.group[item.key]
        if spans and name and spans[-1][0] == name:
            spans[-1] = (name, spans[-1][1], item.end)
        else:
            spans.append((name, item.start, item.end))
    return [span for span in spans if span[0]]


def _natural(
    keys: Sequence[str], cells: Mapping[str, Sequence[str]], titles: Titles, plan: Plan
) -> dict[str, int]:
    widths = {}
    for key in keys:
        content = _longest(cells[key])
        elastic = plan.elastic.get(key)
        if elastic is not None:
            content = elastic.minimum if elastic.drawn else min(content, elastic.minimum)
        widths[key] = max(content, cell_len(titles.title[key]))
    for name, start, end in group_spans(_positions(keys, widths), titles):
        first = next(key for key in keys if titles.group[key] == name)
        widths[first] += max(0, cell_len(name) - (end - start))
    return widths


def _limit(elastic: Elastic, cells: Sequence[str], width: int) -> int:
    return elastic.maximum if elastic.drawn else max(min(_longest(cells), elastic.maximum), width)


def _longest(cells: Sequence[str]) -> int:
    return max((cell_len(cell) for cell in cells), default=0)


def _spare(widths: Mapping[str, int], width: int) -> int:
    return width - MARGIN - sum(widths.values()) - GAP * (len(widths) - 1)


def _grow(widths: dict[str, int], key: str, spare: int, limit: int) -> None:
    """Negative `spare` shrinks: with every other column gone only names can still give way."""
    widths[key] = max(_NARROWEST, min(widths[key] + spare, limit))


def _positions(keys: Sequence[str], widths: Mapping[str, int]) -> list[Placed]:
    placed: list[Placed] = []
    start = MARGIN
    for key in keys:
        placed.append(Placed(key, start, widths[key]))
        start += widths[key] + GAP
    return placed
