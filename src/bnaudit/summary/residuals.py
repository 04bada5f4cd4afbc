"""Which numbers are to be trusted: the integrity residual of each theorem beside its tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnaudit.records.curvature import SecondOrder
    from bnaudit.records.layer import FirstOrder, LayerReport
    from bnaudit.records.weights import WeightSpace


@dataclass(frozen=True, slots=True)
class Residual:
    """The integrity residual of one layer beside what it must stay below.

    Attributes:
        layer: the layer's label.
        value: the largest over channels and batches.
        tolerance: given by the precision of the run.
    """

    layer: str
    value: float
    tolerance: float

    @property
    def fraction(self) -> float:
        """Of the tolerance; infinite where not a number, so that such a layer ranks as worst."""
        if not isfinite(self.value):
            return inf
        if self.tolerance > 0:
            return self.value / self.tolerance
        return inf if self.value > 0 else 0.0

    @property
    def failed(self) -> bool:
        """Whether two ways to compute the same thing disagree beyond rounding."""
        return not self.value <= self.tolerance


def worst(residuals: Iterable[Residual | None]) -> Residual | None:
    """The residual that comes nearest to its tolerance or exceeds it most."""
    found = [residual for residual in residuals if residual is not None]
    return max(found, key=lambda residual: residual.fraction, default=None)


def first_order_residual(layer: LayerReport) -> Residual | None:
    """Autograd against the closed form of the gradient norm."""
    return _residual(layer, layer.first_order)


def second_order_residual(layer: LayerReport) -> Residual | None:
    """Double backward against the closed form of the curvature."""
    return _residual(layer, layer.second_order)


def weight_residual(layer: LayerReport) -> Residual | None:
    """Autograd's gradient of the feeding weights against the adjoint of their layer."""
    return _residual(layer, layer.weight_space)


def trusted_first_order(layer: LayerReport) -> FirstOrder | None:
    """The first-order numbers where they were measured and passed the integrity check."""
    group = layer.first_order
    return None if isinstance(group, Skipped) or _failed(first_order_residual(layer)) else group


def trusted_second_order(layer: LayerReport) -> SecondOrder | None:
    """The second-order numbers where they were measured and passed the integrity check."""
    group = layer.second_order
    return None if isinstance(group, Skipped) or _failed(second_order_residual(layer)) else group


def trusted_weight_space(layer: LayerReport) -> WeightSpace | None:
    """The numbers of the feeding weights where they were measured and passed the integrity check."""
    group = layer.weight_space
    return None if isinstance(group, Skipped) or _failed(weight_residual(layer)) else group


def bound_holds(slack: float) -> bool | None:
    """Whether the curvature stays below the theorem's right side, by their relative difference.

    None where that is no number.
    """
    return slack >= 0 if isfinite(slack) else None


def _residual(
    layer: LayerReport, group: FirstOrder | SecondOrder | WeightSpace | Skipped
) -> Residual | None:
    if isinstance(group, Skipped) or isinstance(group.residual, Skipped):
        return None
    return Residual(layer.label, group.residual, group.tolerance)


def _failed(residual: Residual | None) -> bool:
    return residual is not None and residual.failed
