"""The page of an inspection: a line a layer, what is left of decomposed ones, findings, a verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.columns import ALL
from bnaudit.render.text.audit import FACTS_SHOWN
from bnaudit.render.text.cells import LogAxis, axis_for
from bnaudit.render.text.layers import GAIN, SPREAD
from bnaudit.render.text.sheet import input_text
from bnaudit.render.text.table import LEFT, Column, Room, Row, Table
from bnaudit.render.text.verdict import verdict_line
from bnaudit.render.text.words import count, file_size, plural, significant, whole_percent
from bnaudit.summary.gain import StoredGain, gain_of, is_foldable
from bnaudit.summary.inspection import summarize_inspection
from bnaudit.summary.outcome import worst_by_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnaudit.records.inspection import (
        BatchNormStatics,
        DecomposedNorm,
        Inspection,
        InspectionReport,
    )
    from bnaudit.render.columns import View
    from bnaudit.render.text.cells import Box, Charset
    from bnaudit.render.text.sheet import Entry, Sheet
    from bnaudit.summary.inspection import InspectSummary

_LABELS = len("batchnorm") + 2
_DECOMPOSED_SHOWN = 20
_INPUTS_SHOWN = 8
_WIDE = 120

_KINDS = {
    "onnx": "ONNX",
    "torchscript": "TorchScript",
    "exported": "torch.export",
    "checkpoint": "PyTorch checkpoint",
    "safetensors": "safetensors",
    "numpy": "numpy arrays",
    "pickle": "pickled arrays",
    "keras": "Keras",
    "openvino": "OpenVINO IR",
}


def write_inspection(sheet: Sheet, report: InspectionReport, *, verbose: bool) -> None:
    """The whole page."""
    inspection = report.inspection
    sheet.entries(" inspect", _header(inspection, summarize_inspection(report)), _LABELS)
    if inspection.batchnorms:
        _layers(sheet, report)
    left = inspection.decomposed
    if left:
        rows = [Row(norm, norm.name) for norm in left[: sheet.most(_DECOMPOSED_SHOWN)]]
        sheet.table(Table(rows, _DECOMPOSED, sheet.charset, sheet.width))
        if len(left) > len(rows):
            sheet.wrapped(f"and {len(left) - len(rows)} more (all in the JSON)", "dim")
        sheet.paragraphs([_ABOUT_DECOMPOSED])
    if report.findings:
        sheet.findings(report.findings)
    sheet.aside(report, verbose=verbose)
    sheet.closing(*verdict_line(report))


def _header(inspection: Inspection, summary: InspectSummary) -> list[Entry]:
    facts = [_KINDS.get(inspection.kind, inspection.kind), inspection.producer]
    facts += [f"{key} {inspection.facts[key]}" for key in FACTS_SHOWN if key in inspection.facts]
    if inspection.parameters is not None:
        facts.append(f"{count(inspection.parameters)} parameters")
    if inspection.size is not None:
        facts.append(file_size(inspection.size))
    entries: list[Entry] = [
        ("model", f"{inspection.path} ({', '.join(fact for fact in facts if fact)})", "")
    ]
    if inspection.inputs:
        shown = [input_text(tensor) for tensor in inspection.inputs[:_INPUTS_SHOWN]]
        more = len(inspection.inputs) - len(shown)
        entries.append(("input", "; ".join(shown) + (f"; and {more} more" if more else ""), ""))
    entries.append(("batchnorm", _batchnorm(inspection, summary), ""))
    if inspection.other_norms:
        norms = ", ".join(f"{name} ({times})" for name, times in inspection.other_norms.items())
        entries.append(("others", f"{norms}: other normalisations, not audited", ""))
    return entries + [("note", note, "") for note in inspection.notes]


def _batchnorm(inspection: Inspection, summary: InspectSummary) -> str:
    if not summary.layers:
        layers = inspection.weight_layers
        return "none" if layers is None else f"none, {plural(layers, 'layer')} with weights"
    parts = [plural(summary.layers, "layer")]
    if summary.channels:
        parts.append(plural(summary.channels, "channel"))
    if summary.training:
        parts.append(f"{summary.training} in training mode")
    if summary.scale_absorbed:
        parts.append(f"{summary.scale_absorbed} with a Scale layer")
    if summary.fold_candidates is not None:
        parts.append(f"{summary.fold_candidates} that an exporter can fold")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class _Layer:
    """What the columns read."""

    layer: BatchNormStatics
    gain: StoredGain | Skipped
    axis: LogAxis | None

    @property
    def box(self) -> Box | None:
        gain = self.gain
        return None if isinstance(gain, Skipped) else (gain.minimum, gain.median, gain.maximum)


def layer_table(
    report: InspectionReport, charset: Charset, width: int, view: View = ALL
) -> Table[_Layer]:
    """Lays the table out for `width` columns."""
    layers, worst = report.inspection.batchnorms, worst_by_layer(report.findings)
    subjects = [_Layer(layer, gain_of(layer), None) for layer in layers]
    axis = axis_for([subject.box for subject in subjects if subject.box is not None])
    rows = []
    for subject in subjects:
        name, gain, faults = subject.layer.name, subject.gain, []
        if not isinstance(gain, Skipped) and gain.not_finite:
            of = f"{gain.not_finite} of {subject.layer.channels} channels"
            faults.append((GAIN, f"not finite in {of}"))
        rows.append(Row(replace(subject, axis=axis), name, worst.get(name), faults=tuple(faults)))
    return Table(rows, _COLUMNS, charset, width, view=view)


def _layers(sheet: Sheet, report: InspectionReport) -> None:
    """The table, what its gaps mean, and the legend."""
    table = layer_table(report, sheet.charset, sheet.width, sheet.view)
    sheet.table(table)
    sheet.notes(table.notes)
    head = "|γ|/σ: what the stored γ and running variance scale a channel's gradient with"
    sheet.paragraphs(table.legend({1: head}))


def _behind(layer: BatchNormStatics) -> str:
    return "a weight" if layer.of_weights else layer.preceded_by or "–"


def _feeder(layer: BatchNormStatics) -> str:
    feeder = layer.feeder
    if feeder is None or layer.of_weights:
        return _behind(layer)
    return f"{feeder.operator} {feeder.weight}"


def _folds(layer: BatchNormStatics) -> str:
    foldable = is_foldable(layer)
    return "–" if foldable is None else "yes" if foldable else "no"


def _known(name: str) -> Callable[[Sequence[_Layer], int], bool]:
    """Whether at least one layer stores this attribute."""
    return lambda rows, _: any(getattr(row.layer, name) is not None for row in rows)


_BEHIND: Column[_Layer] = Column(
    "behind",
    "layer",
    _behind,
    8,
    align=LEFT,
    room=Room(8, 40),
    when=lambda rows, width: width < _WIDE and _known("preceded_by")(rows, width),
)
_COLUMNS: tuple[Column[_Layer], ...] = (
    Column("layer", "layer.name", str, 1, align=LEFT, room=Room(20, 48)),
    Column("ch", "layer.channels", str, 3, key="channels"),
    Column("median", "gain.median", significant, 2, (1, 0, ": median"), group=GAIN, key="gain"),
    replace(SPREAD, rank=4, style=""),
    Column(
        "≤1", "gain.fraction_le_1", whole_percent, 5, (1, 2, ", share ≤1"), group=GAIN, key="le1"
    ),
    Column("eps", "layer.eps", "{:g}".format, 6, style="dim", when=_known("eps")),
    Column(
        "momentum",
        "layer.momentum",
        "{:g}".format,
        12,
        style="dim",
        from_width=_WIDE,
        when=_known("momentum"),
    ),
    Column(
        "batches", "layer.batches_tracked", str, 13, style="dim", when=_known("batches_tracked")
    ),
    Column(
        "dtype",
        "layer.dtype",
        lambda dtype: dtype or "–",
        11,
        align=LEFT,
        style="dim",
        when=lambda rows, _: bool({row.layer.dtype for row in rows} - {"float32", None}),
    ),
    Column(
        "flag",
        "layer.training",
        lambda training: "TRAIN" if training else "eval",
        9,
        align=LEFT,
        when=_known("training"),
    ),
    Column(
        "scale",
        "layer.scale_absorbed",
        lambda absorbed: "in γ, β" if absorbed else "",
        10,
        when=lambda rows, _: any(row.layer.scale_absorbed for row in rows),
    ),
    _BEHIND,
    replace(_BEHIND, write=_feeder, from_width=_WIDE, when=_known("preceded_by")),
    Column(
        "folds",
        "layer",
        _folds,
        7,
        (
            2,
            0,
            "folds: whether an exporter can fold it into the layer in front, which then loses it",
        ),
        align=LEFT,
        when=lambda rows, _: any(is_foldable(row.layer) is not None for row in rows),
    ),
)

_ABOUT_DECOMPOSED = (
    "a*x + b: a per-channel scale and shift behind a layer with weights, what is left of a frozen or "
    "decomposed BatchNorm: a = γ/σ, b = β − μγ/σ; γ and σ cannot be told apart in it"
)
_DECOMPOSED: tuple[Column[DecomposedNorm], ...] = (
    Column("a*x + b", "name", str, 1, align=LEFT, room=Room(20, 48)),
    Column("ch", "channels", str, 2),
    Column("behind", "after", str, 3, align=LEFT, room=Room(16, 40)),
    Column("origin", "origin", str, 4, align=LEFT, style="dim", room=Room(20, 60)),
)
