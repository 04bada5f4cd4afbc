"""The pictures of a landscape: figure 4 of Santurkar et al. for both forms of steps, and the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnaudit.escaping import printable
from bnaudit.records.values import Spread
from bnaudit.render.figures.figure import (
    ABOUT,
    Figure,
    about,
    along,
    finite,
    positive,
    rows_of,
    series,
)
from bnaudit.render.text.words import factor, plural, significant
from bnaudit.summary.landscape import share_of, walk_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnaudit.records.landscape import Group, Landscape, Point
    from bnaudit.render.figures.figure import Spec

_NETWORKS = {"batchnorm": "with BatchNorm", "frozen": "statistics frozen"}
_STEPS = {"raw": "η (raw)", "relative": "relative step"}
_QUANTITIES = {"loss": "loss", "change": "change of the gradient", "beta": "β: change / distance"}


def figures(record: Landscape) -> list[Figure]:
    """The main one first."""
    return [_walks(record), _layers(record)]


def _walks(record: Landscape) -> Figure:
    """A panel a quantity and form; lines are medians, bands quartiles over the batches."""
    rows = [
        _row(form, name, point)
        for form in _STEPS
        for network, name in _NETWORKS.items()
        for point in getattr(walk_of(record, form, network), "points", ())
    ]
    forms = [comparison.form for comparison in record.comparisons]
    width = 330 if len(forms) > 1 else 720
    spec = {
        "data": {"values": rows},
        "vconcat": [
            {"hconcat": [_panel(rows, form, what, width, record) for form in forms]}
            for what in _QUANTITIES
        ],
    }
    return Figure(
        "Along the gradient step, with BatchNorm and with its statistics frozen",
        _told(record),
        spec,
    )


def _row(form: str, name: str, point: Point) -> Spec:
    row: Spec = {"form": form, "of": name, "step": point.step}
    said = []
    for what, title in _QUANTITIES.items():
        found: Any = getattr(point, what)
        row[what] = finite(found)
        ends = (found.q25, found.q75) if isinstance(found, Spread) else (None, None)
        row[f"{what}_low"], row[f"{what}_high"] = map(finite, ends)
        said.append(f"{title} {'not finite' if row[what] is None else significant(row[what])}")
    row["about"] = about(f"{_STEPS[form]} {point.step:.3g}, {name}", ", ".join(said))
    return row


def _panel(rows: Sequence[Spec], form: str, what: str, width: int, record: Landscape) -> Spec:
    known = [r[end] for r in rows for end in (what, f"{what}_low") if r["form"] == form]
    logarithmic = all(value is None or positive(value) for value in known)
    scale = {"type": "log" if logarithmic else "symlog", "nice": False, "padding": 6}
    x = {
        "field": "step",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 8},
        "title": _STEPS[form],
        "axis": {"format": _format(r["step"] for r in rows if r["form"] == form), "tickCount": 4},
    }
    axis = {"format": _format(known), "tickCount": 5}
    y = {"type": "quantitative", "scale": scale, "title": _QUANTITIES[what], "axis": axis}
    layer = _marks(what, x, y)
    walk = walk_of(record, form, "batchnorm")
    if what == "loss" and walk is not None:
        at = {"datum": finite(walk.loss), **y}
        mark = {"type": "rule", "strokeDash": [4, 3], "color": "#888", "aria": False}
        layer.insert(0, {"mark": mark, "encoding": {"y": at}})
    own = f"datum.form == '{form}'"
    return {"width": width, "height": 150, "transform": [{"filter": own}], "layer": layer}


def _marks(what: str, x: Spec, y: Spec) -> list[Spec]:
    """Bands, lines and points; and above them where there is no number, a row for each network."""
    of, quiet = series()
    there = [{"filter": f"datum.{what} != null"}]
    at = {"x": x, "y": {"field": what, **y}}
    low, high = {"field": f"{what}_low", **y}, {"field": f"{what}_high"}
    return [
        {
            "transform": there,
            "mark": {"type": "area", "opacity": 0.25, "aria": False},
            "encoding": {"x": x, "y": low, "y2": high, "fill": quiet},
        },
        {
            "transform": there,
            "mark": {"type": "line", "aria": False, "strokeWidth": 1.8},
            "encoding": {**at, "stroke": quiet, "strokeDash": quiet},
        },
        {
            "transform": there,
            "mark": {"type": "point", "size": 28},
            "encoding": {**at, "color": of, "shape": of, "description": ABOUT},
        },
        *(
            {
                "transform": [{"filter": f"datum.{what} == null && datum.of == '{name}'"}],
                "mark": {"type": "text", "text": "✗", "fontSize": 12, "y": 6 + 12 * place},
                "encoding": {"x": x, "fill": quiet, "description": ABOUT},
            }
            for place, name in enumerate(_NETWORKS.values())
        ),
    ]


def _format(values: Iterable[float | None]) -> str:
    known = [abs(value) for value in values if value]
    return ".0e" if known and (max(known) >= 1e5 or min(known) < 1e-3) else "~g"


def _told(record: Landscape) -> str:
    parts = []
    for comparison in record.comparisons:
        one, two = (walk_of(record, comparison.form, network) for network in _NETWORKS)
        known = (finite(one and one.beta), finite(two and two.beta), finite(comparison.beta))
        if None not in known:
            betas = [significant(value) for value in known if value is not None]
            parts.append(
                f"by {comparison.form} steps effective beta-smoothness {betas[0]} with BatchNorm, "
                f"{betas[1]} frozen (ratio {betas[2]})"
            )
    shown = "; ".join(parts) or "no step is finite in both networks"
    return (
        f"Loss, change of the gradient and its ratio to the distance over the steps, "
        f"{plural(record.data.batches, 'batch')}: {shown}. A dashed line marks the loss at the weights."
    )


def _layers(record: Landscape) -> Figure:
    """How many times as large a layer's own beta is when frozen."""
    form = record.comparisons[-1].form

    def values(label: str, group: Group) -> Spec | None:
        walks = [share_of(group, form, network) for network in _NETWORKS]
        one, two = (None if walk is None else positive(walk.beta) for walk in walks)
        if one is None or two is None or positive(two / one) is None:
            return None
        kinds = {
            "weights": "in front of a BatchNorm",
            "batchnorm": "gamma and beta",
            "other": "other",
        }
        said = (
            f"β {significant(one)} with BatchNorm, {significant(two)} frozen ({factor(two / one)})"
        )
        fed = f", in front of {printable(group.feeds)}" if group.feeds else ""
        return {"ratio": two / one, "of": kinds[group.role], "about": about(label, said + fed)}

    rows = rows_of([(group.name, group) for group in record.groups], values)
    of, _ = series()
    scale = {"type": "log", "nice": False, "padding": 12}
    y = {"type": "quantitative", "scale": scale, "title": "β frozen / β"}
    spec = {
        "data": {"values": rows},
        "encoding": {"x": along(rows)},
        "layer": [
            {
                "mark": {"type": "rule", "strokeDash": [4, 3], "color": "#888", "aria": False},
                "encoding": {"x": None, "y": {"datum": 1, **y}},
            },
            {
                "mark": "point",
                "encoding": {
                    "y": {"field": "ratio", **y},
                    "color": of,
                    "shape": of,
                    "description": ABOUT,
                },
            },
        ],
    }
    ratios = [row["ratio"] for row in rows]
    ends = f"from {factor(min(ratios))} to {factor(max(ratios))}" if ratios else ""
    alt = (
        f"Each layer's own effective beta-smoothness when frozen over that with BatchNorm ({form} steps), "
        f"{ends}; above 1 BatchNorm smooths it."
    )
    return Figure("What freezing the statistics does to each layer's smoothness", alt, spec)
