"""Rules as plain text: the list that `bnaudit rules` prints, and the pages of `bnaudit explain`."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.judge.rule import Entry, RuleList

_TITLES = ("id", "name", "severity", "needs")
_GAP = "  "
_NARROW = 90
"""Below it a summary stands under its rule instead of beside it."""

_PAGE = 96


def rules_to_text(catalogue: RuleList, width: int) -> str:
    """One rule a row: id, name, severity, what it needs, summary."""
    entries = catalogue.rules
    rows = [
        (entry.rule.id, entry.rule.name, entry.rule.severity.label, entry.rule.needs.value)
        for entry in entries
    ]
    widths = [max(len(row[k]) for row in (_TITLES, *rows)) for k in range(len(_TITLES))]
    start = sum(widths) + len(_GAP) * len(widths)
    lines = [_row(_TITLES, widths) + ("summary" if width >= _NARROW else "")]
    for entry, row in zip(entries, rows, strict=True):
        lines.append(_row(row, widths))
        if width >= _NARROW:
            indent = " " * start
            lines[-1] = fill(
                entry.rule.summary, width, initial_indent=lines[-1], subsequent_indent=indent
            )
        else:
            indent = " " * (widths[0] + len(_GAP))
            lines.append(
                fill(entry.rule.summary, width, initial_indent=indent, subsequent_indent=indent)
            )
    text = "\n".join(line.rstrip() for line in "\n".join(lines).splitlines())
    footer = (
        f"{len(entries)} rules. needs: file = what the file stores, run = an audit, data = an audit on real "
        "data. `bnaudit explain ID` says why, how to fix it, and where the thresholds come from."
    )
    return f"{text}\n\n{fill(footer, width)}\n"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(cell.ljust(size) + _GAP for cell, size in zip(cells, widths, strict=True))


def explanation(entry: Entry, width: int) -> str:
    """One rule in full, under headings."""
    rule, found, wide = entry.rule, entry.example, min(width, _PAGE)
    title = f"{rule.id} {rule.name}"
    blocks = [
        f"{title}\n{'=' * len(title)}",
        f"severity: {rule.severity.label}    needs: {NEEDS[rule.needs.value]}",
        _section("What it does", _indented(rule.summary, wide)),
        _section("Why it is bad", _indented(rule.why, wide)),
        _section("How to fix it", _indented(rule.fix, wide)),
    ]
    if rule.thresholds:
        lines = []
        for limit in rule.thresholds:
            compared = f"{limit.name} = {limit.value:g}: {limit.meaning}."
            lines.append(_indented(compared, wide, rest="    "))
            lines.append(_indented(f"origin: {limit.origin}", wide, "    ", "    "))
        blocks.append(_section("Thresholds", *lines))
    if found is not None:
        told = f"{found.severity.label} {found.rule} {found.layer or 'model'}: {found.message}"
        asides = [f"fix: {found.fix}"]
        asides += [f"how sure: {found.confidence}"] if found.confidence else []
        lines = [_indented(text, wide, "    ", "    ") for text in asides]
        blocks.append(_section("Example", _indented(told, wide, rest="    "), *lines))
    if rule.references:
        blocks.append(_section("References", *(f"  {url}" for url in rule.references)))
    return "\n\n".join(blocks) + "\n"


NEEDS = {
    "file": "what the file stores (check and inspect)",
    "run": "an audit (check)",
    "data": "an audit on real data (check --data)",
}
"""What a rule judges by, for a reader."""


def _section(title: str, *lines: str) -> str:
    return "\n".join([title, "-" * len(title), *lines])


def _indented(text: str, width: int, first: str = "  ", rest: str = "  ") -> str:
    return fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
