"""The page of a run: where |gamma|/sigma went, a line a layer, what could not be read."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bnaudit.records.training import Course, LayerTrend
from bnaudit.records.values import Skipped
from bnaudit.render.text.cells import spark
from bnaudit.render.text.sheet import HANGING
from bnaudit.render.text.table import LEFT, RIGHT, Column, Notes, Room, Row, Table
from bnaudit.render.text.verdict import CAREFUL, GOOD
from bnaudit.render.text.words import plural, significant
from bnaudit.summary.trend import course_of, place_text, summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnaudit.records.training import Trend
    from bnaudit.render.text.sheet import Entry, Sheet

_LABELS = len("network") + 2
_MOST = 12
_STATISTIC = (
    "trend: fell or rose where Kendall's S is beyond chance (95 %); tau: 1 rising, -1 falling throughout; ×: "
    "change along Theil and Sen's line through log |γ|/σ, first to last, with its 95 % interval"
)


def write_trend(sheet: Sheet, report: Trend) -> None:
    """The whole page."""
    summary = summarize(report)
    sheet.entries(" trend", _header(report), _LABELS)
    if report.layers:
        rows = [Row(layer, layer.name) for layer in report.layers]
        table = Table(rows, _columns(report), sheet.charset, sheet.width, margin=0, widen=False)
        sheet.table(table)
        notes = Notes(len(rows))
        for layer in report.layers:
            if isinstance(found := course_of(layer, report), Skipped):
                notes.add("|γ|/σ over the run", found.reason, layer.name)
        sheet.notes(notes)
        sheet.paragraphs([*table.legend(), _STATISTIC])
    _odd(sheet, report)
    word = summary.verdict.upper()
    style = CAREFUL if summary.verdict in ("fell", "mixed") else GOOD
    sentence = summary.sentence.replace("|gamma|/sigma", "|γ|/σ")
    sheet.closing(word, style, sentence, hanging=HANGING)


def _header(report: Trend) -> list[Entry]:
    read = report.read
    ends = [place_text(report, m.place) for m in (*read[:1], *read[-1:]) if m.place is not None]
    files = plural(len({m.path for m in read}), "file")
    lines = sum(m.line is not None for m in read)
    watched = f", {plural(lines, 'line')} of bnaudit.watch" if lines else ""
    span = f": {' to '.join(ends)}" if ends else ""
    entries: list[Entry] = [
        ("run", ", ".join(report.runs), ""),
        ("read", f"{files}{watched}{span}, by {report.axis}", ""),
    ]
    if report.code is not None:
        torch = f", torch {report.versions['torch']}" if "torch" in report.versions else ""
        entries.append(("code", f"{report.code}{torch}", ""))
    return entries + [("note", note, "") for note in report.notes]


def _odd(sheet: Sheet, report: Trend) -> None:
    """Moments that were left out, then those that were read and are odd."""
    left = [(m, m.missing) for m in report.moments if m.missing is not None]
    noted = [(m, m.note) for m in report.read if m.note is not None]
    for word, some in (("left out", left), ("noted", noted)):
        for moment, why in some[:_MOST]:
            line = "" if moment.line is None else f":{moment.line}"
            sheet.wrapped(f"{word}: {moment.path}{line}: {why}", "yellow")
        if len(some) > _MOST:
            sheet.wrapped(f"{word}: {len(some) - _MOST} more (all in the JSON)", "yellow")
    if left or noted:
        sheet.gap()


def _factor(value: float) -> str:
    return f"×{significant(value)}"


def _interval(course: Course) -> str:
    if course.upper == float("inf") or course.lower == 0:
        return "any"
    return f"{significant(course.lower)} to {significant(course.upper)}"


_WORDS = {"fell": "fell", "rose": "rose", "none": "–"}


def _columns(report: Trend) -> Sequence[Column[LayerTrend]]:
    """The columns; |gamma|/sigma is that of the statistics that the verdict rests on."""
    path = "gain" if report.network_of == "stored" else "batch_gain"
    what = "as stored" if path == "gain" else "of the passes that were run"

    def drawn(layer: LayerTrend, width: int) -> str:
        values = [getattr(s, path) if s is not None else None for s in layer.states]
        return spark([v if isinstance(v, float) else None for v in values], width)

    gain: Callable[..., Column[LayerTrend]] = partial(
        Column, group="|γ|/σ", align=RIGHT, about=None
    )
    measured: Callable[..., Column[LayerTrend]] = partial(
        Column, group="|g|/|G|", align=RIGHT, about=None, when=_was_measured
    )
    legend = f"|γ|/σ: the middle channel's, {what}; drawn on a log scale of the layer's own"
    return (
        Column("layer", "name", str, 1, align=LEFT, room=Room(12, 40)),
        Column("ch", "channels", str, 9, align=RIGHT),
        gain("first", f"{path}.first", significant, 2, (1, 0, legend)),
        gain("last", f"{path}.last", significant, 2),
        gain("over the run", "", draw=drawn, rank=3, align=LEFT, room=Room(12, 40)),
        gain("trend", f"{path}.direction", _WORDS.__getitem__, 2),
        gain("×", f"{path}.change", _factor, 4),
        gain("95 %", path, _interval, 6),
        gain("tau", f"{path}.tau", "{:.2f}".format, 7),
        gain("half by", f"{path}.half_at", "{:g}".format, 8),
        gain("late", f"{path}.late", _WORDS.__getitem__, 8),
        measured("first", "measured.first", significant, 5),
        measured("last", "measured.last", significant, 5),
        Column(
            "leak",
            "leak.last",
            significant,
            10,
            (2, 0, "leak: ε/σ², in the end"),
            about=None,
            align=RIGHT,
        ),
        Column(
            "dead",
            "dead_last",
            str,
            9,
            (2, 1, "; dead: channels that gamma switches off, in the end"),
            about=None,
            align=RIGHT,
        ),
    )


def _was_measured(layers: Sequence[LayerTrend], _: int) -> bool:
    return any(isinstance(layer.measured, Course) for layer in layers)
