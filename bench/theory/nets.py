"""Tables about the shipped networks, trained and untrained."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch
from fixtures.nets import NETS

from bench.theory.runs import FIXTURES, at, audit, trained, untrained, value
from bench.theory.slips import EPS, M, problem
from bench.theory.text import number, order, share, table
from bnaudit.initialisation import compare
from bnaudit.measure.moments import stable_moments
from bnaudit.measure.theory import first_order
from bnaudit.options import AuditOptions
from bnaudit.progress import Silent
from bnaudit.records.initialisation import Alignment, InitReport, Range, ScaleTest
from bnaudit.records.initialisation import Rows as WeightRows

if TYPE_CHECKING:
    from bnaudit.records.report import Report

_DRIFTS = ("mean_drift", "variance_drift")
_PARTS = ("median", "p95", "maximum", "sampling_error")
_FD = "first_order.finite_difference.relative_error"
_SAMPLING = "statistics.mean_drift.sampling_error"


def layers() -> str:
    """Both shipped networks, layer by layer."""
    header = ["layer", "m", "abs(gamma)/sigma", "predicted", "fd error", "by mean", "by xhat"]
    header += ["weight ratio", "Pi_w", "tightness", "T share", "rho / scaled"]
    rows = []
    for net in NETS:
        for layer in audit("scripted.pt", net, batches=1, verify_gradients=-1).layers:
            one = [f"{net} {layer.label}", str(layer.m), number(at(layer, "gain_batch.median"))]
            one += [number(at(layer, "first_order.predicted")), order(at(layer, _FD))]
            one += [
                share(at(layer, "first_order.removed_mean")),
                share(at(layer, "first_order.removed_xhat")),
            ]
            one += [number(at(layer, "weight_space.weight_ratio"))]
            one += [number(at(layer, "weight_space.projection"))]
            one += [number(at(layer, "weight_space.tightness"))]
            one += [number(at(layer, "second_order.correction_share"))]
            quotient = at(layer, "second_order.rayleigh") / at(
                layer, "second_order.rayleigh_scaled"
            )
            rows.append([*one, number(quotient)])
    return table(header, rows)


_RESIDUALS = {
    "integrity, first order": "first_order",
    "integrity, second order": "second_order",
    "integrity, weight space": "weight_space",
}


def residuals() -> str:
    """The worst of both networks, by precision; the tolerance in parentheses."""
    dtypes = ("float64", "float32", "bfloat16")
    runs = {
        dtype: [a for net in NETS for a in audit("scripted.pt", net, dtype=dtype).layers]
        for dtype in dtypes
    }
    rows = []
    for title, group in _RESIDUALS.items():
        cells = []
        for dtype in dtypes:
            worst = max(at(layer, f"{group}.residual") for layer in runs[dtype])
            allowed = max(at(layer, f"{group}.tolerance") for layer in runs[dtype])
            skipped = math.isnan(worst)
            cells.append("skipped" if skipped else f"{order(worst)} ({order(allowed)})")
        rows.append([title, *cells])
    wrong = [number(_wrong_capture(getattr(torch, dtype))) for dtype in dtypes]
    rows.append(["first order, a skip connection captured too", *wrong])
    return table(["largest residual (tolerance)", *dtypes], rows)


def _wrong_capture(dtype: torch.dtype) -> float:
    """The residual where the gradient at the input includes that of a skip connection."""
    p = problem()
    x, big_g, g = (t.to(dtype) for t in (p.x, p.big_g, p.g + 0.5 * p.big_g))
    found = first_order(stable_moments(x, big_g, g), p.gamma, EPS, M)
    return float(found.residual.max())


def bound() -> str:
    """How often the second-order bound as stated holds."""
    rows = []
    for net in NETS:
        rows.append([f"{net}, trained", *held(audit(trained(net), net, channels=True))])
        for seed in range(2):
            report = audit(untrained(net, seed), net, channels=True)
            rows.append([f"{net}, untrained, seed {seed}", *held(report)])
    header = ["network", "channels where it holds", "layers where it holds", "median abs(g)/abs(G)"]
    return table(header, rows)


def held(report: Report) -> list[str]:
    """Channels, layers, and the median ratio; a channel without a gradient counts as the others do."""
    holding = sum(at(a, "second_order.bound_holds") * a.channels for a in report.layers)
    whole = sum(at(a, "second_order.bound_slack") >= 0 for a in report.layers)
    ratio = median(at(a, "first_order.measured") for a in report.layers)
    channels = sum(a.channels for a in report.layers)
    return [f"{holding:.0f} of {channels}", f"{whole} of {len(report.layers)}", number(ratio)]


def drift() -> str:
    """Both shipped networks against their own running statistics."""
    header = ["network", "values", "mean drift: median", "p95", "max", "sampling error"]
    header += ["variance drift: median", "p95", "max", "sampling error"]
    rows = []
    for net in NETS:
        found = audit("scripted.pt", net, metrics=("statistics",)).layers
        for which in (found[0], found[-1]):
            cells = [f"{net} {which.label}", str(round(at(which, _SAMPLING) ** -2))]
            names = [f"{kind}.{name}" for kind in _DRIFTS for name in _PARTS]
            rows.append([*cells, *(number(at(which, f"statistics.{name}")) for name in names)])
    return table(header, rows)


def initialisation() -> str:
    """The lemma from the start of the shipped networks to where training took them."""
    header = ["network", "k of the weights", "gain / abs(W0 - W)^2", "k of the rows"]
    header += ["change of the loss, W/4 to 4 W", "radial share of dL/dw", "residual"]
    rows = []
    for net in NETS:
        with tempfile.TemporaryDirectory() as folder:
            start = Path(folder) / "start.pt"
            torch.save(untrained(net, _START_SEED).state_dict(), start)
            options = AuditOptions(data=str(FIXTURES / net / "batch.npz"))
            found = compare(start, FIXTURES / net / "scripted.pt", options, Silent())
        rows.append([net, *_lemma(found)])
    return table(header, rows)


_START_SEED = 2  # of fixtures/build.py


def _lemma(found: InitReport) -> list[str]:
    fed = [w for w in found.weights if w.followed == "yes"]
    whole = [w.alignment for w in fed if isinstance(w.alignment, Alignment)]
    ranges = [w.rows.k for w in fed if isinstance(w.rows, WeightRows)]
    scale = [w.scale for w in fed if isinstance(w.scale, ScaleTest)]
    ks, shares = [value(a.k) for a in whole], [value(a.gain_share) for a in whole]
    rows = [k for k in ranges if isinstance(k, Range)]
    return [
        f"{number(min(ks))} to {number(max(ks))}",
        f"{number(min(shares))} to {number(max(shares))}",
        f"{number(min(k.minimum for k in rows))} to {number(max(k.maximum for k in rows))}",
        order(max(value(t.largest_change) for t in scale)),
        order(max(value(t.radial) for t in scale)),
        order(max(value(t.residual) for t in scale)),
    ]
