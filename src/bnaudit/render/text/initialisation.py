"""The page of a comparison with the start: a line a weight, two lines of legend, a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bnaudit.records.initialisation import Alignment, ScaleTest, WeightReport
from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.text.audit import origin
from bnaudit.render.text.sheet import HANGING
from bnaudit.render.text.table import LEFT, RIGHT, Column, Notes, Room, Row, Table
from bnaudit.render.text.verdict import BAD, CAREFUL
from bnaudit.render.text.words import error_size, percent, plural, significant, whole_percent
from bnaudit.summary.initialisation import InitSummary, summarize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.initialisation import InitReport
    from bnaudit.render.text.sheet import Entry, Sheet

_LABELS = len("trained") + 2
_SUFFIX = ".weight"
_EXPECTED = frozenset({NOT_REQUESTED.reason, "no BatchNorm follows"})
_SOURCES = {
    "run": "seen in the run",
    "graph": "from the graph",
    "names": "judged by names and shapes",
}


def write_initialisation(sheet: Sheet, report: InitReport) -> None:
    """The whole page."""
    summary = summarize(report)
    sheet.entries(" init", _header(report, summary), _LABELS)
    weights = report.weights
    if all(weight.name.endswith(_SUFFIX) for weight in weights):
        weights = tuple(replace(w, name=w.name.removesuffix(_SUFFIX)) for w in weights)
    rows = [Row(weight, weight.name) for weight in weights]
    table = Table(
        rows, _COLUMNS, sheet.charset, sheet.width, margin=0, widen=False, view=sheet.view
    )
    sheet.table(table)
    run = None if isinstance(report.run, Skipped) else report.run
    notes = Notes(len(rows))
    for weight in weights:
        for reason in _reasons(weight, tested=run is not None):
            notes.add("", reason, weight.name)
    lines = [text for text, _ in notes.lines()]
    lines += [
        f"– BatchNorm {unfed.batchnorm}: no weight feeds it: {unfed.reason}"
        for unfed in (run.unfed if run is not None else ())
    ]
    sheet.paragraphs(lines, "")
    sheet.paragraphs(table.legend())
    word, style = ("DISAGREES", BAD) if summary.broken else ("RESULT", "bold")
    parts = [_lemma(report, summary), _invariance(summary)]
    if report.identical:
        word, style = "IDENTICAL", CAREFUL
        parts = ["every compared weight is the same in both files (k = 1): nothing was trained"]
    sheet.closing(word, style, "; ".join(filter(None, parts)), hanging=HANGING)


def _header(report: InitReport, summary: InitSummary) -> list[Entry]:
    entries: list[Entry] = []
    for label, file in (("start", report.start), ("trained", report.trained)):
        facts = [file.kind, plural(file.tensors, "tensor")]
        facts += [f"names without {file.prefix!r}"] if file.prefix else []
        entries.append((label, f"{file.path} ({', '.join(facts)})", ""))
    told = {weight.followed_from for weight in report.weights}
    sources = ", ".join(words for source, words in _SOURCES.items() if source in told)
    unknown = f", {summary.unknown} unknown" if summary.unknown else ""
    compared = f"{summary.weights} compared, {summary.before} before a BatchNorm{unknown}"
    entries.append(("weights", f"{compared} ({sources})", ""))
    run = report.run
    if isinstance(run, Skipped):
        entries.append(("run", f"not run: {run.reason}", ""))
    else:
        torch = f", torch {run.versions['torch']}" if "torch" in run.versions else ""
        how = f"one batch, batch statistics, {run.device}, float64, seed {run.seed}{torch}"
        value = "" if isinstance(run.value, Skipped) else f" {significant(run.value)}"
        labels = f", labels from {run.labels}" if run.labels else ""
        made_up = "yellow" if run.data.source == "synthetic" else ""
        entries += [
            ("run", how, ""),
            ("data", f"{origin(run.data)}: {run.data.batch_size} rows", made_up),
            ("loss", f"{run.loss}{value}{labels} ({run.loss_why})", ""),
            *(("note", note, "") for note in run.notes),
        ]
    return entries + [("note", note, "") for note in report.notes]


def _reasons(weight: WeightReport, *, tested: bool) -> list[str]:
    """Why cells are empty."""
    whole, scale = weight.alignment, weight.scale
    if isinstance(whole, Skipped):
        return [whole.reason]
    found: list[object] = [whole.k, whole.cosine, whole.gain, whole.gain_share]
    if isinstance(scale, ScaleTest):
        found += [scale.largest_change, scale.residual]
    elif tested and scale.reason not in _EXPECTED:
        found.append(scale)
    return [value.reason for value in found if isinstance(value, Skipped)]


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
    largest = summary.largest_change
    change = "" if largest is None else f"|dL|/L ≤ {error_size(largest)}, "
    return f"scale invariance in {plural(summary.tested, 'weight')}: {change}identity {numbers}"


def _plain(value: float) -> str:
    """Cosines and k are of order one: three decimals, until k grows out of them."""
    return f"{value:.3f}" if abs(value) < 100 else significant(value)


def _tested(weights: Sequence[WeightReport], _: int) -> bool:
    return any(isinstance(weight.scale, ScaleTest) for weight in weights)


_MARK = {"yes": "yes", "no": "no", "unknown": "?"}
_Of = Callable[..., Column[WeightReport]]
_rows: _Of = partial(Column, group="k of rows")
_test: _Of = partial(Column, group="scale test", align=RIGHT, when=_tested)
_COLUMNS: tuple[Column[WeightReport], ...] = (
    Column("weight", "name", str, 1, align=LEFT, room=Room(20, 44)),
    Column("BN", "followed", _MARK.__getitem__, 2, align=RIGHT, key="batchnorm"),
    Column("|W0|", "alignment.start_norm", significant, 14, key="start"),
    Column("|W|", "alignment.trained_norm", significant, 13, key="trained"),
    Column("cos", "alignment.cosine", _plain, 4, key="cosine"),
    Column("k", "alignment.k", _plain, 3, (1, 0, "kW: point of W's ray nearest to the start W0")),
    Column(
        "nearer",
        "alignment.gain_share",
        percent,
        5,
        (1, 1, "; nearer: share of |W0−W|² saved (arXiv 1805.11604)"),
        align=RIGHT,
    ),
    Column("to ray", "alignment.ray_distance", significant, 8, key="ray"),
    _rows("min", "rows.k.minimum", _plain, 11, key="k_min"),
    _rows("median", "rows.k.median", _plain, 10, key="k_median"),
    _rows("max", "rows.k.maximum", _plain, 12, key="k_max"),
    _rows("> 0", "rows.positive", whole_percent, 9, align=RIGHT, key="k_positive"),
    _test(
        "|dL|/L",
        "scale.largest_change",
        error_size,
        6,
        (2, 0, "|dL|/L: loss under W → kW, k = 1/4 to 4, worst"),
        key="loss_change",
    ),
    _test(
        "identity",
        "scale.residual",
        error_size,
        7,
        (2, 1, "; identity: residual of <w,dL/dw> = leak γ dL/dγ"),
    ),
)
