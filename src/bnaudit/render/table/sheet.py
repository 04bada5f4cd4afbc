"""A page of text in the making: blocks under each other, wrapped to its width, printed through rich."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from bnaudit._version import __version__
from bnaudit.render.table.asides import aside_lines
from bnaudit.render.table.findings import finding_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import InspectionReport
    from bnaudit.records.report import Report
    from bnaudit.render.table.header import Entry
    from bnaudit.render.table.notes import Notes
    from bnaudit.render.table.text import Charset

HANGING = 2


class Sheet:
    """Lines so far; every method appends one block."""

    def __init__(self, width: int, charset: Charset) -> None:
        self.width = width
        self.charset = charset
        self.lines: list[Text] = []
        # Only measures and wraps; what is printed goes through `text`.
        self.ruler = Console(file=StringIO(), width=width, height=1000, force_jupyter=False)

    def entries(self, title: str, entries: Iterable[Entry], label_width: int) -> None:
        """The title, then one labelled entry a line."""
        self.lines += [Text(f"bnaudit {__version__}{title}", style="bold"), Text()]
        for label, text, style in entries:
            head = Text(label.ljust(label_width), style="dim")
            self.beside(head, Text(self.charset.clean(text), style=style))
        self.gap()

    def banner(self, sentence: str, style: str) -> None:
        """A sentence that nobody should miss."""
        self.beside(Text("!! ", style=style), Text(self.charset.clean(sentence), style=style))
        self.gap()

    def findings(self, findings: Sequence[Finding]) -> None:
        """Each finding beside its severity and rule."""
        for head, body in finding_blocks(findings, self.charset):
            self.beside(head, body)
        self.gap()

    def aside(self, report: Report | InspectionReport, *, verbose: bool) -> None:
        """What is silenced, known or could not be judged: counted, and listed if asked for."""
        lines = aside_lines(report, verbose=verbose)
        for line in lines:
            self.wrapped(line, "dim")
        if lines:
            self.gap()

    def closing(self, word: str, style: str, sentence: str) -> None:
        """The last line: a word that leads, and what it rests on."""
        text = Text().append(word, style=style).append(f": {self.charset.clean(sentence)}")
        self.lines += text.wrap(self.ruler, self.width, overflow="fold")

    def heading(self, text: str) -> None:
        """A title over a rule."""
        self.lines += [Text(text, style="bold"), Text(self.charset.clean("─") * len(text), "dim")]

    def notes(self, notes: Notes) -> None:
        """Why numbers are missing."""
        lines = notes.lines()
        for text, style in lines:
            self.wrapped(text, style)
        if lines:
            self.gap()

    def wrapped(self, text: str, style: str) -> None:
        """A paragraph whose further lines are indented."""
        words = Text(self.charset.clean(text), style=style)
        lines = words.wrap(self.ruler, self.width - HANGING, overflow="fold")
        self.lines += [
            Text(" " * (HANGING if row else 0)).append_text(line) for row, line in enumerate(lines)
        ]

    def beside(self, head: Text, body: Text) -> None:
        """`body` wrapped to the right of `head`."""
        indent = head.cell_len
        lines = list(body.wrap(self.ruler, self.width - indent, overflow="fold")) or [Text()]
        heads = [head] + [Text(" " * indent)] * (len(lines) - 1)
        # Not `head + line`: that would spread the style of the head over the whole line.
        self.lines += [
            Text().append_text(left).append_text(line)
            for left, line in zip(heads, lines, strict=True)
        ]

    def gap(self) -> None:
        """An empty line."""
        self.lines.append(Text())

    def text(self, *, color: bool) -> str:
        """One string; the settings that keep rich from asking the environment are all explicit.

        Height is set because rich falls back to 80 columns under TERM=dumb unless both are known,
        and force_jupyter because a notebook would otherwise show the text instead of returning it.
        """
        out = StringIO()
        console = Console(
            file=out,
            width=self.width,
            height=len(self.lines) + 1,
            force_terminal=color,
            force_jupyter=False,
            color_system="standard" if color else None,
            no_color=not color,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )
        for line in self.lines:
            line.rstrip()
            console.print(line, soft_wrap=True)
        return out.getvalue()
