"""The page of an audit: its blocks under each other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.text.channels import write_channels
from bnaudit.render.text.ending import ending
from bnaudit.render.text.layers import layer_table
from bnaudit.render.text.sheet import input_text
from bnaudit.render.text.twins import write_twins
from bnaudit.render.text.verdict import verdict_line, why_nothing
from bnaudit.render.text.weights import write_weights
from bnaudit.render.text.words import count, listing, plural, significant
from bnaudit.summary.audit import gain_statistics

if TYPE_CHECKING:
    from bnaudit.records.report import Report
    from bnaudit.records.run import DataInfo, RunInfo
    from bnaudit.render.text.sheet import Entry, Sheet

_LABELS = len("batchnorm") + 2
_NAMES_SHOWN = 6
FACTS_SHOWN = ("opset",)
"""The JSON has all."""


def write_audit(sheet: Sheet, report: Report, *, verbose: bool) -> None:
    """The whole page."""
    sheet.entries("", _header(report), _LABELS)
    if report.layers:
        _layers(sheet, report)
        write_channels(sheet, report)
        write_weights(sheet, report.layers)
        write_twins(sheet, report.twins)
    elif report.failure is None:
        fact = f"No BatchNorm to audit: {why_nothing(report)}."
        if not report.model.defined and not report.findings:
            fact += (
                " An inference export folds BatchNorm into convolutions: audit the model before."
            )
        sheet.banner(fact, "bold yellow")
    if report.findings:
        sheet.findings(report.findings)
    sheet.aside(report, verbose=verbose)
    if report.failure is not None:
        sheet.failure(report.failure)
    sheet.ending(ending(report))
    sheet.closing(*verdict_line(report))


def _layers(sheet: Sheet, report: Report) -> None:
    """The table, the reasons that did not fit into it, and the legend."""
    table = layer_table(report, sheet.charset, sheet.width, sheet.view)
    sheet.table(table)
    sheet.notes(table.notes)
    scale = report.gradient_scale
    if not isinstance(scale, Skipped):
        # Measured, and not multiplied up through the layers.
        times = significant(scale.median)
        sheet.paragraphs([f"depth: |G| at the first layer is {times} times that at the last"], "")
    elif scale != NOT_REQUESTED:
        sheet.paragraphs([f"– depth: {scale.reason}"], "")
    heads = {
        1: f"|γ|/σ scales a channel's gradient ({gain_statistics(report)} σ)",
        2: "|g|/|G|: gradient norm at the layer's input / output,",
    }
    sheet.paragraphs(table.legend(heads))


def _header(report: Report) -> list[Entry]:
    model, run = report.model, report.run
    facts = [model.format, model.producer]
    facts += [f"{key} {model.facts[key]}" for key in FACTS_SHOWN if key in model.facts]
    facts.append(f"{count(model.parameters)} parameters")
    entries: list[Entry] = [
        ("model", f"{model.path} ({', '.join(fact for fact in facts if fact)})", "")
    ]
    if model.inputs:
        entries.append(("input", "; ".join(input_text(tensor) for tensor in model.inputs), ""))
    entries.append(("batchnorm", _executed(report), ""))
    if model.not_executed:
        names = listing(list(model.not_executed), _NAMES_SHOWN)
        entries.append(("", f"not executed: {names}", "yellow"))
    if run is not None:
        entries += _run(run)
    notes = model.notes + (run.notes if run is not None else ())
    return entries + [("note", note, "") for note in notes]


def _executed(report: Report) -> str:
    model = report.model
    names = {layer.name for layer in report.layers}
    defined, calls = len(model.defined), len(report.layers)
    if defined + calls == 0:
        text = "the model defines no layer"
    elif defined == 0:
        text = f"{plural(len(names), 'layer')} executed"
    elif report.run is None or report.failure is not None:
        text = f"{plural(defined, 'layer')} defined"
    else:
        text = f"{len(names)} of {plural(defined, 'defined layer')} executed"
    if calls > len(names):
        text += f" in {calls} calls"
    if model.instance_norms:
        text += f"; {plural(model.instance_norms, 'InstanceNorm call')} told apart, not audited"
    return text


def _run(run: RunInfo) -> list[Entry]:
    parts = [f"{run.mode} statistics", run.device, run.dtype, f"seed {run.seed}"]
    if "torch" in run.versions:
        parts.append(f"torch {run.versions['torch']}")
    if run.verify_gradients is not None:
        parts.append(f"finite differences: {run.verify_gradients}")
    data, loss = run.data, run.loss
    made_up = data.made_up
    rows = f" ({data.available} rows available)" if data.available is not None else ""
    size = f"{plural(data.batches, 'batch')} of {data.batch_size}{'' if made_up else rows}{_enough(data)}"
    labels = f"labels from {loss.labels or 'the data'}"
    if loss.label_free:
        labels = f"labels {loss.labels}" if loss.drawn else "label-free"
    if isinstance(loss.value, Skipped):
        value = f"no value: {loss.value.reason}"
    else:
        value = f"median {significant(loss.value.median)}"
    entries = [
        ("run", ", ".join(parts), ""),
        ("data", f"{origin(data)}: {size}", "yellow" if made_up else ""),
        ("loss", f"{loss.name} ({labels}; {loss.why}), {value}", ""),
    ]
    if run.inputs:
        given = ", ".join(f"{name}={json.dumps(value)}" for name, value in run.inputs.items())
        entries.append(("given", given, ""))
    found = run.verification
    if isinstance(found, Skipped):
        return (
            entries
            if found == NOT_REQUESTED
            else [*entries, ("conversion", found.reason, "yellow")]
        )
    fact = f"outputs within {found.worst:.1e} of {found.reference}"
    if not found.agrees:
        fact = f"MISMATCH: outputs differ by {found.worst:.1e} from {found.reference}"
    text = f"{fact} (relative; tolerance {found.tolerance:.0e})"
    return [*entries, ("conversion", text, "" if found.agrees else "red")]


_STOPPED = {
    "asked": "",
    "medians": "",
    "data": "; the data have no more",
    "cost": "; more would cost much (--batches N)",
    "most": "; auto takes no more (--batches N)",
    "stream": ", the first of the stream",
}


def _enough(data: DataInfo) -> str:
    """Why there are no more batches, and how well they tell the medians."""
    if data.stopped is None:
        return ""
    within = "" if data.within is None else f"; medians within {data.within:.1%}"
    return ("" if data.order != "seed" else ", drawn by the seed") + _STOPPED[data.stopped] + within


def origin(data: DataInfo) -> str:
    """Where a batch came from."""
    if data.source == "example":
        return "the example inputs inside the file, not your data"
    if data.source == "synthetic":
        drawn = f" ({data.distribution})" if data.distribution else ""
        return f"SYNTHETIC{drawn}, not your data (--data matched comes nearer)"
    if data.matching is not None:
        left, steps = significant(data.matching.end), max(data.matching.steps)
        return (
            f"MATCHED to the running statistics in {steps} steps (mismatch {left}), not your data"
        )
    return ", ".join(data.paths) or f"given as {data.source}"
