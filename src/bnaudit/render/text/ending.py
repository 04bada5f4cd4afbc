"""How an audit ends: what a person wants to know, in plain sentences, before the verdict.

No rich here: Markdown has the same sentences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.finding import Severity
from bnaudit.records.twins import Upstream
from bnaudit.records.values import NOT_REQUESTED, Estimate, Skipped
from bnaudit.render.text.words import listing, percent, plural, significant
from bnaudit.summary.audit import is_synthetic, summarize
from bnaudit.summary.deployment import WORSE, conclusion
from bnaudit.summary.normal import HEALTHY_LAYERS, NORMAL, comparable, outside
from bnaudit.summary.twins import upstream_factor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.deployment import Deployment
    from bnaudit.records.report import Report
    from bnaudit.summary.normal import Outside

_COLUMNS = {
    "gain": "|γ|/σ",
    "reduction": "|g|/|G|",
    "removed": "removed",
    "leak": "leak",
    "mean_drift": "mean drift",
    "variance_drift": "log2 var drift",
}
_DRIFT = ("BN201", "BN202")
_QUANTITIES, _LAYERS = 3, 2
"""Shown, of each quantity; the JSON has all."""


def ending(report: Report) -> list[str]:
    """Does it do what it was trained to do; what BatchNorm does; which layers stand out. Each a sentence."""
    if report.failure is not None or not any(layer.measured for layer in report.layers):
        return []
    return [s for s in (_deployed(report), _does(report), _stands_out(report)) if s]


def _deployed(report: Report) -> str:
    """Both losses, or what the outputs move by; the numbers are not repeated where a finding has them."""
    found = report.deployment
    if isinstance(found, Skipped):
        known = found == NOT_REQUESTED or is_synthetic(report)
        return "" if known else f"As deployed: not compared, {found.reason}."
    concluded = conclusion(report)
    head = {
        "as-trained": "As deployed the network does what it was trained to do",
        "worse": f"As deployed the network does not do what it was trained to do ({WORSE})",
        "guessing": "As deployed the network does not do what these labels ask for",
        "moved": f"As deployed the network gives other answers than in training ({WORSE})",
        "unmoved": "As deployed the network gives the answers that it gives in training",
    }.get(concluded or "", "As deployed")
    said = next((f for f in report.findings if f.rule == WORSE), None)
    if said is not None:
        mild = said.severity < Severity.ERROR and concluded == "worse"
        return (
            f"As deployed the network does worse than in training ({WORSE})."
            if mild
            else f"{head}."
        )
    return f"{head}: {_outputs(found) if _label_free(report) else _losses(found)}."


def _label_free(report: Report) -> bool:
    return report.run is not None and report.run.loss.label_free


def _losses(found: Deployment) -> str:
    text = (
        f"loss {estimate_text(found.running.loss)} with running statistics, "
        f"{estimate_text(found.batch.loss)} with those of each batch"
    )
    running, batch = found.running.accuracy, found.batch.accuracy
    if isinstance(running, Estimate) and isinstance(batch, Estimate):
        text += f"; accuracy {percent(running.mean)} and {percent(batch.mean)}"
    return f"{text} ({_rows(found)})"


def _outputs(found: Deployment) -> str:
    text = (
        f"running statistics move the outputs by {estimate_text(found.distance)} of their spread over "
        f"the rows"
    )
    if isinstance(found.changed, Estimate):
        text += f", and {percent(found.changed.mean)} of the largest outputs are others"
    return f"{text} ({_rows(found)})"


def _rows(found: Deployment) -> str:
    return f"{plural(found.batches, 'batch')}, {found.rows} rows"


def estimate_text(value: Estimate | Skipped) -> str:
    """A mean with its interval."""
    if isinstance(value, Skipped):
        return f"none ({value.reason})"
    text = significant(value.mean)
    if isinstance(value.lower, Skipped) or isinstance(value.upper, Skipped):
        return text
    return f"{text} [{significant(value.lower)}, {significant(value.upper)}]"


def _does(report: Report) -> str:
    """Measured end to end, or else of the layers one by one: never their product."""
    times = upstream_factor(report.upstream)
    if not isinstance(times, Skipped) and isinstance(report.upstream, Upstream):
        makes = "larger" if times >= 1 else "smaller"
        size = significant(times if times >= 1 or times == 0 else 1 / times)
        free = ", a loss without labels" if _label_free(report) else ""
        if report.run is not None and report.run.loss.drawn:
            free = ", on labels drawn from the model"
        what = f"{size} times {makes}" if times else "vanish"
        return (
            f"What BatchNorm does: it makes the gradients of the weights in front of it {what}, end to end "
            f"({plural(report.upstream.parameters, 'tensor')}, first batch{free}; against layers that hand "
            "gradients on as they are)."
        )
    reduction = summarize(report).reduction
    if reduction is None:
        return ""
    middle = f"in the middle layer it multiplies the gradient's norm by {significant(reduction)}"
    if report.run is not None and report.run.mode == "running":
        return f"What BatchNorm does: with running statistics it only scales; {middle}."
    why = (
        "" if times == NOT_REQUESTED else f": {times.reason}" if isinstance(times, Skipped) else ""
    )
    return f"What BatchNorm does: {middle} (layer by layer; the end-to-end effect was not measured{why})."


def _stands_out(report: Report) -> str:
    if not comparable(report):
        return ""
    # Where drift starts, and how much there is, is told there for all layers.
    drift = any(rule == f.rule or rule in f.message for f in report.findings for rule in _DRIFT)
    told = {"mean_drift", "variance_drift"} if drift else set()
    found = [entry for entry in outside(report) if entry.quantity not in told]
    if not found and any(f.layer and f.severity > Severity.INFO for f in report.findings):
        return ""
    if not found:
        return f"No layer stands out against {HEALTHY_LAYERS:,} layers of healthy networks."
    by_quantity: dict[str, list[Outside]] = {}
    for entry in found:
        by_quantity.setdefault(entry.quantity, []).append(entry)
    shown = [_of_quantity(q, entries) for q, entries in list(by_quantity.items())[:_QUANTITIES]]
    left = [_COLUMNS[q] for q in list(by_quantity)[_QUANTITIES:]]
    more = f"; also {', '.join(left)}" if left else ""
    gauge = any(NORMAL[q].gauge for q in list(by_quantity)[:_QUANTITIES])
    why = " (* depends on how large the weights happen to be)" if gauge else ""
    return f"Outside what {HEALTHY_LAYERS:,} layers of healthy networks show: {'; '.join(shown)}{more}{why}."


def _of_quantity(quantity: str, entries: Sequence[Outside]) -> str:
    """Like `removed 61.0% at bn3, 48.1% at bn2 and 2 more (normal: at most 42.0%)`."""
    write = percent if quantity == "removed" else significant
    mark = "*" if NORMAL[quantity].gauge else ""
    named = listing([f"{write(entry.value)} at {entry.layer}" for entry in entries], _LAYERS)
    low, high = entries[0].low, entries[0].high
    normal = f"{write(low)} to {write(high)}" if low else f"at most {write(high)}"
    return f"{_COLUMNS[quantity]}{mark} {named} (normal: {normal})"
