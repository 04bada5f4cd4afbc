"""A page of text in the making: blocks under each other, wrapped to its width, printed through rich."""

from __future__ import annotations

from collections import Counter
from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from bnaudit._version import __version__
from bnaudit.records.finding import NEEDS_RUN, NOT_SELECTED
from bnaudit.records.inspection import InspectionReport
from bnaudit.records.values import NOT_REQUESTED
from bnaudit.render.columns import ALL
from bnaudit.render.text.cells import Charset
from bnaudit.render.text.table import SEVERITY_STYLE
from bnaudit.render.text.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnaudit.records.finding import Finding
    from bnaudit.records.model import TensorInfo
    from bnaudit.records.report import Report
    from bnaudit.records.run import Failure
    from bnaudit.render.columns import View
    from bnaudit.render.text.table import Notes, Table

HANGING = 2
MIN_WIDTH = 60

Entry = tuple[str, str, str]
"""Label, text, style."""

_FINDING_INDENT = len("warning BN000 ")

_EXPECTED = frozenset({NOT_SELECTED, NEEDS_RUN, NOT_REQUESTED.reason})
"""Reasons that follow from the command as it was typed: no news, unless -v asks for all of them."""


class Sheet:
    """Lines so far; every method appends one block."""

    def __init__(self, width: int, *, unicode: bool, view: View = ALL) -> None:
        self.width = max(width, MIN_WIDTH)
        self.charset = Charset(unicode)
        self.view = view
        self.lines: list[Text] = []
        # Only measures and wraps; what is printed goes through `text`.
        self.ruler = Console(file=StringIO(), width=self.width, height=1000, force_jupyter=False)

    def entries(self, title: str, entries: Iterable[Entry], label_width: int) -> None:
        """The title, then one labelled entry a line."""
        self.lines += [Text(f"bnaudit {__version__}{title}", style="bold"), Text()]
        for label, text, style in entries:
            head = Text(label.ljust(label_width), style="dim")
            self.beside(head, Text(self.charset.clean(text), style=style))
        self.gap()

    def most(self, rows: int) -> int | None:
        """How many rows of a long list are shown; None for all, where the page has room."""
        return rows

    def failure(self, failure: Failure) -> None:
        """Why there is no more, as stderr has it."""
        clean = self.charset.clean
        self.beside(Text("error: ", style="bold red"), Text(clean(failure.message)))
        if failure.hint is not None:
            self.beside(Text("hint:  ", style="bold cyan"), Text(clean(failure.hint)))
        self.gap()

    def ending(self, sentences: Sequence[str]) -> None:
        """What a person wants to know first."""
        self.paragraphs(sentences, "")

    def banner(self, sentence: str, style: str) -> None:
        """A sentence that nobody should miss."""
        self.beside(Text("!! ", style=style), Text(self.charset.clean(sentence), style=style))
        self.gap()

    def table(self, table: Table[Any], *, more: int = 0, title: str = "") -> None:
        """A table, and how many rows it leaves to the JSON.

        Args:
            table: it.
            more: rows.
            title: for pages with titles, where that of the first column would not do.
        """
        del title
        self.lines += table.lines
        more = max(more, 0) + table.left
        if more > 0:
            self.wrapped(f"and {more} more (all in the JSON)", "dim")
        self.gap()

    def findings(self, findings: Sequence[Finding]) -> None:
        """Each finding beside its severity and rule, known ones last.

        A run of findings with one remedy names the remedy once, under the last of them.
        """
        clean = self.charset.clean
        findings = sorted(findings, key=lambda finding: finding.status == "known")
        for finding, following in zip(findings, (*findings[1:], None), strict=True):
            known = finding.status == "known"
            style = "dim" if known else SEVERITY_STYLE[finding.severity]
            body = Text().append(clean(finding.layer or "model"), style="bold")
            body.append(f": {clean(finding.message)} ")
            status = f", {finding.status}" if finding.status else ""
            body.append(f"[{clean(finding.name)}{status}]", style="dim")
            if known:
                body.stylize("dim")
            self.beside(Text(f"{finding.severity.label:<7} {clean(finding.rule)} ", style), body)
            if following is None or following.fix != finding.fix:
                fix = Text(" " * _FINDING_INDENT).append("fix: ", style="green")
                self.beside(fix, Text(clean(finding.fix)))
        self.gap()

    def aside(self, report: Report | InspectionReport, *, verbose: bool) -> None:
        """What is silenced, known or could not be judged: counted, and listed if asked for."""
        self.paragraphs(aside_lines(report, verbose=verbose))

    def closing(self, word: str, style: str, sentence: str, *, hanging: int = 0) -> None:
        """The last line: a word that leads, and what it rests on."""
        text = Text().append(word, style=style).append(f": {self.charset.clean(sentence)}")
        self._hang(text, hanging)

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

    def paragraphs(self, lines: Iterable[str], style: str = "dim") -> None:
        """Each wrapped, with a gap behind the last."""
        lines = list(lines)
        for line in lines:
            self.wrapped(line, style)
        if lines:
            self.gap()

    def wrapped(self, text: str, style: str) -> None:
        """A paragraph whose further lines are indented."""
        self._hang(Text(self.charset.clean(text), style=style), HANGING)

    def _hang(self, text: Text, hanging: int) -> None:
        lines = text.wrap(self.ruler, self.width - hanging, overflow="fold")
        self.lines += [
            Text(" " * (hanging if row else 0)).append_text(line) for row, line in enumerate(lines)
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


def aside_lines(report: Report | InspectionReport, *, verbose: bool) -> list[str]:
    """One line each for the baseline, suppressed findings and rules that did not run.

    Args:
        report: an audit or an inspection.
        verbose: list them one by one below.
    """
    lines: list[str] = []
    if report.baseline is not None:
        held = report.baseline
        counts = f"{held.new} new, {held.worse} worse, {held.known} known, {held.gone} gone"
        lines += [f"against {held.path}: {counts}", *(f"note: {note}" for note in held.notes)]
    if report.suppressed:
        # Like `3 findings suppressed: BN009 2 times (ignore: BN009), BN102 (layers 'head.*': BN1)`.
        groups = Counter((entry.finding.rule, entry.by) for entry in report.suppressed)
        by_rule = [
            f"{rule} {f'{times} times ' if times > 1 else ''}({by})"
            for (rule, by), times in groups.items()
        ]
        count = plural(len(report.suppressed), "finding")
        lines.append(f"{count} suppressed: {', '.join(by_rule)}")
        lines += (f"  {told(e.finding)}" for e in report.suppressed) if verbose else ()
    withheld = [entry for entry in report.rules_not_run if entry.reason not in _EXPECTED]
    layers = report.inspection.batchnorms if isinstance(report, InspectionReport) else report.layers
    # Without layers no rule but BN001 has anything to judge: that is said already.
    if withheld and layers:
        rules = ", ".join(entry.rule for entry in withheld)
        why = "" if verbose else " (-v says why)"
        lines.append(f"{plural(len(withheld), 'rule')} not run: {rules}{why}")
    if verbose:
        by_reason: dict[str, list[str]] = {}
        for entry in report.rules_not_run:
            by_reason.setdefault(entry.reason, []).append(f"{entry.rule} {entry.name}")
        lines += (f"  {', '.join(rules)}: {reason}" for reason, rules in by_reason.items())
    return lines


def told(finding: Finding) -> str:
    """A finding in one line."""
    where = finding.layer or "model"
    return f"{finding.severity.label} {finding.rule} {where}: {finding.message}"


def input_text(tensor: TensorInfo) -> str:
    """An input of a model: name, type and shape as far as they are known."""
    shape = "of unknown shape"
    if tensor.shape is not None:
        shape = f"[{', '.join('?' if size is None else str(size) for size in tensor.shape)}]"
    return " ".join(part for part in (tensor.name, tensor.dtype, shape) if part)
