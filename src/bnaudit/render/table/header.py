"""What was audited and how: the lines above the table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.table.numbers import count, significant
from bnaudit.render.table.text import listing, plural

if TYPE_CHECKING:
    from bnaudit.records.model import ModelInfo, TensorInfo
    from bnaudit.records.report import Report
    from bnaudit.records.run import RunInfo

Entry = tuple[str, str, str]
"""Label, text, style."""

_NAMES_SHOWN = 6
_FACTS_SHOWN = ("opset",)  # the JSON has all


def header_entries(report: Report) -> list[Entry]:
    """Every line of the header; the page wraps them."""
    model = report.model
    entries: list[Entry] = [("model", _model(model), "")]
    if model.inputs:
        entries.append(("input", "; ".join(_input(tensor) for tensor in model.inputs), ""))
    entries.append(("batchnorm", _executed(report), ""))
    if model.not_executed:
        names = listing(list(model.not_executed), _NAMES_SHOWN)
        entries.append(("", f"not executed: {names}", "yellow"))
    if report.run is not None:
        entries += _run(report.run)
    notes = model.notes + (report.run.notes if report.run is not None else ())
    entries += [("note", note, "") for note in notes]
    return entries


def _model(model: ModelInfo) -> str:
    shown = (f"{key} {model.facts[key]}" for key in _FACTS_SHOWN if key in model.facts)
    facts = [model.format, model.producer, *shown]
    parameters = f"{count(model.parameters)} parameters"
    return f"{model.path} ({', '.join(fact for fact in (*facts, parameters) if fact)})"


def _input(tensor: TensorInfo) -> str:
    parts = [tensor.name, tensor.dtype, _shape(tensor)]
    return " ".join(part for part in parts if part)


def _shape(tensor: TensorInfo) -> str:
    if tensor.shape is None:
        return "of unknown shape"
    return f"[{', '.join('?' if size is None else str(size) for size in tensor.shape)}]"


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
    made_up = run.data.source in {"synthetic", "example"}
    return [
        ("run", ", ".join(parts), ""),
        ("data", _data(run), "yellow" if made_up else ""),
        ("loss", _loss(run), ""),
        *_given(run),
        *_verified(run),
    ]


def _given(run: RunInfo) -> list[Entry]:
    shown = [f"{name}={json.dumps(value)}" for name, value in run.inputs.items()]
    return [("given", ", ".join(shown), "")] if shown else []


def _verified(run: RunInfo) -> list[Entry]:
    found = run.verification
    if isinstance(found, Skipped):
        return [] if found == NOT_REQUESTED else [("conversion", found.reason, "yellow")]
    text = f"outputs within {found.worst:.1e} of {found.reference} (relative; tolerance "
    text += f"{found.tolerance:.0e})"
    if not found.agrees:
        text = f"MISMATCH: outputs differ by {found.worst:.1e} from {found.reference} (relative; "
        text += f"tolerance {found.tolerance:.0e})"
    return [("conversion", text, "" if found.agrees else "red")]


def _data(run: RunInfo) -> str:
    data = run.data
    size = f"{plural(data.batches, 'batch')} of {data.batch_size}"
    if data.source == "synthetic":
        drawn = f" ({data.distribution})" if data.distribution else ""
        return f"SYNTHETIC{drawn}, not your data: {size}"
    if data.source == "example":
        return f"the example inputs inside the file, not your data: {size}"
    where = ", ".join(data.paths) or f"given as {data.source}"
    rows = f" ({data.available} rows available)" if data.available is not None else ""
    return f"{where}: {size}{rows}"


def _loss(run: RunInfo) -> str:
    loss = run.loss
    labels = "label-free" if loss.label_free else f"labels from {loss.labels or 'the data'}"
    if isinstance(loss.value, Skipped):
        value = f"no value: {loss.value.reason}"
    else:
        value = f"median {significant(loss.value.median)}"
    return f"{loss.name} ({labels}; {loss.why}), {value}"
