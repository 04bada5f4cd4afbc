"""A plain table under the layer table: text to the left, numbers to the right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.table.layout import Titles, place
from bnaudit.render.table.lines import Line, header_lines
from bnaudit.render.table.numbers import align_decimal
from bnaudit.render.table.text import pad_left, pad_right

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.text import Text

    from bnaudit.render.table.layout import Placed, Plan
    from bnaudit.render.table.notes import Notes
    from bnaudit.render.table.readers import Cell
    from bnaudit.render.table.text import Charset

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """One column of a small table.

    Attributes:
        key: its name in the plan.
        title: above the cells.
        read: the cell of a row, or why it has none.
        group: above the titles.
        name: whether it holds a name, which may be cut; numbers never are.
        style: of the cells.
    """

    key: str
    title: str
    read: Callable[[T], Cell]
    group: str = ""
    name: bool = False
    style: str = ""


class SmallTable(Generic[T]):
    """The finished lines; what a cell lacks goes to the notes."""

    def __init__(
        self,
        rows: Sequence[T],
        fields: Sequence[Field[T]],
        plan: Plan,
        charset: Charset,
        width: int,
    ) -> None:
        self.rows = rows
        self.width = width
        self.charset = charset
        self.fields = {field.key: field for field in fields}
        self.raw = {field.key: [field.read(row) for row in rows] for field in fields}
        cells = {field.key: self._strings(field) for field in fields}
        self.titles = Titles(
            {field.key: charset.clean(field.title) for field in fields},
            {field.key: charset.clean(field.group) for field in fields},
        )
        self.placed = place(list(self.fields), cells, self.titles, width, plan)
        self.cells = {
            item.key: charset.shorten_names(cells[item.key], item.width)
            if self.fields[item.key].name
            else cells[item.key]
            for item in self.placed
        }

    @property
    def columns(self) -> frozenset[str]:
        """Keys of the columns that are shown."""
        return frozenset(self.cells)

    def header(self) -> list[Text]:
        """Groups, titles, a rule."""
        return header_lines(self.placed, self.titles, self.charset, self._title)

    def row(self, row: int, reason: str = "") -> Text:
        """One row; a reason stands in place of its numbers, cut where it does not fit."""
        line = Line()
        for item in self.placed:
            if reason and not self.fields[item.key].name:
                room = self.width - item.start
                line.put(item.start, self.charset.shorten_end(reason, room), "bold red")
                break
            line.put(item.start, self._cell(item, row), self.fields[item.key].style)
        return line.text

    def explain(self, row: int, label: str, notes: Notes) -> None:
        """Why cells of this row are empty."""
        for key in self.cells:
            cell = self.raw[key][row]
            if isinstance(cell, Skipped) and cell != NOT_REQUESTED:
                notes.add(self.fields[key].title, cell.reason, label)

    def _strings(self, field: Field[T]) -> list[str]:
        strings = [
            self.charset.clean("–" if isinstance(cell, Skipped) else cell)
            for cell in self.raw[field.key]
        ]
        return strings if field.name else align_decimal(strings)

    def _title(self, item: Placed) -> str:
        pad = pad_right if self.fields[item.key].name else pad_left
        return pad(self.titles.title[item.key], item.width)

    def _cell(self, item: Placed, row: int) -> str:
        pad = pad_right if self.fields[item.key].name else pad_left
        return pad(self.cells[item.key][row], item.width)
