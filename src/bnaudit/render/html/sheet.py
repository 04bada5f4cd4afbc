"""The blocks of a page of text as HTML, in the order in which they are read on a screen."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from bnaudit.records.finding import Severity
from bnaudit.records.values import Skipped
from bnaudit.render.columns import ALL
from bnaudit.render.figures.figure import WIDTH
from bnaudit.render.text.sheet import Sheet, aside_lines
from bnaudit.render.text.table import LEFT, Withheld
from bnaudit.render.text.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.text import Text

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import InspectionReport
    from bnaudit.records.report import Report
    from bnaudit.records.run import Failure
    from bnaudit.render.columns import View
    from bnaudit.render.figures.figure import Figure
    from bnaudit.render.html.channels import Columns
    from bnaudit.render.text.sheet import Entry
    from bnaudit.render.text.table import Column, Notes, Row, Table

_WIDE = 10_000
"""Columns of text: there is room for all."""

_BOX = 24
"""Letters of a cell that is drawn."""

_TITLES = {"": "check"}


class HtmlSheet(Sheet):
    """Takes what `Sheet` takes.

    Attributes:
        title: of the document.
        channel_values: id of a row -> title -> a number a channel; empty where they are not wanted.
    """

    def __init__(
        self, view: View = ALL, *, place: str = "", links: Mapping[str, str] | None = None
    ) -> None:
        """A sheet of its own, or one of several on a page.

        Args:
            view: columns and rows of the main table.
            place: its id among several; headings are then below that of the page.
            links: name in the first column -> what it leads to.
        """
        super().__init__(_WIDE, unicode=True, view=view)
        self.title = "bnaudit"
        self.channel_values: dict[str, Columns] = {}
        self._links, self._place = links or {}, place
        self._anchors: dict[str, str] = {}
        self._subject = ""
        self._first: list[str] = []
        self._findings: list[tuple[str, Sequence[Finding]]] = []
        self._figures: list[str] = []
        self._body: list[str] = []
        self._entries: list[tuple[str, str, str]] = []
        self._heading: str | None = None

    # What a page of text writes.

    def most(self, rows: int) -> int | None:
        """See `Sheet.most`."""
        del rows
        return None

    def entries(self, title: str, entries: Iterable[Entry], label_width: int) -> None:
        """See `Sheet.entries`."""
        del label_width
        self._entries += entries
        command = _TITLES.get(title, title.strip())
        of = [text for _, text, _ in self._entries[:2]]
        whole = self._entries[0][0].startswith("model")
        self._subject = of[0] if whole else " → ".join(of)
        self.title = f"bnaudit {command}"

    def banner(self, sentence: str, style: str) -> None:
        """See `Sheet.banner`."""
        del style
        self._first.append(f'<p class="banner">{self._text(sentence)}</p>')

    def failure(self, failure: Failure) -> None:
        """See `Sheet.failure`."""
        hint = f" <span>{self._text(failure.hint)}</span>" if failure.hint else ""
        self._first.append(f'<p class="banner">{self._text(failure.message)}{hint}</p>')

    def ending(self, sentences: Sequence[str]) -> None:
        """See `Sheet.ending`."""
        self._first += [f"<p>{self._text(sentence)}</p>" for sentence in sentences]

    def closing(self, word: str, style: str, sentence: str, *, hanging: int = 0) -> None:
        """See `Sheet.closing`."""
        del hanging
        kind = next((k for k in ("green", "yellow", "red") if k in style), "plain")
        verdict = f'<strong class="word {kind}">{self._text(word)}</strong>'
        self._first.insert(0, f'<p class="verdict">{verdict} {self._text(sentence)}</p>')

    def findings(self, findings: Sequence[Finding]) -> None:
        """See `Sheet.findings`."""
        self._findings.append((self._heading or "Findings", findings))
        self._heading = None

    def aside(self, report: Report | InspectionReport, *, verbose: bool) -> None:
        """See `Sheet.aside`."""
        self.paragraphs(aside_lines(report, verbose=verbose))

    def heading(self, text: str) -> None:
        """See `Sheet.heading`; what follows may stand elsewhere, and takes it along."""
        self._heading = text

    def table(self, table: Table[Any], *, more: int = 0, title: str = "") -> None:
        """See `Sheet.table`."""
        title = self._heading or title or f"{table.columns[0].title}s"
        self._heading = None
        self._body.append(self._h(2, title))
        self._body.append(self._table(table, title))
        more = max(more, 0) + table.left
        if more > 0:
            self._body.append(f"<p>and {more} more (all in the JSON)</p>")

    def notes(self, notes: Notes) -> None:
        """See `Sheet.notes`."""
        self.paragraphs([text for text, _ in notes.lines()])

    def paragraphs(self, lines: Iterable[str], style: str = "dim") -> None:
        """See `Sheet.paragraphs`."""
        for line in lines:
            self.wrapped(line, style)

    def wrapped(self, text: str, style: str) -> None:
        """See `Sheet.wrapped`."""
        self._flush()
        of = ' class="dim"' if style == "dim" else ""
        self._body.append(f"<p{of}>{self._text(text)}</p>")

    def beside(self, head: Text, body: Text) -> None:
        """See `Sheet.beside`."""
        self._flush()
        said = f"<b>{self._text(head.plain.strip())}</b> {self._text(body.plain)}"
        self._body.append(f"<p>{said}</p>")

    def gap(self) -> None:
        """Paragraphs have theirs."""

    # What a page on a screen has besides.

    def figure(self, figure: Figure, svg: str) -> None:
        """A picture, and what it shows in words."""
        wide = ' class="wide"' if figure.width > WIDTH else ""
        drawing = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(figure.alt)}" ', 1)
        self._figures.append(
            f"<figure{wide}><figcaption>{self._h(3, figure.title)}"
            f'<p class="dim">{self._text(figure.alt)}</p></figcaption>'
            f'<div class="plot">{drawing}</div></figure>'
        )

    def versions(self, record: Any) -> None:
        """The libraries that computed the numbers, where the document knows them."""
        run = getattr(record, "run", None)
        found = getattr(record, "versions", None) or getattr(run, "versions", None)
        if found:
            told = ", ".join(f"{name} {version}" for name, version in found.items())
            self._entries.append(("versions", told, ""))

    def channels(self, values: dict[str, Columns]) -> None:
        """Numbers a channel, of layers that have a row."""
        anchors = self._anchors
        self.channel_values = {anchors[k]: columns for k, columns in values.items() if k in anchors}

    def html(self) -> str:
        """All blocks: verdict and findings first, how it was run last."""
        self._flush()
        parts = [
            f"<header>{self._h(1, self._subject if self._place else self.title)}",
            "</header>"
            if self._place
            else f'<p class="subject">{self._text(self._subject)}</p></header>',
            f'<section class="first">{"".join(self._first)}</section>',
        ]
        for title, findings in self._findings:
            parts.append(f"<section>{self._h(2, title)}")
            parts.append(
                f'<ul class="findings">{"".join(map(self._finding, findings))}</ul></section>'
            )
        if self._figures:
            parts.append(f"<section>{self._h(2, 'Pictures')}")
            parts.append(f'<div class="figures">{"".join(self._figures)}</div></section>')
        parts.append(f"<section>{''.join(self._body)}</section>")
        if self._entries:
            rows = (
                f"<dt>{self._text(k)}</dt><dd>{self._text(v)}</dd>" for k, v, _ in self._entries
            )
            parts.append(
                f"<section>{self._h(2, 'How it was made')}<dl>{''.join(rows)}</dl></section>"
            )
        whole = "\n".join(parts)
        return f'<article id="{self._place}">{whole}</article>' if self._place else whole

    def _flush(self) -> None:
        """A heading in front of what takes none along."""
        if self._heading is not None:
            self._body.append(self._h(2, self._heading))
            self._heading = None

    def _h(self, level: int, title: str) -> str:
        at = level + (1 if self._place else 0)
        shown = _capital(title) if level == 2 else title
        return f"<h{at}>{self._text(shown)}</h{at}>"

    def _text(self, text: str) -> str:
        return escape(self.charset.clean(text))

    def _finding(self, finding: Finding) -> str:
        label, status = finding.severity.label, f", {finding.status}" if finding.status else ""
        where = self._text(finding.layer or "model")
        if finding.layer in self._anchors:
            where = f'<a href="#{self._anchors[finding.layer]}">{where}</a>'
        sure = f" ({self._text(finding.confidence)})" if finding.confidence else ""
        return (
            f'<li><p><strong class="severity {label}">{label}{self._text(status)}</strong> '
            f"<b>{where}</b>: {self._text(finding.message)}{sure} "
            f'<span class="dim">{self._text(finding.rule)} {self._text(finding.name)}</span></p>'
            f"<p>Fix: {self._text(finding.fix)}</p></li>"
        )

    def _table(self, table: Table[Any], title: str) -> str:
        caption = f"{plural(len(table.rows), 'row')}"
        head = _groups(table.columns, self._text) + _titles(table, self._text)
        body = "".join(self._row(table.columns, row) for row in table.rows)
        return (
            f'<div class="table" tabindex="0" role="region" aria-label="{self._text(_capital(title))}">'
            f"<table><caption>{caption}</caption><thead>{head}</thead><tbody>{body}</tbody></table></div>"
        )

    def _row(self, columns: Sequence[Column[Any]], row: Row[Any]) -> str:
        anchor = self._anchors.get(row.label)
        ids = ""
        if anchor is None:
            anchor = f"{self._place}r{len(self._anchors)}"
            self._anchors[row.label] = anchor
            ids = f' id="{anchor}" data-label="{self._text(row.label)}"'
        cells = []
        for place, column in enumerate(columns):
            root = "" if column.align == LEFT else column.path.partition(".")[0]
            if row.refusal is not None and root in row.refusal.roots:
                mark = "✗" if row.refusal.failed else "–"
                span, why = len(columns) - place, self._text(row.refusal.reason)
                cells.append(f'<td class="none" colspan="{span}">{mark} {why}</td>')
                break
            cells.append(self._cell(column, row, first=place == 0))
        return f"<tr{ids}>{''.join(cells)}</tr>"

    def _cell(self, column: Column[Any], row: Row[Any], *, first: bool) -> str:
        if column.draw is not None:
            shown = self._text(column.draw(row.subject, _BOX))
            return f'<td class="box"><span aria-hidden="true">{shown}</span></td>'
        cell, _ = column.read(row.subject)
        text, value = self._text(column.text(cell)), column.value(row.subject)
        if first:
            severity = row.severity
            badge = ""
            if severity is not None and severity > Severity.INFO:
                badge = f' <span class="severity {severity.label}">{severity.label}</span>'
            link = self._links.get(row.label)
            name = f'<a href="{escape(link)}">{text}</a>' if link else text
            return f'<th scope="row">{name}{badge}</th>'
        if isinstance(cell, Skipped):
            failed = " failed" if isinstance(cell, Withheld) else ""
            side = "" if column.align == LEFT else " n"
            return f'<td class="none{failed}{side}" title="{self._text(cell.reason)}">{text}</td>'
        kind = "" if column.align == LEFT else ' class="n"'
        sort = f' data-v="{value:.6g}"' if isinstance(value, (int, float)) else ""
        return f"<td{kind}{sort}>{text}</td>"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _titles(table: Table[Any], clean: Any) -> str:
    cells = []
    for column in table.columns:
        title = clean(column.title or column.group)
        about = f' title="{clean(column.about)}"' if column.about else ""
        if column.scale is not None and table.rows:
            scale = clean(column.scale(table.rows[0].subject, _BOX))
            cells.append(f'<th scope="col" class="box" data-fixed{about}>{scale}</th>')
            continue
        kind = "" if column.align == LEFT else ' class="n"'
        cells.append(f'<th scope="col"{kind}{about}>{title}</th>')
    return f"<tr>{''.join(cells)}</tr>"


def _groups(columns: Sequence[Column[Any]], clean: Any) -> str:
    """A line of headers over neighbours of the same group."""
    spans: list[tuple[str, int]] = []
    for column in columns:
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    if not any(name for name, _ in spans):
        return ""
    cells = (
        f'<th scope="colgroup" colspan="{span}">{clean(name)}</th>'
        if name
        else f'<td colspan="{span}"></td>'
        for name, span in spans
    )
    return f'<tr class="groups">{"".join(cells)}</tr>'
