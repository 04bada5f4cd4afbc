"""The comparison as text for people: a header, a line a weight, two lines of legend, a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from bnaudit._version import __version__
from bnaudit.records.initialisation import Alignment, ScaleTest
from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.init_grid import display_names, weight_grid
from bnaudit.render.table import MIN_WIDTH
from bnaudit.render.table.numbers import (
    error_size,
    percent,
    significant,
)
from bnaudit.render.table.text import Charset, listing, plural
from bnaudit.summary.initialisation import InitSummary, summarize

if TYPE_CHECKING:
    from bnaudit.records.initialisation import InitReport, InitRun, WeightReport

_LABEL = len("trained") + 2
_EXPLAINED = 3
_EXPECTED = frozenset({NOT_REQUESTED.reason, "no BatchNorm follows"})

_LEGEND = (
    "kW: point of W's ray nearest to the start W0; nearer: share of |W0−W|² saved (arXiv 1805.11604)",
    "|dL|/L: loss under W → kW, k = 1/4 to 4, worst; identity: residual of <w,dL/dw> = leak γ dL/dγ",
)


def init_to_text(report: InitReport, *, width: int = 100, unicode: bool = True) -> str:
    """The comparison as `bnaudit init` prints it.

    Args:
        report: what to print.
        width: columns to fit into; anything below 60 counts as 60.
        unicode: whether letters beyond ASCII may be used.
    """
    width, charset = max(width, MIN_WIDTH), Charset(unicode)
    lines = [f"bnaudit {__version__} init", ""]
    for label, text in _header(report):
        lines += _beside(label.ljust(_LABEL), charset.clean(text), width)
    lines += ["", *weight_grid(report, charset, width), ""]
    notes = _notes(report)
    for note in notes:
        lines += _beside("", charset.clean(note), width)
    lines += [""] if notes else []
    tested = any(isinstance(w.scale, ScaleTest) for w in report.weights)
    for line in _LEGEND if tested else _LEGEND[:1]:
        lines += _beside("", charset.clean(line), width)
    lines += ["", *_beside("", charset.clean(": ".join(_verdict(report))), width)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _beside(head: str, body: str, width: int) -> list[str]:
    """`body` wrapped to the right of `head`; without one, further lines hang by two."""
    indent = cell_len(head) or 2
    room = width - indent
    wrapped = Text(body).wrap(Console(width=room, force_jupyter=False), room, overflow="fold")
    rows = [line.plain.rstrip() for line in wrapped] or [""]
    return [(" " * indent if i else head) + row for i, row in enumerate(rows)]


def _header(report: InitReport) -> list[tuple[str, str]]:
    entries = []
    for label, file in (("start", report.start), ("trained", report.trained)):
        facts = [file.kind, plural(file.tensors, "tensor")]
        facts += [f"names without {file.prefix!r}"] if file.prefix else []
        entries.append((label, f"{file.path} ({', '.join(facts)})"))
    entries.append(("weights", _counts(report)))
    if isinstance(report.run, Skipped):
        entries.append(("run", f"not run: {report.run.reason}"))
    else:
        entries += _run(report.run)
    return entries + [("note", note) for note in report.notes]


def _counts(report: InitReport) -> str:
    summary = summarize(report)
    sources = {w.followed_from for w in report.weights}
    source = {
        "run": "seen in the run",
        "graph": "from the graph",
        "names": "judged by names and shapes",
    }
    text = f"{summary.weights} compared, {summary.before} before a BatchNorm"
    if summary.unknown:
        text += f", {summary.unknown} unknown"
    return f"{text} ({', '.join(source[s] for s in source if s in sources)})"


def _run(run: InitRun) -> list[tuple[str, str]]:
    value = "" if isinstance(run.value, Skipped) else f" {significant(run.value)}"
    where = ", ".join(run.data.paths) or f"given as {run.data.source}"
    data = f"{where}: {run.data.batch_size} rows"
    if run.data.source == "synthetic":
        drawn = f" ({run.data.distribution})" if run.data.distribution else ""
        data = f"SYNTHETIC{drawn}, not your data: {run.data.batch_size} rows"
    labels = f", labels from {run.labels}" if run.labels else ""
    torch = f", torch {run.versions['torch']}" if "torch" in run.versions else ""
    entries = [
        ("run", f"one batch, batch statistics, {run.device}, float64, seed {run.seed}{torch}"),
        ("data", data),
        ("loss", f"{run.loss}{value}{labels} ({run.loss_why})"),
    ]
    return entries + [("note", note) for note in run.notes]


def _notes(report: InitReport) -> list[str]:
    """Why cells are empty, one sentence for each reason."""
    reasons: dict[str, list[str]] = {}
    for name, weight in zip(display_names(report), report.weights, strict=True):
        for reason in dict.fromkeys(_reasons(weight, report)):
            reasons.setdefault(reason, []).append(name)
    notes = [f"– {listing(names, _EXPLAINED)}: {reason}" for reason, names in reasons.items()]
    if not isinstance(report.run, Skipped):
        notes += [
            f"– BatchNorm {unfed.batchnorm}: no weight feeds it: {unfed.reason}"
            for unfed in report.run.unfed
        ]
    return notes


def _reasons(weight: WeightReport, report: InitReport) -> list[str]:
    if isinstance(weight.alignment, Skipped):
        return [weight.alignment.reason]
    found = [getattr(weight.alignment, key) for key in ("k", "cosine", "gain", "gain_share")]
    if isinstance(weight.scale, ScaleTest):
        found += [weight.scale.largest_change, weight.scale.residual]
    elif not isinstance(report.run, Skipped) and weight.scale.reason not in _EXPECTED:
        found.append(weight.scale)
    return [value.reason for value in found if isinstance(value, Skipped)]


def _verdict(report: InitReport) -> tuple[str, str]:
    summary = summarize(report)
    if report.identical:
        return (
            "IDENTICAL",
            "every compared weight is the same in both files (k = 1): nothing was trained",
        )
    parts = [part for part in (_lemma(report, summary), _invariance(summary)) if part]
    return ("DISAGREES" if summary.broken else "RESULT"), "; ".join(parts)


def _lemma(report: InitReport, summary: InitSummary) -> str:
    if not any(isinstance(w.alignment, Alignment) for w in report.weights):
        return "no weight could be compared"
    if not summary.before:
        return "no weight is known to feed a BatchNorm, to which alone the lemma applies"
    text = f"k > 0 in {summary.positive} of {plural(summary.before, 'weight')} before a BatchNorm"
    if summary.with_k < summary.before:
        text += f" ({summary.before - summary.with_k} without k)"
    if summary.median_k is None or summary.median_gain_share is None:
        return text
    return (
        f"{text}, median k {significant(summary.median_k)}; where k > 0, kW is nearer to the start "
        f"than W by {percent(summary.median_gain_share)} of |W0−W|² (median)"
    )


def _invariance(summary: InitSummary) -> str:
    if summary.largest_residual is None or summary.tolerance is None:
        return "scale invariance not tested" if not summary.tested else ""
    numbers = f"residual {error_size(summary.largest_residual)}, tolerance {error_size(summary.tolerance)}"
    if summary.broken:
        return f"the scale identity fails in {plural(summary.broken, 'weight')} (worst {numbers})"
    change = (
        "" if summary.largest_change is None else f"|dL|/L ≤ {error_size(summary.largest_change)}, "
    )
    return f"scale invariance in {plural(summary.tested, 'weight')}: {change}identity {numbers}"
