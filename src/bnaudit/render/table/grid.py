"""The layer table: one line a layer, in execution order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnaudit.records.finding import Severity
from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.table.bars import axis_for, box
from bnaudit.render.table.columns import PLAN, columns_for
from bnaudit.render.table.layout import Placed, Titles, place
from bnaudit.render.table.lines import Line, header_lines
from bnaudit.render.table.notes import Notes
from bnaudit.render.table.numbers import align_decimal
from bnaudit.render.table.readers import Withheld, integrity_reason
from bnaudit.render.table.text import pad_left, pad_right
from bnaudit.summary.audit import gain_of, gain_statistics
from bnaudit.summary.residuals import first_order_residual, trusted_first_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.text import Text

    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report
    from bnaudit.render.table.bars import LogAxis
    from bnaudit.render.table.columns import Column
    from bnaudit.render.table.readers import Cell
    from bnaudit.render.table.text import Charset

SEVERITY_STYLE = {
    Severity.ERROR: "bold red",
    Severity.WARNING: "yellow",
    Severity.INFO: "cyan",
}
_STYLE = {"spread": "cyan", "measured": "bold", "m": "dim", "channels": "dim"}
# ± is read off `measured`, and drift is explained under the conspicuous channels: no sentences here.
_UNEXPLAINED = frozenset({"measured_iqr", "mean_drift", "variance_drift"})


@dataclass(slots=True)
class Grid:
    """The finished lines, and the reasons that did not fit into them.

    Attributes:
        notes: why numbers are missing.
        lines: header and rows.
        columns: keys of the columns that are shown.
    """

    notes: Notes
    lines: list[Text] = field(default_factory=list)
    columns: frozenset[str] = frozenset()


def layer_grid(report: Report, charset: Charset, width: int) -> Grid:
    """Lay the table out for `width` columns."""
    table = _Table(report, charset, width)
    grid = Grid(table.notes, columns=frozenset(table.columns))
    grid.lines += table.header()
    for row, layer in enumerate(report.layers):
        grid.lines.append(table.row(row, layer))
    if "rayleigh" not in table.raw:
        _explain_missing_curvature(report.layers, table.notes)
    return grid


class _Table:
    """Cells, places and styles of one table."""

    def __init__(self, report: Report, charset: Charset, width: int) -> None:
        self.charset = charset
        self.width = width
        self.notes = Notes(len(report.layers))
        self.statistics = gain_statistics(report)
        self.worst = _worst_findings(report)
        self.axis = self._axis(report.layers)
        columns = columns_for(report, width)
        if self.axis is None:
            columns = [column for column in columns if column.key != "spread"]
        self.raw = {
            column.key: [column.read(layer, self.statistics) for layer in report.layers]
            for column in columns
        }
        self.cells = {column.key: self._strings(column) for column in columns}
        self.titles = Titles(
            {column.key: charset.clean(column.title) for column in columns},
            {column.key: charset.clean(column.group) for column in columns},
        )
        keys = [column.key for column in columns]
        self.placed = place(keys, self.cells, self.titles, width, PLAN)
        shown = {item.key for item in self.placed}
        self.columns = {column.key: column for column in columns if column.key in shown}
        self.cells["layer"] = charset.shorten_names(self.cells["layer"], self.placed[0].width)

    def _axis(self, layers: Sequence[LayerReport]) -> LogAxis | None:
        gains = [gain_of(layer, self.statistics) for layer in layers]
        return axis_for([gain for gain in gains if not isinstance(gain, Skipped)])

    def _strings(self, column: Column) -> list[str]:
        strings = [self.charset.clean(_string(cell)) for cell in self.raw[column.key]]
        return align_decimal(strings) if column.aligned else strings

    def header(self) -> list[Text]:
        """Groups, titles, a rule."""
        return header_lines(self.placed, self.titles, self.charset, self._title)

    def _title(self, item: Placed) -> str:
        if item.key == "spread" and self.axis is not None:
            return self.axis.labels(item.width)
        pad = pad_right if item.key == "layer" else pad_left
        return pad(self.titles.title[item.key], item.width)

    def row(self, row: int, layer: LayerReport) -> Text:
        """One layer: numbers, or from some column on the reason why there are none."""
        line = Line()
        severity = self.worst.get(layer.label)
        if severity is not None and severity > Severity.INFO:
            line.put(0, severity.label[0].upper(), SEVERITY_STYLE[severity])
        reason, style = self._reason(layer)
        start = self._reason_start(layer) if reason else self.width
        for item in self.placed:
            if item.start >= start:
                break
            line.put(item.start, self._cell(item, row, layer), self._style(item, row, severity))
            self._note(item.key, row, layer)
        if reason:
            shown = self.charset.shorten_end(self.charset.clean(reason), self.width - start)
            line.put(start, shown, style)
            if shown != self.charset.clean(reason):
                self.notes.add("", reason[2:], layer.label, failed=layer.integrity_failed)
        return line.text

    def _cell(self, item: Placed, row: int, layer: LayerReport) -> str:
        cell = self.cells[item.key][row]
        if item.key == "layer":
            return pad_right(cell, item.width)
        if item.key == "spread":
            gain = gain_of(layer, self.statistics)
            if isinstance(gain, Skipped) or self.axis is None:
                return " " * item.width
            return self.charset.clean(box(gain, self.axis, item.width))
        return pad_left(cell, item.width)

    def _style(self, item: Placed, row: int, severity: Severity | None) -> str:
        if item.key == "layer" and severity is not None:
            return SEVERITY_STYLE[severity]
        if isinstance(self.raw[item.key][row], Withheld):
            return "bold red"
        return _STYLE.get(item.key, "")

    def _note(self, key: str, row: int, layer: LayerReport) -> None:
        cell = self.raw[key][row]
        if not isinstance(cell, Skipped) or cell == NOT_REQUESTED or key in _UNEXPLAINED:
            return
        about = self._whole(self.columns[key].needs, layer) or self.columns[key].about
        self.notes.add(about, cell.reason, layer.label, failed=isinstance(cell, Withheld))

    def _whole(self, needs: str, layer: LayerReport) -> str:
        """What is missing where a group as a whole is, so that it is said once."""
        if needs == "gain" and isinstance(gain_of(layer, self.statistics), Skipped):
            return "|γ|/σ"
        order = layer.second_order
        if needs == "second_order" and (isinstance(order, Skipped) or order.integrity_failed):
            return "curvature"
        return ""

    def _reason(self, layer: LayerReport) -> tuple[str, str]:
        order = layer.first_order
        if isinstance(order, Skipped):
            return f"– {order.reason}", "yellow"
        residual = first_order_residual(layer)
        if residual is None or not residual.failed:
            return "", ""
        return f"✗ {integrity_reason(residual)}", "bold red"

    def _reason_start(self, layer: LayerReport) -> int:
        """Also over |gamma|/sigma where that is missing for the same reason."""
        gain = gain_of(layer, self.statistics)
        needs = {"first_order", "gain"} if gain == layer.first_order else {"first_order"}
        return next(item.start for item in self.placed if self.columns[item.key].needs in needs)


def _string(cell: Cell) -> str:
    if not isinstance(cell, Skipped):
        return cell
    if isinstance(cell, Withheld):
        return "✗"
    return "" if cell == NOT_REQUESTED else "–"


def _explain_missing_curvature(layers: Sequence[LayerReport], notes: Notes) -> None:
    """Where no layer has any there are no columns whose gaps would tell."""
    for layer in layers:
        order = layer.second_order
        if not isinstance(order, Skipped) or order == NOT_REQUESTED:
            continue
        if trusted_first_order(layer) is not None:
            notes.add("curvature", order.reason, layer.label)


def _worst_findings(report: Report) -> Mapping[str, Severity]:
    worst: dict[str, Severity] = {}
    for finding in report.findings:
        if finding.layer is not None:
            worst[finding.layer] = max(finding.severity, worst.get(finding.layer, Severity.INFO))
    return worst
