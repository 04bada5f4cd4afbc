"""`bnaudit.diff/1`: what changed between two reports or models, field by field."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bnaudit._version import __version__
from bnaudit.records.values import Skipped
from bnaudit.render.json_v1.document import finding_entry
from bnaudit.render.json_v1.values import Json, Skips, number

if TYPE_CHECKING:
    from bnaudit.records.diff import Diff, FindingChange, Movement, NumberChange
    from bnaudit.records.snapshot import LayerSnapshot, Quantity, Snapshot

SCHEMA = "bnaudit.diff/1"
_ARRAYS = ("gamma", "beta", "running_mean", "running_var")


def diff_to_json(diff: Diff) -> str:
    """The comparison as one strict, pure ASCII JSON document."""
    skips = Skips()
    document: Json = {
        "schema": SCHEMA,
        "tool": {"name": "bnaudit", "version": __version__},
        "kind": diff.new.kind,
        "old": _side(diff.old),
        "new": _side(diff.new),
        "settings": [{"name": name, "old": old, "new": new} for name, old, new in diff.settings],
        "findings": {
            "appeared": [finding_entry(finding) for finding in diff.appeared],
            "worse": [_change(change) for change in diff.worse],
            "better": [_change(change) for change in diff.better],
            "gone": [finding_entry(finding) for finding in diff.gone],
            "not_judged": [finding_entry(finding) for finding in diff.not_judged],
        },
        "layers": {
            "added": [_layer(layer) for layer in diff.added],
            "removed": [_layer(layer) for layer in diff.removed],
            "renamed": [{"old": old, "new": new} for old, new in diff.renamed.items()],
        },
        "numbers": [_number(change) for change in diff.numbers],
        "movements": _movements(diff, skips),
        "summary": _summary(diff),
        "notes": list(diff.notes),
        "skipped": skips.entries,
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=True) + "\n"


def _side(side: Snapshot) -> Json:
    return {
        "path": side.path,
        "model": side.model,
        "version": side.tool,
        "layers": len(side.layers),
        "findings": len(side.findings),
    }


def _change(change: FindingChange) -> Json:
    return {
        "old": finding_entry(change.old),
        "new": finding_entry(change.new),
        "why": change.why,
    }


def _layer(layer: LayerSnapshot) -> Json:
    return {"label": layer.label, "kind": layer.kind or None, "channels": layer.channels}


def _number(change: NumberChange) -> Json:
    return {
        "layer": change.layer,
        "metric": change.metric,
        "old": _quantity(change.old),
        "new": _quantity(change.new),
        "relative_change": change.size,
    }


def _quantity(quantity: Quantity) -> Json:
    """A number of one batch has no interval."""
    known = quantity.spread_known
    return {
        "value": quantity.value,
        "low": quantity.low if known else None,
        "high": quantity.high if known else None,
    }


def _movements(diff: Diff, skips: Skips) -> list[Json] | None:
    if isinstance(diff.movements, Skipped):
        skips.add("movements", diff.movements.reason)
        return None
    frozen = set(diff.frozen)
    return [_movement(movement, movement.layer in frozen) for movement in diff.movements]


def _movement(movement: Movement, thawed: bool) -> Json:
    skips = Skips()
    return {
        "layer": movement.layer,
        **{name: number(getattr(movement, name), name, skips) for name in _ARRAYS},
        "tolerance": movement.tolerance,
        "parameters_moved": movement.parameters,
        "statistics_moved": movement.statistics,
        "frozen_but_moved": thawed,
        "skipped": skips.entries,
    }


def _summary(diff: Diff) -> Json:
    moved = () if isinstance(diff.movements, Skipped) else diff.movements
    return {
        "appeared": len(diff.appeared),
        "worse": len(diff.worse),
        "better": len(diff.better),
        "gone": len(diff.gone),
        "unchanged": diff.unchanged,
        "added": len(diff.added),
        "removed": len(diff.removed),
        "renamed": len(diff.renamed),
        "numbers": len(diff.numbers),
        "moved": sum(not movement.same for movement in moved),
        "frozen_but_moved": len(diff.frozen),
        "regressions": diff.regressions,
        "fail_on": None if diff.fail_on is None else diff.fail_on.label,
        "exit_code": diff.exit_code,
    }
