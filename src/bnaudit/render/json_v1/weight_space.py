"""`weight_space`: the gradient of the weights that feed one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.json_v1.values import Json, Skips, metric, nulls, number

if TYPE_CHECKING:
    from bnaudit.records.weights import WeightSpace

WEIGHT_SPACE = (
    "feeder",
    "spectral_norm",
    "spectral_norm_centred",
    "grad_norm",
    "bound",
    "bound_centred",
    "bound_without",
    "tightness",
    "weight_ratio",
    "projection",
    "violations",
    "residual",
    "tolerance",
)


def weight_space_entry(space: WeightSpace | Skipped, path: str, skips: Skips) -> Json:
    """The group with all its keys, whatever was measured."""
    if isinstance(space, Skipped):
        return nulls(WEIGHT_SPACE, space, path, skips)
    return {
        "feeder": space.feeder,
        "spectral_norm": metric(space.spectral_norm, f"{path}.spectral_norm", skips),
        "spectral_norm_centred": metric(
            space.spectral_norm_centred, f"{path}.spectral_norm_centred", skips
        ),
        "grad_norm": metric(space.grad_norm, f"{path}.grad_norm", skips),
        "bound": metric(space.bound, f"{path}.bound", skips),
        "bound_centred": metric(space.bound_centred, f"{path}.bound_centred", skips),
        "bound_without": metric(space.bound_without, f"{path}.bound_without", skips),
        "tightness": metric(space.tightness, f"{path}.tightness", skips),
        "weight_ratio": metric(space.weight_ratio, f"{path}.weight_ratio", skips),
        "projection": metric(space.projection, f"{path}.projection", skips),
        "violations": _violations(space, f"{path}.violations", skips),
        "residual": number(space.residual, f"{path}.residual", skips),
        "tolerance": number(space.tolerance, f"{path}.tolerance", skips),
    }


def _violations(space: WeightSpace, path: str, skips: Skips) -> int | None:
    """A count of 0 beside withheld numbers would read as a bound that was seen to hold."""
    if isinstance(space.tightness, Skipped):
        skips.add(path, space.tightness.reason)
        return None
    return space.violations
