"""The page of a landscape: both networks along both walks, step by step, and a line a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.text.audit import origin
from bnaudit.render.text.sheet import HANGING
from bnaudit.render.text.sparkline import ends_of, sparkline
from bnaudit.render.text.table import LEFT, RIGHT, Column, Notes, Room, Row, Table
from bnaudit.render.text.verdict import BAD, CAREFUL, GOOD
from bnaudit.render.text.words import count, error_size, factor, plural, significant
from bnaudit.summary.landscape import share_of, summarize, walk_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.landscape import Group, GroupWalk, Landscape, Point, Walk
    from bnaudit.records.values import Metric
    from bnaudit.render.text.sheet import Entry, Sheet

_LABELS = len("weights") + 2
_TITLES = {
    "raw": "raw steps, w - eta g, as in the paper",
    "relative": "relative steps, each layer by its own size",
}
_FORMS = (
    "What η means depends on how large the weights in front of BatchNorm happen to be; r, the size of the "
    "whole relative step, does not, and the relative steps decide where they were walked."
)
_FROZEN = (
    "frozen: each BatchNorm is the affine map of its batch's statistics at these weights, held fast: the "
    "same function there, another around it. β: the largest |Δg| / distance over the steps, all layers "
    "moving at once; where a step is not finite, a lower bound."
)
_WORDS = {
    "smoother": ("SMOOTHER", GOOD),
    "rougher": ("ROUGHER", CAREFUL),
    "alike": ("ALIKE", CAREFUL),
    "unequal": ("UNEQUAL", BAD),
    "unknown": ("UNKNOWN", CAREFUL),
}


@dataclass(frozen=True, slots=True)
class _Step:
    """A step of both networks."""

    step: float
    batchnorm: Point
    frozen: Point

    @property
    def failed(self) -> str:
        """Batches without numbers, with BatchNorm and frozen."""
        counts = self.batchnorm.failed, self.frozen.failed
        return f"{counts[0]}, {counts[1]}" if any(counts) else ""


@dataclass(frozen=True, slots=True)
class _Course:
    """A network's walk, with its courses on the scale of both."""

    network: str
    walk: Walk
    loss: str
    change: str
    beta: str


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer in the walk that decides, and in the other."""

    group: Group
    raw: tuple[GroupWalk, GroupWalk] | Skipped
    relative: tuple[GroupWalk, GroupWalk] | Skipped

    @property
    def course(self) -> tuple[str, str]:
        """Changes with BatchNorm and frozen, on one scale."""
        pair = self.raw if isinstance(self.relative, Skipped) else self.relative
        if isinstance(pair, Skipped):
            return "", ""
        one, two = (walk.change for walk in pair)
        ends = ends_of(one, two)
        return sparkline(one, ends), sparkline(two, ends)

    def beta(self, form: str, place: int) -> Metric:
        """Of one of its walks."""
        pair = self.raw if form == "raw" else self.relative
        return pair if isinstance(pair, Skipped) else pair[place].beta


def write_landscape(sheet: Sheet, record: Landscape) -> None:
    """The whole page."""
    sheet.entries(" landscape", _header(record), _LABELS)
    for comparison in record.comparisons:
        _write_form(sheet, record, comparison.form)
    layers = [_layer(group) for group in record.groups]
    if layers:
        sheet.heading("by layer")
        rows = [Row(layer, layer.group.name) for layer in layers]
        table = Table(rows, _LAYERS, sheet.charset, sheet.width, margin=0, widen=False)
        sheet.table(table)
        sheet.notes(table.notes)
        sheet.paragraphs(table.legend())
    sheet.paragraphs([_FROZEN, _FORMS])
    word, style = _WORDS[summarize(record).outcome]
    sheet.closing(word, style, _sentence(record), hanging=HANGING)


def _header(record: Landscape) -> list[Entry]:
    data, agreement = record.data, record.agreement
    labels = f", labels from {record.labels}" if record.labels else ""
    made_up = "yellow" if data.source in {"synthetic", "example"} else ""
    torch = f", torch {record.versions['torch']}" if "torch" in record.versions else ""
    equal = "the same at the weights" if agreement.equal else "NOT the same at the weights"
    return [
        ("model", f"{record.model} ({record.format})", ""),
        (
            "weights",
            f"{count(record.moved)} moved, in {plural(len(record.groups), 'layer')}; "
            f"{plural(record.layers, 'BatchNorm call')}",
            "",
        ),
        (
            "data",
            f"{origin(data)}: {plural(data.batches, 'batch')} of up to {data.batch_size}{labels}",
            made_up,
        ),
        ("loss", f"{record.loss} ({record.loss_why})", ""),
        (
            "run",
            f"{plural(record.gradients, 'gradient')}, {record.device}, {record.dtype}, seed "
            f"{record.seed}{torch}",
            "",
        ),
        (
            "check",
            f"both networks are {equal}: loss {error_size(agreement.loss)}, outputs "
            f"{error_size(agreement.outputs)} apart (tolerance {error_size(agreement.tolerance)})",
            "" if agreement.equal else BAD,
        ),
        *(("note", note, "") for note in record.notes),
    ]


def _write_form(sheet: Sheet, record: Landscape, form: str) -> None:
    one, two = walk_of(record, form, "batchnorm"), walk_of(record, form, "frozen")
    if one is None or two is None:
        return
    sheet.heading(_TITLES[form])
    courses = _courses(one, two)
    table = Table(
        [Row(course, course.network) for course in courses],
        _COURSES,
        sheet.charset,
        sheet.width,
        margin=0,
        widen=False,
    )
    sheet.table(table)
    sheet.notes(table.notes)
    steps = [_Step(a.step, a, b) for a, b in zip(one.points, two.points, strict=True)]
    rows = [Row(step, f"step {_short(step.step)}") for step in steps]
    table_of_steps = Table(
        rows,
        _steps(form),
        sheet.charset,
        sheet.width,
        notes=Notes(len(rows)),
        margin=0,
        widen=False,
    )
    sheet.heading(f"{form} steps, one by one")
    sheet.table(table_of_steps)
    sheet.notes(table_of_steps.notes)


def _courses(one: Walk, two: Walk) -> list[_Course]:
    def course(walk: Walk, what: str) -> list[float | None]:
        found = [getattr(point, what) for point in walk.points]
        return [None if isinstance(value, Skipped) else value.median for value in found]

    lines = {}
    for what in ("loss", "change", "beta"):
        ends = ends_of(course(one, what), course(two, what))
        lines[what] = [sparkline(course(walk, what), ends) for walk in (one, two)]
    names = ("BatchNorm", "frozen")
    return [
        _Course(name, walk, *(lines[what][place] for what in ("loss", "change", "beta")))
        for place, (name, walk) in enumerate(zip(names, (one, two), strict=True))
    ]


def _layer(group: Group) -> _Layer:
    pairs = []
    for form in ("raw", "relative"):
        one, two = share_of(group, form, "batchnorm"), share_of(group, form, "frozen")
        known = one is not None and two is not None
        pairs.append((one, two) if known else Skipped("not requested"))
    return _Layer(group, *pairs)  # type: ignore[arg-type]  # both or neither


def _sentence(record: Landscape) -> str:
    if not record.agreement.equal:
        return (
            "the two networks are not the same at the weights: nothing follows from comparing them"
        )
    parts = []
    for comparison in reversed(record.comparisons):
        form = comparison.form
        one, two = walk_of(record, form, "batchnorm"), walk_of(record, form, "frozen")
        if one is None or two is None:
            continue
        ends = [_short(one.points[place].step) for place in (0, -1)]
        over = (
            f"{'relative steps' if form == 'relative' else 'η'} {' to '.join(dict.fromkeys(ends))}"
        )
        ratio = ""
        if not isinstance(comparison.beta, Skipped):  # no quotient of medians
            each = " batch by batch" if comparison.beta.n > 1 else ""
            ratio = f" ({factor(comparison.beta.median)}{each})"
        parts.append(
            f"over {over} effective β {_number(one.beta)} with BatchNorm, {_number(two.beta)} frozen{ratio}, "
            f"the loss varies by {_number(one.variation)} and {_number(two.variation)}"
        )
        if comparison.incomparable:
            parts.append(f"{plural(comparison.incomparable, 'step')} not finite there")
    batches = record.data.batches
    return "; ".join(
        [*parts, "one batch" if batches == 1 else f"median of {plural(batches, 'batch')}"]
    )


def _short(step: float) -> str:
    """0.001 as it was typed."""
    return f"{step:.3g}"


def _number(value: Metric) -> str:
    return "–" if isinstance(value, Skipped) else significant(value.median)


def _failed(steps: Sequence[_Step], _: int) -> bool:
    return any(step.failed for step in steps)


_Cells = Callable[..., Column[_Course]]
_number_of: _Cells = partial(Column, align=RIGHT)
_COURSES: tuple[Column[_Course], ...] = (
    Column("network", "network", str, 1, align=LEFT, room=Room(9, 9)),
    _number_of("|g|", "walk.grad_norm", significant, 4),
    _number_of("loss", "walk.loss", significant, 2),
    Column("over the steps", "loss", str, 2, align=LEFT, room=Room(10, 40)),
    _number_of("varies by", "walk.variation", significant, 3),
    _number_of("|Δg|", "walk.change", significant, 5),
    Column("over the steps", "change", str, 6, align=LEFT, room=Room(10, 40)),
    _number_of("β", "walk.beta", significant, 2),
    Column("over the steps", "beta", str, 7, align=LEFT, room=Room(10, 40)),
)


def _steps(form: str) -> list[Column[_Step]]:
    cells: Callable[..., Column[_Step]] = partial(Column, align=RIGHT)
    return [
        Column("η" if form == "raw" else "r", "step", _short, 1),
        cells("BatchNorm", "batchnorm.loss", significant, 2, group="loss"),
        cells("frozen", "frozen.loss", significant, 2, group="loss"),
        cells("BatchNorm", "batchnorm.change", significant, 4, group="|Δg|", from_width=72),
        cells("frozen", "frozen.change", significant, 4, group="|Δg|", from_width=72),
        cells("BatchNorm", "batchnorm.beta", significant, 3, group="|Δg| / distance", about=None),
        cells("frozen", "frozen.beta", significant, 3, group="|Δg| / distance", about=None),
        cells("✗", "failed", str, 5, when=_failed),
    ]


def _beta(form: str, place: int) -> Callable[[_Layer], str | Skipped]:
    def cell(layer: _Layer) -> str | Skipped:
        found = layer.beta(form, place)
        return found if isinstance(found, Skipped) else significant(found.median)

    return cell


def _has(form: str) -> Callable[[Sequence[_Layer], int], bool]:
    return lambda layers, _: not isinstance(getattr(layers[0], form), Skipped)


_Of = Callable[..., Column[_Layer]]
_raw: _Of = partial(Column, group="raw β", align=RIGHT, when=_has("raw"))
_relative: _Of = partial(Column, group="relative β", align=RIGHT, when=_has("relative"))
_OF_LAYERS = (1, 0, "β of a layer: its own |Δg| over its own distance")
_LAYERS: tuple[Column[_Layer], ...] = (
    Column("layer", "group.name", str, 1, align=LEFT, room=Room(14, 40)),
    Column("in front of", "group.feeds", str, 6, align=LEFT, room=Room(16, 32)),
    Column("|w|", "group.weight_norm", significant, 5, align=RIGHT),
    Column(
        "radial",
        "group.radial",
        error_size,
        4,
        (
            2,
            0,
            "radial: |<g, w>| / (|g| |w|), 0 where the loss does not depend on how large the weights are",
        ),
        align=RIGHT,
    ),
    _relative(
        "BatchNorm",
        "",
        _beta("relative", 0),
        2,
        _OF_LAYERS,
    ),
    _relative("frozen", "", _beta("relative", 1), 2),
    _raw("BatchNorm", "", _beta("raw", 0), 3, _OF_LAYERS),
    _raw("frozen", "", _beta("raw", 1), 3),
    Column(
        "BatchNorm",
        "course",
        lambda pair: pair[0],
        7,
        (3, 0, "|Δg|: of the layer's own gradient over the steps, both on one scale"),
        group="|Δg|",
        align=LEFT,
        room=Room(10, 20),
        from_width=100,
    ),
    Column(
        "frozen",
        "course",
        lambda pair: pair[1],
        7,
        group="|Δg|",
        align=LEFT,
        room=Room(10, 20),
        from_width=100,
    ),
)
