"""The layer table: one line a layer, in execution order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.text import Text

from bnaudit.records.finding import Severity
from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.summary import gain_of, gain_statistics, residual_of
from bnaudit.render.table.bars import axis_for, box
from bnaudit.render.table.columns import columns_for
from bnaudit.render.table.layout import Placed, Titles, group_spans, place
from bnaudit.render.table.numbers import align_decimal, error_size
from bnaudit.render.table.text import listing, pad_left, pad_right

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report
    from bnaudit.render.table.bars import LogAxis
    from bnaudit.render.table.columns import Cell, Column
    from bnaudit.render.table.text import Charset

SEVERITY_STYLE = {
    Severity.ERROR: "bold red",
    Severity.WARNING: "yellow",
    Severity.INFO: "cyan",
}
_ALIGNED = frozenset({"gain", "leak", "predicted", "measured", "finite_difference", "residual"})
_STYLE = {"spread": "cyan", "measured": "bold", "m": "dim", "channels": "dim"}
# ± is read off `measured`; a gap in it needs no sentence of its own.
_UNEXPLAINED = frozenset({"measured_iqr"})


@dataclass(slots=True)
class Grid:
    """The finished lines, and the reasons that did not fit into them.

    Attributes:
        lines: header and rows.
        notes: (what, why) -> labels of the layers.
        columns: keys of the columns that are shown.
    """

    lines: list[Text] = field(default_factory=list)
    notes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    columns: frozenset[str] = frozenset()

    def note_lines(self) -> list[str]:
        """One sentence for each reason, however many layers share it."""
        return [
            f"– {what + ' of ' if what else ''}{listing(labels, 3)}: {why}"
            for (what, why), labels in self.notes.items()
        ]


def layer_grid(report: Report, charset: Charset, width: int) -> Grid:
    """Lay the table out for `width` columns."""
    table = _Table(report, charset, width)
    grid = Grid(columns=frozenset(item.column.key for item in table.placed))
    grid.lines += table.header()
    for row, layer in enumerate(report.layers):
        grid.lines.append(table.row(row, layer, grid.notes))
    return grid


class _Table:
    """Cells, places and styles of one table."""

    def __init__(self, report: Report, charset: Charset, width: int) -> None:
        self.charset = charset
        self.width = width
        self.statistics = gain_statistics(report)
        self.worst = _worst_findings(report)
        self.axis = self._axis(report.layers)
        columns = columns_for(report.layers, width)
        if self.axis is None:
            columns = [column for column in columns if column.key != "spread"]
        self.raw = {
            column.key: [column.read(layer, self.statistics) for layer in report.layers]
            for column in columns
        }
        self.cells = {key: self._strings(key, cells) for key, cells in self.raw.items()}
        self.titles = Titles(
            {column.key: charset.clean(column.title) for column in columns},
            {column.key: charset.clean(column.group) for column in columns},
        )
        self.placed = place(columns, self.cells, self.titles, width)
        self.cells["layer"] = charset.shorten_names(self.cells["layer"], self.placed[0].width)

    def _axis(self, layers: Sequence[LayerReport]) -> LogAxis | None:
        gains = [gain_of(layer, self.statistics) for layer in layers]
        return axis_for([gain for gain in gains if not isinstance(gain, Skipped)])

    def _strings(self, key: str, cells: Sequence[Cell]) -> list[str]:
        dash = self.charset.clean("–")
        strings = [
            ("" if cell == NOT_REQUESTED else dash)
            if isinstance(cell, Skipped)
            else self.charset.clean(cell)
            for cell in cells
        ]
        return align_decimal(strings) if key in _ALIGNED else strings

    def header(self) -> list[Text]:
        """Group names over their columns, then the titles, then a rule."""
        groups = _Line()
        for name, start, end in group_spans(self.placed, self.titles):
            bar = self.charset.clean("─")
            filled = f" {name} ".center(end - start, bar) if end - start > len(name) + 3 else name
            groups.put(start, filled, "dim")
        titles = _Line()
        for item in self.placed:
            titles.put(item.start, self._title(item), "bold")
        rule = _Line()
        rule.put(0, self.charset.clean("─") * self.placed[-1].end, "dim")
        return [groups.text, titles.text, rule.text]

    def _title(self, item: Placed) -> str:
        key = item.column.key
        if key == "spread" and self.axis is not None:
            return self.axis.labels(item.width)
        return (pad_right if key == "layer" else pad_left)(self.titles.title[key], item.width)

    def row(self, row: int, layer: LayerReport, notes: dict[tuple[str, str], list[str]]) -> Text:
        """One layer: numbers, or from some column on the reason why there are none."""
        line = _Line()
        severity = self.worst.get(layer.label)
        if severity is not None and severity > Severity.INFO:
            line.put(0, severity.label[0].upper(), SEVERITY_STYLE[severity])
        reason, style = self._reason(layer)
        start = self._reason_start(layer) if reason else self.width
        for item in self.placed:
            if item.start >= start:
                break
            line.put(item.start, self._cell(item, row, layer), self._style(item, severity))
            self._note(item.column, row, layer, notes)
        if reason:
            shown = self.charset.shorten_end(self.charset.clean(reason), self.width - start)
            line.put(start, shown, style)
            if shown != self.charset.clean(reason):
                notes.setdefault(("", reason[2:]), []).append(layer.label)
        return line.text

    def _cell(self, item: Placed, row: int, layer: LayerReport) -> str:
        key = item.column.key
        cell = self.cells[key][row]
        if key == "layer":
            return pad_right(cell, item.width)
        if key == "spread":
            gain = gain_of(layer, self.statistics)
            if isinstance(gain, Skipped) or self.axis is None:
                return " " * item.width
            return self.charset.clean(box(gain, self.axis, item.width))
        return pad_left(cell, item.width)

    def _style(self, item: Placed, severity: Severity | None) -> str:
        if item.column.key == "layer" and severity is not None:
            return SEVERITY_STYLE[severity]
        return _STYLE.get(item.column.key, "")

    def _note(
        self, column: Column, row: int, layer: LayerReport, notes: dict[tuple[str, str], list[str]]
    ) -> None:
        cell = self.raw[column.key][row]
        if not isinstance(cell, Skipped) or cell == NOT_REQUESTED or column.key in _UNEXPLAINED:
            return
        whole = column.needs == "gain" and isinstance(gain_of(layer, self.statistics), Skipped)
        labels = notes.setdefault(("|γ|/σ" if whole else column.about, cell.reason), [])
        if layer.label not in labels:
            labels.append(layer.label)

    def _reason(self, layer: LayerReport) -> tuple[str, str]:
        order = layer.first_order
        if isinstance(order, Skipped):
            return f"– {order.reason}", "yellow"
        residual = residual_of(layer)
        if residual is None or not layer.integrity_failed:
            return "", ""
        value, tolerance = error_size(residual.value), error_size(residual.tolerance)
        return f"✗ integrity: residual {value}, tolerance {tolerance}", "bold red"

    def _reason_start(self, layer: LayerReport) -> int:
        """Also over |gamma|/sigma where that is missing for the same reason."""
        gain = gain_of(layer, self.statistics)
        needs = {"first_order", "gain"} if gain == layer.first_order else {"first_order"}
        return next(item.start for item in self.placed if item.column.needs in needs)


class _Line:
    """Puts pieces at fixed columns of one line."""

    def __init__(self) -> None:
        self.text = Text()

    def put(self, start: int, piece: str, style: str) -> None:
        self.text.append(" " * (start - self.text.cell_len))
        self.text.append(piece, style=style)


def _worst_findings(report: Report) -> Mapping[str, Severity]:
    worst: dict[str, Severity] = {}
    for finding in report.findings:
        if finding.layer is not None:
            worst[finding.layer] = max(finding.severity, worst.get(finding.layer, Severity.INFO))
    return worst
