"""The lines that tables are made of: a header over a rule, and pieces at fixed columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from bnaudit.render.table.layout import group_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnaudit.render.table.layout import Placed, Titles
    from bnaudit.render.table.text import Charset


class Line:
    """Puts pieces at fixed columns of one line, from left to right."""

    def __init__(self) -> None:
        self.text = Text()

    def put(self, start: int, piece: str, style: str) -> None:
        """Append `piece` so that it begins at column `start`."""
        self.text.append(" " * (start - self.text.cell_len))
        self.text.append(piece, style=style)


def header_lines(
    placed: Sequence[Placed], titles: Titles, charset: Charset, title: Callable[[Placed], str]
) -> list[Text]:
    """Group names over their columns, if there are any, then the titles, then a rule."""
    bar = charset.clean("─")
    groups, names, rule = Line(), Line(), Line()
    for name, start, end in group_spans(placed, titles):
        filled = f" {name} ".center(end - start, bar) if end - start > len(name) + 3 else name
        groups.put(start, filled, "dim")
    for item in placed:
        names.put(item.start, title(item), "bold")
    rule.put(0, bar * placed[-1].end, "dim")
    return [line.text for line in (groups, names, rule) if line.text.plain]
