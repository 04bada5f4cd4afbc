"""The flow of a trend: find -> read one after the other -> place -> compare. Torch only where code is run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING, Any

from bnaudit.documents import TrendReport
from bnaudit.errors import BnauditError, InputError, NoBatchNormError, UsageError
from bnaudit.inspection import inspect_file
from bnaudit.progress import Silent
from bnaudit.records.training import Course, LayerTrend, Moment
from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.runs.find import files_of
from bnaudit.runs.lines import is_watched, read_lines
from bnaudit.runs.measured import Measuring
from bnaudit.runs.place import axis_of, by_content, by_names
from bnaudit.runs.states import state_of
from bnaudit.summary.course import course
from bnaudit.summary.gain import ASSUMED_EPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bnaudit.progress import Progress
    from bnaudit.records.training import LayerState, Number, WatchRecord
    from bnaudit.runs.place import Places

_NO_BATCHNORM = "no BatchNorm in it"
Signature = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be read.

    Attributes:
        layers: shell-style pattern of the layers; None for all.
        entry: of checkpoints with several networks, the keys of the one to read, dotted; None for all.
        as_given: whether the files are in the order of the run as they are named.
        measuring: runs each checkpoint; None reads them alone.
    """

    layers: str | None = None
    entry: str | None = None
    as_given: bool = False
    measuring: Measuring | None = None


@dataclass(slots=True)
class _Found:
    """A checkpoint or a line, before it has its place."""

    moment: Moment
    places: Places = field(default_factory=dict)
    states: tuple[LayerState, ...] = ()


def trend(
    *runs: str | Path,
    code: str | None = None,
    layers: str | None = None,
    entry: str | None = None,
    as_given: bool = False,
    **options: Any,
) -> TrendReport:
    """The BatchNorm layers of a network over a training run.

    Args:
        *runs: checkpoints, folders and patterns of them, files that `bnaudit.watch` wrote.
        code: `package.module:factory` or `file.py:factory` of the network: each checkpoint is run with it.
        layers: shell-style pattern of the layers to report on; None for all.
        entry: of checkpoints with several networks, the keys of the one to read, dotted; None for all.
        as_given: take the files in the order in which they are named, whatever numbers they have.
        **options: fields of `bnaudit.AuditOptions` for running them: data, labels, loss, ...

    Returns:
        The report; `to_table()` and `to_json()` render it.

    Raises:
        BnauditError: nothing could be read; with the message, hint and exit code of the command line.
    """
    measuring = None
    if code is not None or options:
        from bnaudit.options import settings_of

        measuring = Measuring(code, settings_of(options, "trend"))
    asked = Asked(layers, entry, as_given, measuring)
    return trended([str(run) for run in runs], asked, Silent())


def trended(runs: Sequence[str], asked: Asked, progress: Progress) -> TrendReport:
    """The same, told how far it has come.

    Raises:
        InputError: no file could be read.
        UsageError: nothing was named, or the pattern fits no layer.
    """
    if not runs:
        raise UsageError("no run is named", hint="name checkpoints, a folder, or a pattern")
    paths = files_of(runs)
    progress.stage("reading checkpoints", len(paths))
    found: list[_Found] = []
    for path, places in zip(paths, by_names(paths), strict=True):
        found += _file(path, places, asked)
        progress.advance()
    found = _selected(_same_network(found), asked.layers)
    if all(f.moment.missing for f in found):
        first = found[0].moment
        if all((f.moment.missing or "").startswith(_NO_BATCHNORM) for f in found):
            raise NoBatchNormError(
                f"none of {len(found)} files has a BatchNorm layer",
                hint="`bnaudit inspect FILE` says why",
            )
        raise InputError(
            f"none of {len(found)} files could be read (the first: {first.missing})",
            hint="`bnaudit inspect FILE` says what is in one",
        )
    axis, found = _in_order(found, as_given=asked.as_given)
    notes = asked.measuring.notes if asked.measuring else []
    if any(f.moment.line is None and f.moment.missing is None for f in found):
        notes = [
            *notes,
            f"where a file stores no eps, {ASSUMED_EPS:g}, PyTorch's default, is assumed",
        ]
    return _report(tuple(runs), asked, axis, found, notes)


def _file(path: Path, places: Places, asked: Asked) -> list[_Found]:
    """The moments of a file."""
    if is_watched(path):
        return [_line(path, number, record) for number, record in read_lines(path)]

    def missing(what: str) -> list[_Found]:
        return [_Found(Moment(path=str(path), place=None, missing=what), places)]

    try:
        inspection = inspect_file(path, asked.entry)
    except BnauditError as error:
        return missing(error.message.removeprefix(f"{path}: "))
    states = tuple(map(state_of, inspection.batchnorms))
    places = {**places, **by_content(inspection.facts)}
    if not states:
        absence = inspection.absence
        return missing(f"{_NO_BATCHNORM} ({absence.case if absence else 'none'})")
    note: str | None = None
    loss: Number = NOT_REQUESTED
    if asked.measuring is not None:
        states, loss, note = asked.measuring.of(path, inspection.kind, states)
    moment = Moment(path=str(path), place=None, loss=loss, note=note, layers=len(states))
    return [_Found(moment, places, states)]


def _line(path: Path, number: int, record: WatchRecord | str) -> _Found:
    """A line of a file of `watch`."""
    if isinstance(record, str):
        return _Found(Moment(path=str(path), line=number, place=None, missing=record))
    moment = Moment(
        path=str(path), line=number, place=None, loss=record.loss, layers=len(record.layers)
    )
    return _Found(moment, {"step": float(record.step)}, record.layers)


def _same_network(found: list[_Found]) -> list[_Found]:
    """Those of the network that most of them have; what is of another is no moment of this run."""
    counts: dict[Signature, int] = {}
    for f in found:
        if f.states:
            signature = _signature(f)
            counts[signature] = counts.get(signature, 0) + 1
    if not counts:
        return found
    usual = max(counts, key=lambda s: counts[s])  # the first of the most frequent
    known = dict(usual)
    for f in found:
        own = dict(_signature(f))
        common = sum(known.get(name) == channels for name, channels in own.items())
        if not f.states or own == known:
            continue
        if not common:
            theirs = f"none of its {len(own)} layers (first: {next(iter(own))}) is among those of"
            f.moment = replace(f.moment, missing=f"another network: {theirs} the others")
            continue
        note = f"{common} of the run's {len(known)} layers, and {len(own) - common} others"
        f.moment = replace(f.moment, note="; ".join(filter(None, (f.moment.note, note))))
        f.states = tuple(s for s in f.states if known.get(s.name) == s.channels)
    return found


def _signature(found: _Found) -> Signature:
    return tuple((s.name, s.channels) for s in found.states)


def _selected(found: list[_Found], pattern: str | None) -> list[_Found]:
    """The layers that a pattern names."""
    if pattern is None or not any(f.states for f in found):
        return found
    names = list(dict.fromkeys(s.name for f in found for s in f.states))
    if not any(fnmatchcase(name, pattern) for name in names):
        raise UsageError(
            f"--layers {pattern!r} matches none of the {len(names)} layers",
            hint=f"the layers are: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}",
        )
    for f in found:
        f.states = tuple(s for s in f.states if fnmatchcase(s.name, pattern))
    return found


def _in_order(found: list[_Found], *, as_given: bool) -> tuple[str, list[_Found]]:
    """The axis, and the moments along it; behind them what has no place there."""
    read = [f for f in found if f.moment.missing is None]
    axis = "order" if as_given else axis_of([f.places for f in read])
    if axis == "order":
        for place, f in enumerate(read, 1):
            f.moment = replace(f.moment, place=float(place))
    for f in found:
        if axis == "order":
            continue
        own = f.places.get(axis)
        f.moment = replace(f.moment, place=own)
        if own is None and f.moment.missing is None:
            missing = f"no {axis} in its name or content, as the others have"
            f.moment = replace(f.moment, missing=missing)
    taken: dict[float, _Found] = {}
    for f in found:
        at = f.moment.place
        if at is None or f.moment.missing is not None:
            continue
        if (other := taken.get(at)) is None:
            taken[at] = f
        elif f.moment.line is not None and other.moment.line is not None:
            # A training that was taken up again repeats steps: what it did last is what became of it.
            other.moment = replace(other.moment, missing="the same step was watched again later")
            taken[at] = f
        else:
            also = f"{axis} {at:g} is also that of {other.moment.path}"
            f.moment = replace(f.moment, missing=also)
    ordered = sorted(taken.values(), key=lambda f: f.moment.place or 0)
    return axis, [*ordered, *(f for f in found if f.moment.missing is not None)]


def _report(
    runs: tuple[str, ...], asked: Asked, axis: str, found: list[_Found], notes: list[str]
) -> TrendReport:
    read = [f for f in found if f.moment.missing is None]
    by_name = [{s.name: s for s in f.states} for f in read]
    names = list(dict.fromkeys(name for states in by_name for name in states))
    places = [float(f.moment.place or 0) for f in read]
    layers = tuple(_layer([states.get(name) for states in by_name], places) for name in names)
    watched = all(f.moment.line is not None for f in read)
    stored = any(isinstance(layer.gain, Course) for layer in layers)
    measured = any(isinstance(layer.batch_gain, Course) for layer in layers)
    # Of passes that were watched their own: running statistics begin with their start.
    of = "batch" if measured and (watched or not stored) else "stored"
    for f in read:
        broken = sum(isinstance(s.gain, Skipped) and "finite" in s.gain.reason for s in f.states)
        if broken:
            note = f"{broken} of {len(f.states)} layers have no finite |gamma|/sigma"
            f.moment = replace(f.moment, note="; ".join(filter(None, (f.moment.note, note))))
    return TrendReport(
        runs=runs,
        code=asked.measuring.code if asked.measuring else None,
        axis=axis,
        moments=tuple(f.moment for f in found),
        network=_network(layers, places, "gain" if of == "stored" else "batch_gain"),
        network_of=of,  # type: ignore[arg-type]  # one of the two
        layers=layers,
        versions=asked.measuring.versions if asked.measuring else {},
        notes=tuple(notes),
    )


def _layer(states: list[LayerState | None], places: list[float]) -> LayerTrend:
    present = [(s, x) for s, x in zip(states, places, strict=True) if s is not None]
    dead = [s.dead_gamma for s, _ in present if not isinstance(s.dead_gamma, Skipped)]
    none = present[0][0].dead_gamma

    def over(quantity: str) -> Course | Skipped:
        """The course of one quantity; where there is no number anywhere, the reason of the first."""
        values = [(getattr(s, quantity), x) for s, x in present]
        numbers = [(v, x) for v, x in values if not isinstance(v, Skipped)]
        if not numbers:
            reason: Skipped = values[0][0]
            return reason
        return course([x for _, x in numbers], [v for v, _ in numbers])

    return LayerTrend(
        name=present[0][0].name,
        channels=present[0][0].channels,
        gain=over("gain"),
        batch_gain=over("batch_gain"),
        leak=over("leak"),
        measured=over("measured"),
        dead_first=dead[0] if dead else none,
        dead_last=dead[-1] if dead else none,
        states=tuple(states),
    )


def _network(layers: Sequence[LayerTrend], places: list[float], quantity: str) -> Course | Skipped:
    """The middle layer's, of those that have a number at every moment at which most have one."""
    rows = [list(_numbers(layer, quantity)) for layer in layers]
    columns = list(zip(*rows, strict=True))
    used = [i for i, column in enumerate(columns) if 2 * sum(map(isfinite, column)) > len(rows)]
    whole = [row for row in rows if all(isfinite(row[i]) for i in used)]
    if not used or not whole:
        return Skipped("no layer has it throughout")
    return course([places[i] for i in used], [median([row[i] for row in whole]) for i in used])


def _numbers(layer: LayerTrend, quantity: str) -> Iterator[float]:
    for state in layer.states:
        value = getattr(state, quantity) if state is not None else None
        yield value if isinstance(value, float) else float("nan")
