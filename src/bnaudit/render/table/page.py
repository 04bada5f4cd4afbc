"""Puts the blocks of the report under each other and prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.table.channels import channel_facts, channel_notes
from bnaudit.render.table.grid import layer_grid
from bnaudit.render.table.header import header_entries
from bnaudit.render.table.legend import legend_lines, twin_legend, weight_legend
from bnaudit.render.table.sheet import HANGING, Sheet
from bnaudit.render.table.text import Charset, pad_right, plural
from bnaudit.render.table.twins import affected_parameters, twin_lines
from bnaudit.render.table.verdict import depth_sentence, nothing_to_audit, verdict_line
from bnaudit.render.table.weights import weight_block
from bnaudit.summary.audit import gain_statistics

if TYPE_CHECKING:
    from bnaudit.records.report import Report
    from bnaudit.records.run import Failure

_LABELS = len("batchnorm") + 2


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
        page.findings(report.findings)
    page.aside(report, verbose=verbose)
    if report.failure is not None:
        page.failure(report.failure)
    page.verdict(report)
    return page.text(color=color)


class _Page(Sheet):
    """Lines so far; every method appends one block."""

    def header(self, report: Report) -> None:
        """Title, then one labelled entry a line."""
        self.entries("", header_entries(report), _LABELS)

    def table(self, report: Report) -> None:
        """The grid, the reasons that did not fit into it, and the legend."""
        grid = layer_grid(report, self.charset, self.width)
        self.lines += grid.lines
        self.gap()
        self.notes(grid.notes)
        depth = depth_sentence(report)
        if depth:
            self.wrapped(depth, "")
            self.gap()
        for line in legend_lines(grid.columns, gain_statistics(report)):
            self.wrapped(line, "dim")
        self.gap()

    def channels(self, report: Report) -> None:
        """Layers with channels that stand out, and what was not looked at."""
        facts, more = channel_facts(report)
        if facts:
            self.heading("channels worth a look")
        names = [self.charset.clean(label) for label, _ in facts]
        indent = min(max((cell_len(name) for name in names), default=0), self.width // 4)
        names = self.charset.shorten_names(names, indent)
        for name, (_, text) in zip(names, facts, strict=True):
            head = Text(" " * HANGING + pad_right(name, indent) + "  ")
            self.beside(head, Text(self.charset.clean(text)))
        if more:
            self.wrapped(f"and {plural(more, 'more layer')} (all in the JSON)", "dim")
        if facts:
            self.gap()
        self.notes(channel_notes(report))

    def weights(self, report: Report) -> None:
        """The weights in front of each layer."""
        block = weight_block(report.layers, self.charset, self.width)
        if block.lines:
            self.lines += block.lines
            self.gap()
        self.notes(block.notes)
        if block.lines:
            for line in weight_legend(block.columns):
                self.wrapped(line, "dim")
            self.gap()

    def twins(self, report: Report) -> None:
        """The model against its twins."""
        twins = report.twins
        if isinstance(twins, Skipped):
            if twins != NOT_REQUESTED:
                self.wrapped(f"– twins: {twins.reason}", "")
                self.gap()
            return
        if not twins:
            return
        self.lines += twin_lines(twins, self.charset, self.width)
        self.gap()
        for name, text in affected_parameters(twins):
            self.wrapped(f"{name}: {text}", "")
        self.wrapped(twin_legend(twins), "dim")
        self.gap()

    def failure(self, failure: Failure) -> None:
        """The line and hint that stderr shows as well."""
        message = Text(self.charset.clean(failure.message))
        self.beside(Text("error: ", style="bold red"), message)
        if failure.hint is not None:
            hint = Text(self.charset.clean(failure.hint))
            self.beside(Text("hint:  ", style="bold cyan"), hint)
        self.gap()

    def verdict(self, report: Report) -> None:
        """The last line."""
        self.closing(*verdict_line(report))
