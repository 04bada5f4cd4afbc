"""The pictures of an audit: |gamma|/sigma over the depth, theory, gradients, curvature, drift."""

from __future__ import annotations

from math import floor, log10
from typing import TYPE_CHECKING, Any

from bnaudit.records.values import Skipped, Spread
from bnaudit.render.figures.figure import (
    ABOUT,
    Figure,
    about,
    along,
    finite,
    logarithmic,
    positive,
    rows_of,
    series,
)
from bnaudit.render.text.words import percent, plural, scientific, significant
from bnaudit.summary.audit import gain_of, gain_statistics, is_synthetic
from bnaudit.summary.residuals import trusted_first_order, trusted_second_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnaudit.records.layer import FirstOrder, LayerReport
    from bnaudit.records.report import Report
    from bnaudit.render.figures.figure import Spec

GAIN = "|γ|/σ"


def figures(report: Report) -> list[Figure]:
    """The main one first; those without numbers are left out by whoever asks."""
    statistics = gain_statistics(report)
    gains = [(layer.label, gain_of(layer, statistics)) for layer in report.layers]
    boxes = [
        (
            label,
            None if isinstance(gain, Skipped) else _box(gain.minimum, gain.median, gain.maximum),
        )
        for label, gain in gains
    ]
    title = f"{GAIN} over the channels of each layer ({statistics} statistics)"
    drift = [] if is_synthetic(report) else [_drift(report)]
    return [
        spread(title, boxes),
        _agreement(report),
        _gradients(report),
        _curvature(report),
        *drift,
    ]


Box = tuple[float | None, float | None, float | None]


def _box(*values: Any) -> Box:
    low, middle, high = (positive(value) for value in values)
    return low, middle, high


def spread(title: str, boxes: Sequence[tuple[str, Box | None]]) -> Figure:
    """Smallest, middle and largest channel of each layer, on a logarithmic axis, with a line at 1."""

    def values(label: str, box: Box | None) -> Spec | None:
        if box is None or box[1] is None:
            return None
        low, middle, high = (box[1] if value is None else value for value in box)
        said = f"{GAIN} median {significant(middle)}, {significant(low)} to {significant(high)}"
        return {"low": low, "middle": middle, "high": high, "about": about(label, said)}

    rows = rows_of(boxes, values)
    ends = (row[end] for row in rows for end in ("low", "high"))
    y = {"type": "quantitative", "title": GAIN, **logarithmic(ends)}
    size = 36 if len(rows) <= 100 else 14
    spec = {
        "data": {"values": rows},
        "encoding": {"x": along(rows)},
        "layer": [
            {
                "mark": {"type": "rule", "strokeDash": [4, 3], "color": "#888", "aria": False},
                "encoding": {"x": None, "y": {"datum": 1, **y}},
            },
            {
                "mark": {"type": "rule", "opacity": 0.55, "aria": False},
                "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "size": size},
                "encoding": {"y": {"field": "middle", **y}, "description": ABOUT},
            },
        ],
    }
    return Figure(title, f"{_told(rows, 'middle', GAIN)} A dashed line marks 1.", spec)


def _told(
    rows: Sequence[Spec], field: str, what: str, write: Callable[[float], str] = significant
) -> str:
    """The ends of what is drawn, and where they are."""
    if not rows:
        return ""
    least = min(rows, key=lambda row: row[field])
    most = max(rows, key=lambda row: row[field])
    ends = (
        f"from {write(least[field])} at {least['name']} to {write(most[field])} at {most['name']}"
    )
    return f"{what} of {plural(len({row['n'] for row in rows}), 'layer')}, {ends}."


def _trusted(report: Report) -> list[tuple[str, FirstOrder | None]]:
    return [(layer.label, trusted_first_order(layer)) for layer in report.layers]


def _agreement(report: Report) -> Figure:
    def values(label: str, order: FirstOrder | None) -> Spec | None:
        if order is None:
            return None
        theory, found = positive(order.predicted), positive(order.measured)
        if theory is None or found is None:
            return None
        said = f"predicted {significant(theory)}, measured {significant(found)}"
        return {"theory": theory, "found": found, "about": about(label, said)}

    rows = rows_of(_trusted(report), values)
    both = [value for row in rows for value in (row["theory"], row["found"])]
    ends = [min(both, default=1) / 1.1, max(both, default=1) * 1.1]
    axis = logarithmic(both)
    axis["scale"] = {"type": "log", "domain": ends, "nice": False}
    x = {"type": "quantitative", "title": "|g|/|G| predicted by Theorem 4.1", **axis}
    y = {**x, "title": "|g|/|G| measured by autograd"}
    line = {
        "data": {"values": [{"end": end} for end in ends]},
        "mark": {"type": "line", "color": "#888", "strokeDash": [4, 3], "aria": False},
        "encoding": {"x": {"field": "end", **x}, "y": {"field": "end", **y}},
    }
    points = {
        "mark": {"type": "point", "opacity": 0.7},
        "encoding": {
            "x": {"field": "theory", **x},
            "y": {"field": "found", **y},
            "description": ABOUT,
        },
    }
    spec = {"data": {"values": rows}, "width": 360, "height": 300, "layer": [line, points]}
    worst = max((abs(row["found"] / row["theory"] - 1) for row in rows), default=0.0)
    alt = (
        f"Measured against predicted gradient-norm reduction of {plural(len(rows), 'layer')}; the farthest "
        f"is {percent(worst)} from the dashed line, on which both are the same."
    )
    return Figure("Predicted against measured", alt, spec)


def _gradients(report: Report) -> Figure:
    rows = []
    for field, title in (
        ("grad_out_norm", "|G| at the output"),
        ("grad_in_norm", "|g| at the input"),
    ):

        def values(
            label: str, order: FirstOrder | None, of: str = field, at: str = title
        ) -> Spec | None:
            found = None if order is None else getattr(order, of)
            middle = positive(found)
            if middle is None or not isinstance(found, Spread):
                return None
            said = f"{at} {significant(middle)}, quartiles {significant(found.q25)}, {significant(found.q75)}"
            ends = {"low": positive(found.q25), "high": positive(found.q75)}
            return {"of": at, "middle": middle, **ends, "about": about(label, said)}

        rows += rows_of(_trusted(report), values)
    of, silent = series()
    y = {
        "type": "quantitative",
        "title": "gradient norm",
        **logarithmic(row[at] for row in rows for at in ("low", "middle", "high")),
    }
    middle = {"field": "middle", **y}
    spec = {
        "data": {"values": rows},
        "encoding": {"x": along(rows)},
        "layer": [
            {
                "mark": {"type": "rule", "opacity": 0.4, "aria": False},
                "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}, "stroke": silent},
            },
            {
                "mark": {"type": "line", "aria": False},
                "encoding": {"y": middle, "stroke": silent, "strokeDash": silent},
            },
            {
                "mark": {"type": "point", "size": 24},
                "encoding": {"y": middle, "color": of, "shape": of, "description": ABOUT},
            },
        ],
    }
    out = [row for row in rows if row["of"].startswith("|G|")]
    return Figure("Gradient norm over the depth", _told(out, "middle", "|G|"), spec)


def _curvature(report: Report) -> Figure:
    def values(label: str, layer: LayerReport) -> Spec | None:
        order = trusted_second_order(layer)
        rho = None if order is None else finite(order.rayleigh)
        if rho is None or order is None:
            return None
        own = finite(order.correction_share)
        share = "" if own is None else f", BatchNorm's own share {percent(own)}"
        return {"rho": rho, "about": about(label, f"ρ {scientific(rho)}{share}")}

    rows = rows_of([(layer.label, layer) for layer in report.layers], values)
    y = {"field": "rho", "type": "quantitative", "title": "ρ = g'Hg/|g|²", **_signed(rows)}
    spec = {
        "data": {"values": rows},
        "mark": "point",
        "encoding": {"x": along(rows), "y": y, "description": ABOUT},
    }
    return Figure(
        "Curvature of the loss along the gradient", _told(rows, "rho", "ρ", scientific), spec
    )


def _signed(rows: Sequence[Spec]) -> Spec:
    """A logarithmic axis, on both sides of 0 where values are."""
    sizes = sorted(abs(row["rho"]) for row in rows if positive(abs(row["rho"])) is not None)
    axis: Spec = {"format": "~e"}
    if not sizes or all(positive(row["rho"]) is not None for row in rows):
        found = logarithmic(sizes)
        return {**found, "axis": {**axis, **found.get("axis", {})}}
    # Linear between the smallest tenth of the values and their negatives.
    constant = sizes[len(sizes) // 10]
    decades = range(floor(log10(constant)), floor(log10(sizes[-1])) + 1)
    step = 1 + len(decades) // 6
    ticks = [sign * 10.0**power for power in decades[::step] for sign in (1, -1)]
    return {
        "scale": {"type": "symlog", "constant": constant},
        "axis": {**axis, "values": sorted([0.0, *ticks])},
    }


def _drift(report: Report) -> Figure:
    rows = []
    for field, title in (("mean_drift", "mean, in σ"), ("variance_drift", "variance, log2")):

        def values(label: str, layer: LayerReport, of: str = field, at: str = title) -> Spec | None:
            found = layer.statistics
            drift = None if isinstance(found, Skipped) else getattr(found, of)
            if drift is None or isinstance(drift, Skipped):
                return None
            most, middle = finite(drift.maximum), finite(drift.median)
            if most is None or middle is None:
                return None
            said = (
                f"drift of the {at}: {significant(most)} in channel {drift.channel}, "
                f"median {significant(middle)}"
            )
            return {"of": at, "most": most, "middle": middle, "about": about(label, said)}

        rows += rows_of([(layer.label, layer) for layer in report.layers], values)
    of, silent = series()
    y = {"type": "quantitative", "title": "drift, median to largest channel"}
    ends = {"y": {"field": "middle", **y}, "y2": {"field": "most"}, "stroke": silent}
    most = {"y": {"field": "most", **y}, "color": of, "shape": of, "description": ABOUT}
    spec = {
        "data": {"values": rows},
        "encoding": {"x": along(rows)},
        "layer": [
            {"mark": {"type": "rule", "opacity": 0.4, "aria": False}, "encoding": ends},
            {"mark": {"type": "point"}, "encoding": most},
        ],
    }
    means = [row for row in rows if row["of"].startswith("mean")]
    alt = _told(
        means or rows, "most", "Largest drift of the mean, in σ," if means else "Largest drift"
    )
    return Figure("Drift of the batches against the running statistics", alt, spec)
