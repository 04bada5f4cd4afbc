"""The page of a recalibration: the network before and after, a line a layer, what was done."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from bnaudit.records.recalibration import LayerChange
from bnaudit.records.values import Estimate, Skipped
from bnaudit.render.text.audit import origin
from bnaudit.render.text.sheet import HANGING
from bnaudit.render.text.table import LEFT, RIGHT, Column, Notes, Room, Row, Table
from bnaudit.render.text.verdict import BAD, CAREFUL, GOOD
from bnaudit.render.text.words import count, error_size, percent, plural, significant
from bnaudit.summary.recalibration import summarize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.recalibration import Average, Recalibration
    from bnaudit.render.text.sheet import Entry, Sheet

_LABELS = len("deployed before") + 2
_CHOICE = (
    "These are the statistics of this data. Data of the place where the network is used fits it to that "
    "place; data of training makes it what training meant. Which is right is a choice."
)
_WAYS = {
    "one-pass": "one pass, every layer with batch statistics",
    "front-to-back": "front to back, each layer behind the mended ones",
}


def write_recalibration(sheet: Sheet, report: Recalibration) -> None:
    """The whole page."""
    summary = summarize(report)
    sheet.entries(" recalibrate", _header(report), _LABELS)
    rows = [Row(layer, layer.name) for layer in report.layers]
    table = Table(
        rows, _COLUMNS, sheet.charset, sheet.width, margin=0, widen=False, view=sheet.view
    )
    sheet.table(table)
    notes = Notes(len(rows))
    for layer in report.layers:
        if layer.kept is not None:
            notes.add("", f"kept as they are: {layer.kept}", layer.name)
        elif isinstance(layer.before, Skipped):
            notes.add("what was off", layer.before.reason, layer.name)
    sheet.notes(notes)
    sheet.paragraphs(table.legend())
    for refusal in report.refusals:
        word = "refused" if refusal.final or not report.forced else "forced"
        sheet.wrapped(f"{word} ({refusal.case}): {refusal.reason}", "bold red")
        sheet.wrapped(f"  instead: {refusal.remedy}", "")
    if report.refusals:
        sheet.gap()
    sheet.paragraphs([_CHOICE])
    sentence = _sentence(report, f"{summary.changed} of {plural(summary.layers, 'layer')}")
    if summary.refused:
        word, style = "REFUSED", BAD
    elif summary.outcome == "worse":
        word, style = "WORSE", BAD
    else:
        better = summary.outcome == "better"
        word, style = ("BETTER" if better else "DONE"), (GOOD if better else CAREFUL)
    sheet.closing(word, style, sentence, hanging=HANGING)


def _header(report: Recalibration) -> list[Entry]:
    data = report.data
    labels = f", labels from {report.labels}" if report.labels else ""
    made_up = "yellow" if data.source in {"synthetic", "example"} else ""
    torch = f", torch {report.versions['torch']}" if "torch" in report.versions else ""
    entries = [
        ("model", f"{report.model} ({report.format})", ""),
        (
            "data",
            f"{origin(data)}: {plural(data.batches, 'batch')} of up to {data.batch_size}{labels}",
            made_up,
        ),
        (
            "run",
            f"{_WAYS[report.way]}: {plural(report.passes, 'pass')}, {report.device}, {report.dtype}, seed "
            f"{report.seed}{torch}",
            "",
        ),
        ("loss", f"{report.loss} ({report.loss_why})", ""),
        ("batch stats", _performance(report.batch.loss, report.batch.accuracy, None), ""),
    ]
    for label, found in (("deployed before", report.before), ("deployed after", report.after)):
        entries.append((label, _performance(found.loss, found.accuracy, found.distance), ""))
    return entries + [("note", note, "") for note in report.notes]


def _performance(loss: Average, accuracy: Average, distance: Average | None) -> str:
    parts = []
    if isinstance(loss, Estimate):
        parts.append(f"loss {_averaged(loss)}")
    if isinstance(accuracy, Estimate):
        parts.append(f"accuracy {percent(accuracy.mean)}")
    if isinstance(distance, Estimate):
        parts.append(f"outputs {significant(distance.mean)} from those with batch statistics")
    if not parts:
        return loss.reason if isinstance(loss, Skipped) else ""
    if isinstance(loss, Skipped) and "labels" not in loss.reason:
        parts.append(loss.reason)
    return ", ".join(parts)


def _averaged(value: Estimate) -> str:
    if isinstance(value.lower, Skipped) or isinstance(value.upper, Skipped):
        return significant(value.mean)
    return f"{significant(value.mean)} ({significant(value.lower)} to {significant(value.upper)})"


def _sentence(report: Recalibration, layers: str) -> str:
    parts = []
    before, after = report.before.loss, report.after.loss
    if isinstance(before, Estimate) and isinstance(after, Estimate):
        parts.append(f"deployed loss {significant(before.mean)} → {significant(after.mean)}")
    elif isinstance(after, Estimate):
        parts.append(f"deployed loss {significant(after.mean)} (before: {before.reason})")  # type: ignore[union-attr]
    was, now = report.before.accuracy, report.after.accuracy
    if isinstance(was, Estimate) and isinstance(now, Estimate):
        parts.append(f"accuracy {percent(was.mean)} → {percent(now.mean)}")
    if not parts:
        far, near = report.before.distance, report.after.distance
        if isinstance(far, Estimate) and isinstance(near, Estimate):
            parts.append(
                f"distance to the outputs with batch statistics {significant(far.mean)} → "
                f"{significant(near.mean)}"
            )
    if not isinstance(report.recovered, Skipped):
        parts.append(f"{percent(report.recovered)} of the gap to batch statistics recovered")
    parts.append(f"new statistics in {layers}")
    if report.refused:
        parts.append("nothing written")
    elif report.output is not None:
        parts.append(f"written to {report.output}, and loaded again")
    return "; ".join(parts)


def _sigmas(value: float) -> str:
    """What is left of rounding is no number to read."""
    return "0" if value < 5e-5 else error_size(value)


def _factor(log2: float) -> str:
    return f"×{significant(2**log2)}" if log2 < 60 else "×∞"


def _apart(layers: Sequence[LayerChange], _: int) -> bool:
    return any(layer.calls > 1 for layer in layers)


_Of = Callable[..., Column[LayerChange]]
_before: _Of = partial(Column, group="off before", align=RIGHT)
_after: _Of = partial(Column, group="off after", align=RIGHT)
_between: _Of = partial(Column, group="calls apart", align=RIGHT, when=_apart)
_LEGEND = (
    "off: what the deployed network sends a layer, against the statistics it normalises with: its mean in "
    "σ, its variance as a factor; the middle channel, and the worst (max)"
)
_COLUMNS: tuple[Column[LayerChange], ...] = (
    Column("layer", "name", str, 1, align=LEFT, room=Room(16, 44)),
    Column("ch", "channels", str, 6, align=RIGHT, key="channels"),
    Column("values", "values", count, 7, align=RIGHT),
    _before("mean", "before.mean", _sigmas, 2, (1, 0, _LEGEND), key="mean_before"),
    _before("max", "before.mean_max", _sigmas, 5, key="mean_max_before"),
    _before("var", "before.variance", _factor, 2, key="variance_before"),
    _before("max", "before.variance_max", _factor, 5, key="variance_max_before"),
    _after("mean", "after.mean", _sigmas, 3, key="mean_after"),
    _after("max", "after.mean_max", _sigmas, 8, key="mean_max_after"),
    _after("var", "after.variance", _factor, 3, key="variance_after"),
    _after("max", "after.variance_max", _factor, 8, key="variance_max_after"),
    _between("mean", "apart.mean", _sigmas, 4, key="calls_mean"),
    _between("var", "apart.variance", _factor, 4, key="calls_variance"),
)
