"""GitHub-flavoured Markdown: a pull-request comment, or a step summary.

GitHub takes 65,536 characters a comment; rows that would not fit are counted instead.
"""

from __future__ import annotations

import re
from math import ceil, floor, log2
from typing import TYPE_CHECKING, Any

from bnaudit.escaping import printable
from bnaudit.judge.rule import RuleList
from bnaudit.records.inspection import InspectionReport
from bnaudit.records.report import Report
from bnaudit.records.several import Several
from bnaudit.records.values import Skipped
from bnaudit.render.columns import ALL
from bnaudit.render.outcome import outcome_of
from bnaudit.render.rules_markdown import rules_to_markdown
from bnaudit.render.text.ending import ending
from bnaudit.render.text.words import error_size, plural, significant
from bnaudit.summary.audit import gain_of, gain_statistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnaudit.records.finding import Finding
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.values import Metric
    from bnaudit.render.columns import View
    from bnaudit.render.outcome import Outcome
    from bnaudit.render.text.table import Column

LIMIT = 65_536
"""Characters of a comment on GitHub."""

_FINDINGS = 40_000
_DRAWN = 200  # layers
# Mermaid's own first colour is nearly white.
_COLOURS = (
    '%%{init: {"themeVariables": {"xyChart": {"plotColorPalette": "#d55e00, #0072b2, #009e73"}}}}%%'
)
_WIDE = 10_000  # columns of text: all that there are
_ROOM = 1_500  # for headings, and the lines that say what was left out


def document_to_markdown(
    record: Report | InspectionReport | Several | RuleList, *, view: View = ALL
) -> str:
    """The page of the rules; or of a report the verdict, the findings, and all else folded away.

    Args:
        record: the document.
        view: columns and rows of the layer table, which an inspection has where it is asked for.
    """
    if isinstance(record, RuleList):
        return rules_to_markdown(record)
    if isinstance(record, Several):
        return _models(record)
    outcome = outcome_of(record)
    told = [] if isinstance(record, InspectionReport) else ending(record)
    parts = [f"### bnaudit: {_code(outcome.path)}", f"**{_escaped(outcome.headline)}**"]
    if outcome.failure is not None:
        parts.append(_failure(outcome.failure.message, outcome.failure.hint))
    parts += [_escaped(sentence) for sentence in told]
    if outcome.findings:
        parts.append(_findings(outcome.findings))
    parts += [_folded(title, body) for title, body in _asides(outcome)]
    text = "\n\n".join(parts) + "\n"
    if not outcome.layers:
        return text
    text += _picture(record)
    room = LIMIT - len(text) - _ROOM
    if view != ALL:
        rows = _chosen(record, view, room)
    elif isinstance(record, InspectionReport):
        return text
    else:
        rows = _layer_rows(record, room)
    return f"{text}\n{_folded(plural(len(outcome.layers), 'layer'), rows)}\n"


def _picture(record: Report | InspectionReport) -> str:
    """|gamma|/sigma over the depth as a chart of Mermaid, which GitHub and GitLab draw.

    They strip SVG and data: addresses out of Markdown, and an image file beside it needs a place that the
    reader can reach. No name of the file is in it: an axis of such a chart knows no logarithm and no quoting.
    """
    from bnaudit.render.figures import figures_of

    drawn = next(iter(figures_of(record)), None)
    rows = () if drawn is None else drawn.rows
    if not 1 < len(rows) <= _DRAWN:
        return ""
    low, high = min(log2(row["low"]) for row in rows), max(log2(row["high"]) for row in rows)
    lines = [
        f"    line [{', '.join(f'{log2(row[end]):.2f}' for row in rows)}]"
        for end in ("high", "middle", "low")
    ]
    chart = (
        f"```mermaid\n{_COLOURS}\nxychart-beta\n"
        f'    x-axis "layer, in order" {rows[0]["n"]} --> {rows[-1]["n"]}\n'
        f'    y-axis "power of 2" {floor(low)} --> {ceil(high) if high > floor(low) else floor(low) + 1}\n'
        + "\n".join(lines)
        + "\n```"
    )
    title = "|γ|/σ by layer: largest, median and smallest channel, as powers of 2"
    return f"\n{_folded(title, chart)}\n"


def error_to_markdown(path: str, message: str, hint: str | None) -> str:
    """A section for a model of which there is no report."""
    return f"### bnaudit: {_code(path)}\n\n{_failure(message, hint)}\n"


def _failure(message: str, hint: str | None) -> str:
    remedy = f"\n\n{_escaped(hint)}" if hint else ""
    return f"The audit stopped: {_escaped(message)}{remedy}"


def _findings(findings: Sequence[Finding]) -> str:
    head = "| | rule | layer | finding | fix |\n|---|---|---|---|---|\n"
    rows = []
    for finding in findings:
        severity = finding.severity.label
        sure = f" *({_escaped(finding.confidence)})*" if finding.confidence else ""
        cells = (
            f"{severity} ({finding.status})" if finding.status else severity,
            f"{finding.rule} {finding.name}",
            _code(finding.layer) if finding.layer else "model",
            _escaped(finding.message) + sure,
            _escaped(finding.fix),
        )
        rows.append(f"| {' | '.join(cells)} |")
    kept, left = _fitting(rows, _FINDINGS)
    more = f"\n\n… and {plural(left, 'more finding')}." if left else ""
    return head + "\n".join(kept) + more


def _asides(outcome: Outcome) -> Iterator[tuple[str, str]]:
    if outcome.suppressed:
        lines = [
            f"- {s.finding.rule} {s.finding.name} at {_code(s.finding.layer or 'model')}: "
            f"{_escaped(s.by)}"
            for s in outcome.suppressed
        ]
        yield f"{plural(len(lines), 'finding')} suppressed", _listed(lines)
    if outcome.rules_not_run:
        lines = [f"- {r.rule} {r.name}: {_escaped(r.reason)}" for r in outcome.rules_not_run]
        yield f"{plural(len(lines), 'rule')} not run", _listed(lines)


def _listed(lines: Sequence[str]) -> str:
    kept, left = _fitting(lines, LIMIT // 10)
    return "\n".join(kept) + (f"\n- … and {left} more" if left else "")


def _layer_rows(report: Report, room: int) -> str:
    statistics = gain_statistics(report)
    head = (
        f"| layer | channels | median gamma/sigma ({statistics}) | predicted | measured | residual |"
        "\n|---|--:|--:|--:|--:|--:|\n"
    )
    rows = []
    for layer in report.layers:
        gain = gain_of(layer, statistics)
        middle = "–" if isinstance(gain, Skipped) else _number(gain.median)
        rows.append(
            f"| {_code(layer.label)} | {layer.channels} | {middle} | {_first_order(layer)} |"
        )
    kept, left = _fitting(rows, room)
    return head + "\n".join(kept) + (f"\n\n… and {plural(left, 'more layer')}." if left else "")


def _models(several: Several) -> str:
    """A line a model."""
    from bnaudit.render.text.several import COLUMNS, line_of, reason_of  # which loads rich

    lines = [line_of(entry) for entry in several.entries]
    columns = [column for column in COLUMNS if column.when is None or column.when(lines, _WIDE)]
    body = _grid(columns, lines, LIMIT - _ROOM)
    head = f"### bnaudit {several.command}: {plural(len(lines), 'model')}"
    failed = [
        f"- {_escaped(reason_of(entry.path, entry.failure))}"
        for entry in several.entries
        if entry.failure is not None
    ]
    return "\n\n".join([head, body, *(["\n".join(failed)] if failed else [])]) + "\n"


def _grid(columns: Sequence[Column[Any]], subjects: Sequence[Any], room: int, left: int = 0) -> str:
    """A table whose first column is names; and how many rows are left out, `left` and what has no room."""
    titles = (f"{column.group} {column.title}".strip() for column in columns)
    ends = ("---" if column.align == "left" else "--:" for column in columns)
    head = f"| {' | '.join(map(_escaped, titles))} |\n|{'|'.join(ends)}|\n"
    rows = []
    for subject in subjects:
        cells = [column.text(column.read(subject)[0]) for column in columns]
        rows.append(f"| {' | '.join([_code(cells[0]), *map(_escaped, cells[1:])])} |")
    kept, more = _fitting(rows, room)
    more += left
    return head + "\n".join(kept) + (f"\n\n… and {more} more." if more else "")


def _chosen(report: Report | InspectionReport, view: View, room: int) -> str:
    """The columns of the table of text that are asked for, or all of them."""
    from bnaudit.render.text import inspection, layers  # which load rich
    from bnaudit.render.text.cells import Charset

    make: Any = layers if isinstance(report, Report) else inspection
    table = make.layer_table(report, Charset(), _WIDE, view)
    columns = [column for column in table.columns if not column.draw]
    return _grid(columns, [row.subject for row in table.rows], room, table.left)


def _first_order(layer: LayerReport) -> str:
    order = layer.first_order
    if isinstance(order, Skipped):
        return "– | – | –"
    residual = "–" if isinstance(order.residual, Skipped) else error_size(order.residual)
    return f"{_number(order.predicted)} | {_number(order.measured)} | {residual}"


def _number(value: Metric) -> str:
    return "–" if isinstance(value, Skipped) else significant(value.median)


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _fitting(rows: Sequence[str], room: int) -> tuple[list[str], int]:
    """As many rows as fit, and how many do not."""
    kept: list[str] = []
    for row in rows:
        room -= len(row) + 1
        if room < 0:
            break
        kept.append(row)
    return kept, len(rows) - len(kept)


def _code(text: str) -> str:
    """A code span that no letter of the text can end; pipes end a cell even inside one."""
    clean = _plain(text).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", clean)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if clean.startswith("`") or clean.endswith("`") else ""
    return f"{fence}{pad}{clean}{pad}{fence}"


def _escaped(text: str) -> str:
    """Plain text: no markup, no HTML, and nobody is notified by an @."""
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", _plain(text))
    return escaped.replace("@", "@\u200b")


def _plain(text: str) -> str:
    return printable(" ".join(text.split()))
