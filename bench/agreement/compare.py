"""One model by the sweep in three details and by double backward, and how far they are apart."""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard
from unittest import mock

import torch
from torch.nn import functional

import bnaudit
from bnaudit.measure import second_order_sweep
from bnaudit.records.curvature import DOUBLE_BACKWARD, SWEEP, SecondOrder
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Skipped, Spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report

DETAILS: dict[str, dict[str, Any]] = {
    "curvature": {"metrics": ("second_order",), "channels": False},
    "bound": {"metrics": ("second_order_bound",), "channels": False},
    "channels": {"metrics": ("second_order_bound",), "channels": True},
}


@dataclass(frozen=True, slots=True)
class Agreement:
    """What became of one model.

    Attributes:
        layers: BatchNorm calls that were executed.
        compared: those that both ways measured, in every detail.
        swept: those that no detail left to double backward.
        differences: by detail, the largest over the layers.
        worst: by detail, the layer and value where that is.
        residual: the largest slope residual of the sweep.
        notes: why layers were not swept or not compared.
        failed: why there is nothing of this.
    """

    layers: int = 0
    compared: int = 0
    swept: int = 0
    differences: dict[str, float] = field(default_factory=dict)
    worst: dict[str, str] = field(default_factory=dict)
    residual: float = float("nan")
    notes: list[str] = field(default_factory=list)
    failed: str = ""


@contextmanager
def twice_differentiable_hardsigmoid() -> Iterator[None]:
    """Hardsigmoid with PyTorch's own values and slope, and the second derivative that it lacks, zero.

    Its slope is 1/6 rounded to float32 in every precision, off by 3e-8.
    """
    sixth = float(torch.tensor(1 / 6, dtype=torch.float32))

    def plain(x: Tensor) -> Tensor:
        sloped = functional.relu6(x + 3) * sixth
        return sloped + (functional.relu6(x + 3) / 6 - sloped).detach()

    def in_place(x: Tensor) -> Tensor:
        return x.copy_(plain(x))

    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library.impl("hardsigmoid", plain, "AutogradCPU")
        library.impl("hardsigmoid_", in_place, "AutogradCPU")
    try:
        yield
    finally:
        library._destroy()


def compared(model: Any, x: Tensor, **options: Any) -> Agreement:
    """Audits a model four times.

    Args:
        model: as `bnaudit.audit` takes it.
        x: the batch.
        options: of the audit.
    """
    given = {"data": x, "batches": 1, "batch_size": len(x), "dtype": "float64", **options}

    def audited(detail: str, *, sweep: bool) -> Report:
        with mock.patch.object(second_order_sweep, "sweep_pays", return_value=sweep):
            return bnaudit.audit(model, **given, **DETAILS[detail])

    with twice_differentiable_hardsigmoid():
        reference = audited("channels", sweep=False)
    return gathered({detail: audited(detail, sweep=True) for detail in DETAILS}, reference)


def gathered(reports: dict[str, Report], reference: Report) -> Agreement:
    """The differences between reports by the sweep and one by double backward.

    Args:
        reports: by detail.
        reference: with values by channel.
    """
    names = [layer.label for layer in reference.layers]
    notes: list[str] = []
    swept, both = set(names), set(names)
    differences, worst, residuals = {}, {}, [0.0]
    for detail, report in reports.items():
        if [layer.label for layer in report.layers] != names:
            return Agreement(failed=f"{detail}: the layers have other names")
        found: list[tuple[float, str]] = []
        for ours, theirs in zip(report.layers, reference.layers, strict=True):
            a, b, where = ours.second_order, theirs.second_order, ours.label
            if not _is_measured(a) or not _is_measured(b):
                notes.append(f"{detail}, {where}: {_reason(a)} | {_reason(b)}")
                both.discard(where)
            elif a.method == DOUBLE_BACKWARD:
                notes.append(f"{detail}, {where}: {_obstacle(ours)}")
                swept.discard(where)
            else:
                found += [(d, f"{where} {value}") for value, d in _apart(a, b, detail).items()]
                residuals += [float(a.residual)] if a.method == SWEEP else []
        differences[detail], worst[detail] = max(found, default=(float("nan"), ""))
    return Agreement(
        len(names), len(both), len(both & swept), differences, worst, max(residuals), notes
    )


def _is_measured(order: object) -> TypeGuard[Any]:
    return isinstance(order, SecondOrder) and isinstance(order.measured, Spread)


def _reason(order: object) -> str:
    if isinstance(order, SecondOrder):
        return f"residual {order.residual}"
    return str(getattr(order, "reason", order))


def _obstacle(layer: LayerReport) -> str:
    mode = layer.first_order.forward_mode if isinstance(layer.first_order, FirstOrder) else None
    return str(getattr(mode, "reason", "left to double backward"))


def _value(metric: object) -> float:
    return metric.median if isinstance(metric, Spread) else float("nan")


def _apart(a: SecondOrder, b: SecondOrder, detail: str) -> dict[str, float]:
    """Each value's distance in units of the parts that it is the sum of."""
    correction = _value(b.correction)
    scale = abs(_value(b.transported)) + abs(correction)
    scales = dict.fromkeys(("measured", "predicted", "transported", "correction"), scale)
    if detail != "curvature":
        scales["rayleigh_scaled"] = abs(_value(b.rayleigh_scaled))
        scales["bound"] = abs(_value(b.bound) - correction) + abs(correction)
    found = {
        name: _relative(abs(_value(getattr(a, name)) - _value(getattr(b, name))), size)
        for name, size in scales.items()
    }
    if detail == "channels":
        ours, theirs = _rows(a), _rows(b)
        apart, sizes = (ours - theirs).abs().sum(0).tolist(), theirs.abs().sum(0).tolist()
        for name, d, size in zip(("measured", "predicted", "bound"), apart, sizes, strict=True):
            found[f"rows of {name}"] = _relative(d, size)
    return found


def _rows(order: SecondOrder) -> torch.Tensor:
    rows = () if isinstance(order.rows, Skipped) else order.rows
    return torch.tensor([astuple(row) for row in rows], dtype=torch.float64)


def _relative(difference: float, size: float) -> float:
    if difference == size == 0:
        return 0.0
    found = difference / size if size else float("inf")
    return float("inf") if math.isnan(found) else found
