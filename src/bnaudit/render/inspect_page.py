"""Puts the blocks of an inspection under each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.render.inspect_grid import LayerTable, decomposed_lines
from bnaudit.render.inspect_verdict import inspection_verdict
from bnaudit.render.table.numbers import count, significant
from bnaudit.render.table.sheet import Sheet
from bnaudit.render.table.text import Charset, plural
from bnaudit.summary.inspection import InspectSummary, summarize_inspection

if TYPE_CHECKING:
    from bnaudit.records.inspection import Inspection, InspectionReport
    from bnaudit.records.report import TensorInfo
    from bnaudit.render.table.header import Entry

_LABELS = len("batchnorm") + 2
_FACTS_SHOWN = ("opset",)  # the JSON has all
_DECOMPOSED_SHOWN = 20
_INPUTS_SHOWN = 8

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


def render_inspection(
    report: InspectionReport, *, width: int, color: bool, unicode: bool, verbose: bool
) -> str:
    """The whole inspection as text."""
    sheet, inspection = Sheet(width, Charset(unicode)), report.inspection
    summary = summarize_inspection(report)
    sheet.entries(" inspect", _header(inspection, summary), _LABELS)
    if inspection.batchnorms:
        _layers(sheet, report)
    if inspection.decomposed:
        _decomposed(sheet, inspection)
    if report.findings:
        sheet.findings(report.findings)
    sheet.aside(report, verbose=verbose)
    sheet.closing(*inspection_verdict(report))
    return sheet.text(color=color)


def _layers(sheet: Sheet, report: InspectionReport) -> None:
    table = LayerTable(report.inspection.batchnorms, report.findings, sheet.charset, sheet.width)
    sheet.lines += table.lines()
    sheet.gap()
    sheet.notes(table.notes())
    shown = table.columns
    gain = "|γ|/σ: what the stored γ and running variance scale a channel's gradient with: median"
    gain += ", ├●┤ min to max (log, ┊ at 1)" if "spread" in shown else ""
    gain += ", share ≤1" if "fraction_le_1" in shown else ""
    sheet.wrapped(gain, "dim")
    if "fold" in shown:
        fold = "folds: whether an exporter can fold it into the layer in front, which then loses it"
        sheet.wrapped(fold, "dim")
    sheet.gap()


def _decomposed(sheet: Sheet, inspection: Inspection) -> None:
    norms = inspection.decomposed
    sheet.lines += decomposed_lines(norms[:_DECOMPOSED_SHOWN], sheet.charset, sheet.width)
    sheet.gap()
    if len(norms) > _DECOMPOSED_SHOWN:
        sheet.wrapped(f"and {len(norms) - _DECOMPOSED_SHOWN} more (all in the JSON)", "dim")
    sheet.wrapped(
        "a*x + b: a per-channel scale and shift behind a layer with weights, what is left of a frozen or "
        "decomposed BatchNorm: a = γ/σ, b = β − μγ/σ; γ and σ cannot be told apart in it",
        "dim",
    )
    sheet.gap()


def _header(inspection: Inspection, summary: InspectSummary) -> list[Entry]:
    entries: list[Entry] = [("model", _model(inspection), "")]
    if inspection.inputs:
        shown = [_input(tensor) for tensor in inspection.inputs[:_INPUTS_SHOWN]]
        more = len(inspection.inputs) - len(shown)
        entries.append(("input", "; ".join(shown) + (f"; and {more} more" if more else ""), ""))
    entries.append(("batchnorm", _batchnorm(inspection, summary), ""))
    if inspection.other_norms:
        norms = ", ".join(f"{name} ({times})" for name, times in inspection.other_norms.items())
        entries.append(("others", f"{norms}: other normalisations, not audited", ""))
    return entries + [("note", note, "") for note in inspection.notes]


def _model(inspection: Inspection) -> str:
    facts = [_KINDS.get(inspection.kind, inspection.kind), inspection.producer]
    facts += [f"{key} {inspection.facts[key]}" for key in _FACTS_SHOWN if key in inspection.facts]
    if inspection.parameters is not None:
        facts.append(f"{count(inspection.parameters)} parameters")
    if inspection.size is not None:
        facts.append(_bytes(inspection.size))
    return f"{inspection.path} ({', '.join(fact for fact in facts if fact)})"


def _bytes(size: int) -> str:
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= factor:
            return f"{significant(size / factor)} {unit}"
    return f"{size} bytes"


def _input(tensor: TensorInfo) -> str:
    if tensor.shape is None:
        shape = "of unknown shape"
    else:
        shape = f"[{', '.join('?' if size is None else str(size) for size in tensor.shape)}]"
    return " ".join(part for part in (tensor.name, tensor.dtype, shape) if part)


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
