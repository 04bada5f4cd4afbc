"""The table of an inspection: a line a layer, columns by importance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.finding import Severity
from bnaudit.records.layer import Gain
from bnaudit.records.values import Skipped, Spread
from bnaudit.render.table.bars import LogAxis, axis_for, box
from bnaudit.render.table.grid import SEVERITY_STYLE
from bnaudit.render.table.layout import Elastic, Placed, Plan
from bnaudit.render.table.lines import Line
from bnaudit.render.table.notes import Notes
from bnaudit.render.table.numbers import significant, whole_percent
from bnaudit.render.table.small_table import Field, SmallTable
from bnaudit.summary.inspection import StoredGain, gain_of, is_foldable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.text import Text

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics, DecomposedNorm
    from bnaudit.render.table.readers import Cell
    from bnaudit.render.table.text import Charset

_GAIN = "|γ|/σ"
_WIDE = 120

_PLAN = Plan(
    importance=(
        "layer",
        "gain",
        "channels",
        "spread",
        "fraction_le_1",
        "eps",
        "fold",
        "behind",
        "mode",
        "scale",
        "dtype",
        "momentum",
        "tracked",
    ),
    elastic={
        "layer": Elastic(20, 48),
        "spread": Elastic(12, 24, drawn=True),
        "behind": Elastic(8, 40),
    },
)


class _Row:
    """A layer with what is computed of it once."""

    def __init__(self, layer: BatchNormStatics) -> None:
        self.layer = layer
        self.gain = gain_of(layer)


class LayerTable(SmallTable[_Row]):
    """The finished lines; `notes` say why cells are empty."""

    def __init__(
        self,
        layers: Sequence[BatchNormStatics],
        findings: Sequence[Finding],
        charset: Charset,
        width: int,
    ) -> None:
        rows = [_Row(layer) for layer in layers]
        gains = [_as_gain(row.gain) for row in rows if isinstance(row.gain, StoredGain)]
        self.axis: LogAxis | None = axis_for(gains)
        self.worst = _worst(findings)
        super().__init__(rows, _fields(rows, width, self.axis), _PLAN, charset, width)

    def lines(self) -> list[Text]:
        """Header and rows."""
        return self.header() + [self.row(place) for place in range(len(self.rows))]

    def notes(self) -> Notes:
        """Why there is no |gamma|/sigma, or not of all channels."""
        notes = Notes(len(self.rows))
        for row in self.rows:
            name = row.layer.name
            if isinstance(row.gain, Skipped):
                notes.add(_GAIN, row.gain.reason, name)
            elif row.gain.not_finite:
                of = f"{row.gain.not_finite} of {row.layer.channels} channels"
                notes.add(_GAIN, f"not finite in {of}", name, failed=True)
        return notes

    def row(self, row: int, reason: str = "") -> Text:
        """One layer, behind the letter of its worst finding."""
        del reason  # every line has numbers
        line = Line()
        severity = self.worst.get(self.rows[row].layer.name)
        if severity is not None and severity > Severity.INFO:
            line.put(0, severity.label[0].upper(), SEVERITY_STYLE[severity])
        for item in self.placed:
            style = self.fields[item.key].style
            if item.key == "layer" and severity is not None:
                style = SEVERITY_STYLE[severity]
            line.put(item.start, self._cell(item, row), style)
        return line.text

    def _title(self, item: Placed) -> str:
        if item.key == "spread" and self.axis is not None:
            return self.axis.labels(item.width)
        return super()._title(item)

    def _cell(self, item: Placed, row: int) -> str:
        gain = self.rows[row].gain
        if item.key != "spread":
            return super()._cell(item, row)
        if self.axis is None or isinstance(gain, Skipped):
            return " " * item.width
        return self.charset.clean(box(_as_gain(gain), self.axis, item.width))


def _as_gain(gain: StoredGain) -> Gain:
    values = (gain.minimum, gain.median, gain.maximum, gain.fraction_le_1)
    return Gain(*(Spread(value, value, value, 1) for value in values))


def _worst(findings: Sequence[Finding]) -> dict[str, Severity]:
    worst: dict[str, Severity] = {}
    for finding in findings:
        if finding.layer is not None:
            worst[finding.layer] = max(finding.severity, worst.get(finding.layer, Severity.INFO))
    return worst


def _of_gain(pick: Callable[[StoredGain], str]) -> Callable[[_Row], Cell]:
    return lambda row: row.gain if isinstance(row.gain, Skipped) else pick(row.gain)


def _fields(rows: Sequence[_Row], width: int, axis: LogAxis | None) -> list[Field[_Row]]:
    """The columns in which at least one layer has something to say."""
    layers = [row.layer for row in rows]
    fields: list[tuple[bool, Field[_Row]]] = [
        (True, Field("layer", "layer", lambda r: r.layer.name, name=True)),
        (True, Field("channels", "ch", lambda r: _known(r.layer.channels, str))),
        (True, Field("gain", "median", _of_gain(lambda g: significant(g.median)), _GAIN)),
        (axis is not None, Field("spread", "", lambda _: "", _GAIN)),
        (
            True,
            Field("fraction_le_1", "≤1", _of_gain(lambda g: whole_percent(g.fraction_le_1)), _GAIN),
        ),
        (
            any(layer.eps is not None for layer in layers),
            Field("eps", "eps", lambda r: _known(r.layer.eps, lambda v: f"{v:g}"), style="dim"),
        ),
        (
            any(layer.momentum is not None for layer in layers) and width >= _WIDE,
            Field("momentum", "momentum", lambda r: _known(r.layer.momentum, _plain), style="dim"),
        ),
        (
            any(layer.batches_tracked is not None for layer in layers),
            Field(
                "tracked", "batches", lambda r: _known(r.layer.batches_tracked, str), style="dim"
            ),
        ),
        (
            bool({layer.dtype for layer in layers} - {"float32", None}),
            Field("dtype", "dtype", lambda r: r.layer.dtype or "–", style="dim", name=True),
        ),
        (
            any(layer.training is not None for layer in layers),
            Field("mode", "flag", lambda r: _known(r.layer.training, _mode), name=True),
        ),
        (
            any(layer.scale_absorbed for layer in layers),
            Field("scale", "scale", lambda r: "in γ, β" if r.layer.scale_absorbed else ""),
        ),
        (
            any(layer.preceded_by is not None for layer in layers),
            Field("behind", "behind", _behind if width < _WIDE else _behind_at_length, name=True),
        ),
        (
            any(is_foldable(layer) is not None for layer in layers),
            Field("fold", "folds", lambda r: _known(is_foldable(r.layer), _yes), name=True),
        ),
    ]
    return [field for shown, field in fields if shown]


def _known(value: object, write: Callable[..., str]) -> str:
    return "–" if value is None else write(value)


def _plain(value: float) -> str:
    return f"{value:g}"


def _mode(training: bool) -> str:
    return "TRAIN" if training else "eval"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _behind(row: _Row) -> str:
    if row.layer.of_weights:
        return "a weight"
    return row.layer.preceded_by or "–"


def _behind_at_length(row: _Row) -> str:
    feeder = row.layer.feeder
    if feeder is None or row.layer.of_weights:
        return _behind(row)
    return f"{feeder.operator} {feeder.weight}"


_LEFT_PLAN = Plan(
    importance=("name", "channels", "after", "origin"),
    elastic={"name": Elastic(20, 48), "after": Elastic(16, 40), "origin": Elastic(20, 60)},
)


def decomposed_lines(norms: Sequence[DecomposedNorm], charset: Charset, width: int) -> list[Text]:
    """Header and one line for each per-channel a*x + b."""
    fields: list[Field[DecomposedNorm]] = [
        Field("name", "a*x + b", lambda norm: norm.name, name=True),
        Field("channels", "ch", lambda norm: str(norm.channels)),
        Field("after", "behind", lambda norm: norm.after, name=True),
        Field("origin", "origin", lambda norm: norm.origin, name=True, style="dim"),
    ]
    table = SmallTable(norms, fields, _LEFT_PLAN, charset, width)
    return table.header() + [table.row(row) for row in range(len(norms))]
