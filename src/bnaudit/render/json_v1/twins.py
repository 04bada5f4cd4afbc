"""`twins`: the model against itself with BatchNorm's backward replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.json_v1.values import Json, Skips, number
from bnaudit.summary.twins import effect

if TYPE_CHECKING:
    from bnaudit.records.twins import ParameterEffect, Twin


def twins_entry(twins: tuple[Twin, ...] | Skipped) -> Json:
    """{entries, skipped}: entries are null where there are no twins, never an empty list."""
    skips = Skips()
    if isinstance(twins, Skipped):
        skips.add("entries", twins.reason)
        return {"entries": None, "skipped": skips.entries}
    entries = [_twin(twin, f"entries.{place}", skips) for place, twin in enumerate(twins)]
    return {"entries": entries, "skipped": skips.entries}


def _twin(twin: Twin, path: str, skips: Skips) -> Json:
    return {
        "kind": twin.kind,
        "layer": twin.layer,
        "loss_difference": number(twin.loss_difference, f"{path}.loss_difference", skips),
        "grad_norm": number(twin.grad_norm, f"{path}.grad_norm", skips),
        "twin_grad_norm": number(twin.twin_grad_norm, f"{path}.twin_grad_norm", skips),
        "ratio": number(effect(twin), f"{path}.ratio", skips),
        "parameters": [
            _parameter(parameter, f"{path}.parameters.{place}", skips)
            for place, parameter in enumerate(twin.parameters)
        ],
    }


def _parameter(parameter: ParameterEffect, path: str, skips: Skips) -> Json:
    return {
        "name": parameter.name,
        "grad_norm": number(parameter.grad_norm, f"{path}.grad_norm", skips),
        "twin_grad_norm": number(parameter.twin_grad_norm, f"{path}.twin_grad_norm", skips),
    }
