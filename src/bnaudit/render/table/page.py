"""Puts the blocks of the report under each other and prints them through rich."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from bnaudit._version import __version__
from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.summary import gain_statistics
from bnaudit.render.table.asides import aside_lines
from bnaudit.render.table.channels import channel_facts, channel_notes
from bnaudit.render.table.findings import finding_blocks
from bnaudit.render.table.grid import layer_grid
from bnaudit.render.table.header import header_entries
from bnaudit.render.table.legend import legend_lines, twin_legend, weight_legend
from bnaudit.render.table.text import Charset, pad_right, plural
from bnaudit.render.table.twins import affected_parameters, twin_lines
from bnaudit.render.table.verdict import depth_sentence, nothing_to_audit, verdict_line
from bnaudit.render.table.weights import weight_block

if TYPE_CHECKING:
    from bnaudit.records.report import Failure, Report
    from bnaudit.render.table.notes import Notes

_LABELS = len("batchnorm") + 2
_HANGING = 2


def render_page(report: Report, *, width: int, color: bool, unicode: bool, verbose: bool) -> str:
    """The whole report as text."""
    page = _Page(width, Charset(unicode))
    page.header(report)
    if report.layers:
        page.table(report)
        page.channels(report)
        page.weights(report)
        page.twins(report)
    elif report.failure is None:
        page.banner(nothing_to_audit(report), "bold yellow")
    if report.findings:
        page.findings(report)
    page.aside(report, verbose=verbose)
    if report.failure is not None:
        page.failure(report.failure)
    page.verdict(report)
    return _print(page.lines, width, color)


class _Page:
    """Lines so far; every method appends one block."""

    def __init__(self, width: int, charset: Charset) -> None:
        self.width = width
        self.charset = charset
        self.lines: list[Text] = []
        # Only measures and wraps; what is printed goes through `_print`.
        self.ruler = Console(file=StringIO(), width=width, height=1000, force_jupyter=False)

    def header(self, report: Report) -> None:
        """Title, then one labelled entry a line."""
        self.lines += [Text(f"bnaudit {__version__}", style="bold"), Text()]
        for label, text, style in header_entries(report):
            head = Text(label.ljust(_LABELS), style="dim")
            self._beside(head, Text(self.charset.clean(text), style=style))
        self._gap()

    def table(self, report: Report) -> None:
        """The grid, the reasons that did not fit into it, and the legend."""
        grid = layer_grid(report, self.charset, self.width)
        self.lines += grid.lines
        self._gap()
        self._notes(grid.notes)
        depth = depth_sentence(report)
        if depth:
            self._wrapped(depth, "")
            self._gap()
        for line in legend_lines(grid.columns, gain_statistics(report)):
            self._wrapped(line, "dim")
        self._gap()

    def channels(self, report: Report) -> None:
        """Layers with channels that stand out, and what was not looked at."""
        facts, more = channel_facts(report)
        if facts:
            self._heading("channels worth a look")
        names = [self.charset.clean(label) for label, _ in facts]
        indent = min(max((cell_len(name) for name in names), default=0), self.width // 4)
        names = self.charset.shorten_names(names, indent)
        for name, (_, text) in zip(names, facts, strict=True):
            head = Text(" " * _HANGING + pad_right(name, indent) + "  ")
            self._beside(head, Text(self.charset.clean(text)))
        if more:
            self._wrapped(f"and {plural(more, 'more layer')} (all in the JSON)", "dim")
        if facts:
            self._gap()
        self._notes(channel_notes(report))

    def weights(self, report: Report) -> None:
        """The weights in front of each layer."""
        block = weight_block(report.layers, self.charset, self.width)
        if block.lines:
            self.lines += block.lines
            self._gap()
        self._notes(block.notes)
        if block.lines:
            for line in weight_legend(block.columns):
                self._wrapped(line, "dim")
            self._gap()

    def twins(self, report: Report) -> None:
        """The model against its twins."""
        twins = report.twins
        if isinstance(twins, Skipped):
            if twins != NOT_REQUESTED:
                self._wrapped(f"– twins: {twins.reason}", "")
                self._gap()
            return
        if not twins:
            return
        self.lines += twin_lines(twins, self.charset, self.width)
        self._gap()
        for name, text in affected_parameters(twins):
            self._wrapped(f"{name}: {text}", "")
        self._wrapped(twin_legend(twins), "dim")
        self._gap()

    def banner(self, sentence: str, style: str) -> None:
        """A sentence that nobody should miss."""
        self._beside(Text("!! ", style=style), Text(self.charset.clean(sentence), style=style))
        self._gap()

    def findings(self, report: Report) -> None:
        """Each finding beside its severity and rule."""
        for head, body in finding_blocks(report.findings, self.charset):
            self._beside(head, body)
        self._gap()

    def aside(self, report: Report, *, verbose: bool) -> None:
        """What is silenced, known or could not be judged: counted, and listed if asked for."""
        lines = aside_lines(report, verbose=verbose)
        for line in lines:
            self._wrapped(line, "dim")
        if lines:
            self._gap()

    def failure(self, failure: Failure) -> None:
        """The line and hint that stderr shows as well."""
        message = Text(self.charset.clean(failure.message))
        self._beside(Text("error: ", style="bold red"), message)
        if failure.hint is not None:
            hint = Text(self.charset.clean(failure.hint))
            self._beside(Text("hint:  ", style="bold cyan"), hint)
        self._gap()

    def verdict(self, report: Report) -> None:
        """The last line."""
        word, style, sentence = verdict_line(report)
        text = Text().append(word, style=style).append(f": {self.charset.clean(sentence)}")
        self.lines += text.wrap(self.ruler, self.width, overflow="fold")

    def _heading(self, text: str) -> None:
        self.lines += [Text(text, style="bold"), Text(self.charset.clean("─") * len(text), "dim")]

    def _notes(self, notes: Notes) -> None:
        lines = notes.lines()
        for text, style in lines:
            self._wrapped(text, style)
        if lines:
            self._gap()

    def _wrapped(self, text: str, style: str) -> None:
        """A paragraph whose further lines are indented."""
        words = Text(self.charset.clean(text), style=style)
        lines = words.wrap(self.ruler, self.width - _HANGING, overflow="fold")
        self.lines += [
            Text(" " * (_HANGING if row else 0)).append_text(line) for row, line in enumerate(lines)
        ]

    def _beside(self, head: Text, body: Text) -> None:
        """`body` wrapped to the right of `head`."""
        indent = head.cell_len
        lines = list(body.wrap(self.ruler, self.width - indent, overflow="fold")) or [Text()]
        heads = [head] + [Text(" " * indent)] * (len(lines) - 1)
        # Not `head + line`: that would spread the style of the head over the whole line.
        self.lines += [
            Text().append_text(left).append_text(line)
            for left, line in zip(heads, lines, strict=True)
        ]

    def _gap(self) -> None:
        self.lines.append(Text())


def _print(lines: list[Text], width: int, color: bool) -> str:
    """One string; the settings that keep rich from asking the environment are all explicit.

    Height is set because rich falls back to 80 columns under TERM=dumb unless both are known,
    and force_jupyter because a notebook would otherwise show the text instead of returning it.
    """
    out = StringIO()
    console = Console(
        file=out,
        width=width,
        height=len(lines) + 1,
        force_terminal=color,
        force_jupyter=False,
        color_system="standard" if color else None,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True)
    return out.getvalue()
