"""Rules as one strict JSON document of schema `bnaudit.rules/1`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bnaudit._version import __version__
from bnaudit.render.json_v1.document import finding_entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.judge.catalogue import Entry
    from bnaudit.render.json_v1.values import Json

SCHEMA = "bnaudit.rules/1"


def rules_to_json(entries: Sequence[Entry]) -> str:
    """The rules with everything that they say of themselves; validates against `schema rules`."""
    document: Json = {
        "schema": SCHEMA,
        "tool": {"name": "bnaudit", "version": __version__},
        "rules": [_rule(entry) for entry in entries],
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=True) + "\n"


def _rule(entry: Entry) -> Json:
    rule = entry.rule
    return {
        "id": rule.id,
        "name": rule.name,
        "severity": rule.severity.label,
        "needs": rule.needs.value,
        "summary": rule.summary,
        "why": rule.why,
        "fix": rule.fix,
        "references": list(rule.references),
        "thresholds": [
            {
                "name": limit.name,
                "value": limit.value,
                "meaning": limit.meaning,
                "origin": limit.origin,
            }
            for limit in rule.thresholds
        ],
        "example": None if entry.example is None else finding_entry(entry.example),
    }
