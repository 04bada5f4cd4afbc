"""What was audited and how: the lines above the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.table.numbers import count, significant
from bnaudit.render.table.text import listing, plural

if TYPE_CHECKING:
    from bnaudit.records.report import ModelInfo, Report, RunInfo, TensorInfo

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
    synthetic = run.data.source == "synthetic"
    return [
        ("run", ", ".join(parts), ""),
        ("data", _data(run), "yellow" if synthetic else ""),
        ("loss", _loss(run), ""),
    ]


def _data(run: RunInfo) -> str:
    data = run.data
    size = f"{plural(data.batches, 'batch')} of {data.batch_size}"
    if data.source == "synthetic":
        drawn = f" ({data.distribution})" if data.distribution else ""
        return f"SYNTHETIC{drawn}, not your data: {size}"
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
