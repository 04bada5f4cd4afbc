"""The JSON Schema of bnaudit.yaml, for editors; made from the keys and rules, so it cannot lag behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bnaudit.config.keys import KEYS
from bnaudit.judge.rules import RULES

if TYPE_CHECKING:
    from bnaudit.config.keys import Key
    from bnaudit.judge.rule import Rule


def config_schema(rules: tuple[Rule, ...] = RULES) -> str:
    """The schema (draft 2020-12) as text."""
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:bnaudit:config:1",
        "title": "bnaudit.yaml",
        "description": "Configuration of bnaudit: defaults for the options of `bnaudit check`, and "
        "what the rules are judged by. Also the table [tool.bnaudit] of a pyproject.toml.",
        "type": ["object", "null"],
        "properties": {key.name: _property(key, rules) for key in KEYS},
        "additionalProperties": False,
    }
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def _property(key: Key, rules: tuple[Rule, ...]) -> dict[str, Any]:
    """Null is as good as an absent key."""
    described: dict[str, Any] = {
        "description": f"{key.meaning[0].upper()}{key.meaning[1:]}.",
        "anyOf": [key.kind.schema(rules), {"type": "null"}],
    }
    if key.default is not None:
        described["default"] = key.default
    return described
