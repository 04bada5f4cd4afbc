"""The one table: columns that say everything about themselves, rows, and notes on what is missing.

Numbers are never cut: columns go instead, in order of rank, and names are shortened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rich.cells import cell_len
from rich.text import Text

from bnaudit.records.finding import Severity
from bnaudit.records.values import NOT_REQUESTED, Skipped, Spread
from bnaudit.render.columns import ALL
from bnaudit.render.text.cells import pad_left, pad_right
from bnaudit.render.text.words import align_decimal, listing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnaudit.render.columns import View
    from bnaudit.render.text.cells import Charset

T = TypeVar("T")

LEFT, RIGHT, POINT = "left", "right", "point"
"""How cells stand under each other: names from the left, numbers to the right or by decimal points."""

SEVERITY_STYLE = {
    Severity.ERROR: "bold red",
    Severity.WARNING: "yellow",
    Severity.INFO: "cyan",
}
FAILED = "bold red"

MARGIN = 2
"""Room for the letter that says which rows have findings."""

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")

_GAP = 2
_NARROWEST = 4
_ALWAYS = 2
_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Withheld(Skipped):
    """A number that was computed and is not trusted."""


Cell = str | Skipped


@dataclass(frozen=True, slots=True)
class Room:
    """Of a column that takes what room there is.

    Attributes:
        minimum: it is not dropped for want of more than this.
        maximum: it does not grow beyond this.
    """

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """One column, in one place: what it reads, what stands over and under it, and when it is there.

    Attributes:
        title: above the cells.
        path: the field of a row's subject, with dots ("gain.median"), "" for the subject itself; of a
            spread the median is meant. A `Skipped` anywhere on the way is why there is no cell.
        write: the cell of what the path leads to, or why there is none.
        rank: each is kept if it fits beside those of smaller rank; 1 and 2 always are.
        legend: line and place in the legend, and the words. Those that begin with a comma or semicolon
            go on where others of their line stand before them.
        group: above the titles, over all neighbours of the same group.
        align: `LEFT` (a name, which may be cut), `RIGHT` or `POINT`.
        style: of the cells.
        room: of a column that gives way and grows.
        draw: makes a cell of exactly the column's width, in place of `write`.
        scale: makes the title of exactly that width.
        from_width: the narrowest page that shows it.
        when: whether it is worth a place for these subjects on a page of this width.
        about: what is missing in words, where the title does not say; None for no note at all.
        absent: the cell where the path leads to None, or to what nobody asked for.
        key: what it is called by who asks for it; its title where that will do.
    """

    title: str
    path: str
    write: Callable[[Any], Cell] = str
    rank: int = _ALWAYS
    legend: tuple[int, int, str] | None = None
    group: str = ""
    align: str = POINT
    style: str = ""
    room: Room | None = None
    draw: Callable[[T, int], str] | None = None
    scale: Callable[[T, int], str] | None = None
    from_width: int = 0
    when: Callable[[Sequence[T], int], bool] | None = None
    about: str | None = ""
    absent: str = "–"
    key: str = ""

    @property
    def name(self) -> str:
        """See `key`."""
        return self.key or self.title

    def read(self, subject: T) -> tuple[Cell, bool]:
        """The cell, and whether all that the path begins with is missing."""
        found: Any = subject
        steps = self.path.split(".") if self.path else ()
        for place, step in enumerate(steps):
            found = getattr(found, step)
            if isinstance(found, Skipped):
                return found, place == 0 and len(steps) > 1
            if found is None:
                return self.absent, False
        return self.write(found.median if isinstance(found, Spread) else found), False

    def value(self, subject: T) -> float | str | None:
        """What rows are sorted by: the number or name that the path leads to, or else the cell's own."""
        found: Any = subject
        for step in self.path.split(".") if self.path else ():
            found = getattr(found, step, None)
        found = found.median if isinstance(found, Spread) else found
        if isinstance(found, (str, int, float)):
            return found
        cell, _ = self.read(subject)
        number = None if isinstance(cell, Skipped) else _NUMBER.search(cell.replace("−", "-"))
        return float(number[0]) if number else None

    def text(self, cell: Cell) -> str:
        """What is printed of it."""
        if isinstance(cell, Skipped):
            mark = self.absent if cell == NOT_REQUESTED else "–"
            return "✗" if isinstance(cell, Withheld) else mark
        return cell


@dataclass(frozen=True, slots=True)
class Refusal:
    """A sentence in place of numbers.

    Attributes:
        reason: one clause.
        failed: whether they were computed and are not trusted.
        roots: it begins at the first column, but for names, whose path begins with one of these.
    """

    reason: str
    failed: bool
    roots: frozenset[str]


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """One line.

    Attributes:
        subject: what the columns read.
        label: its name in notes.
        severity: of its worst finding; the letter stands in the margin.
        refusal: why it has no numbers.
        faults: (what, why) to be told in red below.
    """

    subject: T
    label: str
    severity: Severity | None = None
    refusal: Refusal | None = None
    faults: tuple[tuple[str, str], ...] = ()


class Notes:
    """Why numbers are missing: one sentence for each reason, however many rows share it."""

    def __init__(self, rows: int) -> None:
        """`rows` is how many there are; a reason that all of them share needs no names."""
        self.rows = rows
        self._labels: dict[tuple[bool, str, str], dict[str, None]] = {}

    def add(self, what: str, why: str, label: str, *, failed: bool = False) -> None:
        """`what` ("" for all numbers) is missing at `label` because of `why`."""
        self._labels.setdefault((failed, what, why), {})[label] = None

    def lines(self) -> list[tuple[str, str]]:
        """The sentences with their styles, in the order in which they came up."""
        lines = []
        for (failed, what, why), labels in self._labels.items():
            names = listing(list(labels), _NAMES_SHOWN)
            subject = f"{what} of {names}" if what else names
            if what and len(labels) == self.rows > 1:
                subject = what
            lines.append((f"{'✗' if failed else '–'} {subject}: {why}", FAILED if failed else ""))
        return lines


@dataclass(eq=False, slots=True)
class _Placed(Generic[T]):
    """A column with its cells and its place on the line."""

    column: Column[T]
    title: str
    group: str
    raw: list[tuple[Cell, bool]]
    cells: list[str]
    start: int = 0
    width: int = 0

    @property
    def end(self) -> int:
        return self.start + self.width

    @property
    def longest(self) -> int:
        return max((cell_len(cell) for cell in self.cells), default=0)


class Table(Generic[T]):
    """The finished lines; what they lack goes to the notes.

    Attributes:
        lines: header and rows.
        notes: why numbers are missing.
        columns: those that are shown, left to right.
        rows: those that are shown, from the first to the last.
        left: how many rows are not.
    """

    def __init__(
        self,
        rows: Sequence[Row[T]],
        columns: Sequence[Column[T]],
        charset: Charset,
        width: int,
        *,
        notes: Notes | None = None,
        margin: int = MARGIN,
        widen: bool = True,
        view: View = ALL,
    ) -> None:
        """Lays it out for `width` columns.

        Args:
            rows: at least one.
            columns: candidates, left to right.
            charset: what may be printed.
            width: of the page.
            notes: those that this table's go behind.
            margin: in front of the first column.
            widen: whether columns make room for the name of their group; it is left out otherwise.
            view: which columns are wanted, whatever fits, and which rows.
        """
        self.charset, self.width, self.margin, self.widen = charset, width, margin, widen
        self.notes = Notes(len(rows)) if notes is None else notes
        by_name = {column.name: column for column in columns}
        self.rows = view.arranged(rows, lambda row, name: by_name[name].value(row.subject))
        self.left = len(rows) - len(self.rows)
        self._subjects = [row.subject for row in self.rows]
        self._wanted = (columns[0].name, *view.columns) if view.columns else ()
        self._placed = self._kept(self._candidates(columns))
        for placed in self._placed:
            if placed.column.align == LEFT:
                placed.cells = charset.shorten_names(placed.cells, placed.width)
        self.columns = [placed.column for placed in self._placed]
        self.lines = self._header() + [
            self._line(place, row) for place, row in enumerate(self.rows)
        ]

    def legend(self, heads: Mapping[int, str] | None = None) -> list[str]:
        """What the columns that are shown mean.

        Args:
            heads: what lines begin with, where one of their columns is shown.
        """
        lines: dict[int, str] = {}
        for line, _, words in sorted({c.legend for c in self.columns if c.legend}):
            lines[line] = lines.get(line, (heads or {}).get(line, "")) + words
        return [text.lstrip(",; ") for text in lines.values()]

    def _candidates(self, columns: Sequence[Column[T]]) -> list[_Placed[T]]:
        """The columns that are worth a place, with their cells."""
        shown = [column for column in columns if self._fits(column)]
        if self._wanted:
            # Of two that bear one name the one for this width; one that was asked for, also without cells.
            empty = [column for column in columns if not column.draw]
            named = {column.name: column for column in [*empty, *shown]}
            shown = [named[name] for name in dict.fromkeys(self._wanted) if name in named]
        found, clean = [], self.charset.clean
        for column in shown:
            raw = [("", False) if column.draw else column.read(s) for s in self._subjects]
            cells = [clean(column.text(cell)) for cell, _ in raw]
            cells = align_decimal(cells) if column.align == POINT else cells
            found.append(_Placed(column, clean(column.title), clean(column.group), raw, cells))
        return found

    def _fits(self, column: Column[T]) -> bool:
        wide = column.from_width <= self.width
        return wide and (column.when is None or column.when(self._subjects, self.width))

    def _kept(self, candidates: list[_Placed[T]]) -> list[_Placed[T]]:
        """What fits, in order of rank; then what is left over is shared."""
        kept = [c for c in candidates if c.column.rank <= _ALWAYS or self._wanted]
        for extra in sorted(candidates, key=lambda c: c.column.rank):
            trial = [c for c in candidates if c in kept or c is extra]
            self._measure(trial)
            if self._spare(trial) >= 0:
                kept = trial
        self._measure(kept)
        for placed in kept:
            room = placed.column.room
            if room is not None:
                most = max(min(placed.longest, room.maximum), placed.width)
                most = room.maximum if placed.column.draw else most
                # Negative room shrinks: with every other column gone only names can still give way.
                placed.width = max(_NARROWEST, min(placed.width + self._spare(kept), most))
        self._position(kept)
        return kept

    def _measure(self, columns: Sequence[_Placed[T]]) -> None:
        for placed in columns:
            content, room = placed.longest, placed.column.room
            if room is not None:
                content = room.minimum if placed.column.draw else min(content, room.minimum)
            placed.width = max(content, cell_len(placed.title))
        self._position(columns)
        for name, first, last in _groups(columns) if self.widen else ():
            first.width += max(0, cell_len(name) - (last.end - first.start))

    def _position(self, columns: Sequence[_Placed[T]]) -> None:
        start = self.margin
        for placed in columns:
            placed.start = start
            start = placed.end + _GAP

    def _spare(self, columns: Sequence[_Placed[T]]) -> int:
        used = sum(placed.width for placed in columns) + _GAP * (len(columns) - 1)
        return self.width - self.margin - used

    def _header(self) -> list[Text]:
        """Group names over their columns, if there are any, then the titles, then a rule."""
        bar = self.charset.clean("─")
        groups, titles = Text(), Text()
        for name, first, last in _groups(self._placed):
            size = last.end - first.start
            text = f" {name} ".center(size, bar) if size > len(name) + 3 else name
            if self.widen or size >= len(name):
                _put(groups, first.start, text if self.widen else text.center(size), "dim")
        for placed in self._placed:
            scale = placed.column.scale
            title = scale(self._subjects[0], placed.width) if scale else placed.title
            _put(titles, placed.start, _padded(placed, title), "bold")
        rule = Text(bar * self._placed[-1].end, "dim")
        return [groups, titles, rule] if groups else [titles, rule]

    def _line(self, place: int, row: Row[T]) -> Text:
        """One row: numbers, or from some column on the reason why there are none."""
        line, severity, refusal = Text(), row.severity, row.refusal
        if severity is not None and severity > Severity.INFO:
            _put(line, 0, severity.label[0].upper(), SEVERITY_STYLE[severity])
        for placed in self._placed:
            column = placed.column
            root = "" if column.align == LEFT else column.path.partition(".")[0]
            if refusal is not None and root in refusal.roots:
                reason = self.charset.clean(f"{'✗' if refusal.failed else '–'} {refusal.reason}")
                shown = self.charset.shorten_end(reason, self.width - placed.start)
                _put(line, placed.start, shown, FAILED if refusal.failed else "yellow")
                if shown != reason:
                    self.notes.add("", refusal.reason, row.label, failed=refusal.failed)
                break
            (cell, whole), text = placed.raw[place], placed.cells[place]
            style = FAILED if isinstance(cell, Withheld) else column.style
            if severity is not None and column is self.columns[0]:
                style = SEVERITY_STYLE[severity]
            if column.draw is not None:
                text = self.charset.clean(column.draw(row.subject, placed.width))
            _put(line, placed.start, _padded(placed, text), style)
            if isinstance(cell, Skipped) and cell != NOT_REQUESTED and column.about is not None:
                what = (column.group if whole else column.about) or column.title
                self.notes.add(what, cell.reason, row.label, failed=isinstance(cell, Withheld))
        for what, why in row.faults:
            self.notes.add(what, why, row.label, failed=True)
        return line


def _groups(columns: Sequence[_Placed[T]]) -> list[tuple[str, _Placed[T], _Placed[T]]]:
    """Each group's printed name with the first and the last of its neighbours."""
    spans: list[tuple[str, _Placed[T], _Placed[T]]] = []
    for placed in columns:
        if spans and spans[-1][0] == placed.group:
            spans[-1] = (placed.group, spans[-1][1], placed)
        else:
            spans.append((placed.group, placed, placed))
    return [span for span in spans if span[0]]


def _padded(placed: _Placed[T], text: str) -> str:
    return (pad_right if placed.column.align == LEFT else pad_left)(text, placed.width)


def _put(line: Text, start: int, piece: str, style: str) -> None:
    """Appends `piece` so that it begins at column `start`."""
    line.append(" " * (start - line.cell_len))
    line.append(piece, style=style)
