"""The JSON Schema of bnaudit.yaml, for editors; made from the keys and rules, so it cannot lag behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bnaudit.config.options import KEYS
from bnaudit.judge.rules import RULES

if TYPE_CHECKING:
    from bnaudit.judge.rule import Rule


def config_schema(rules: tuple[Rule, ...] = RULES) -> str:
    """The schema (draft 2020-12) as text."""
    properties: dict[str, dict[str, Any]] = {}
    for name, option in KEYS.items():
        kinds = [option.kind.schema(rules), {"type": "null"}]  # null is as good as an absent key
        properties[name] = {"description": f"{option.clause}.", "anyOf": kinds}
        if option.default is not None:
            properties[name]["default"] = option.default
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:bnaudit:config:1",
        "title": "bnaudit.yaml",
        "description": "Configuration of bnaudit: defaults for the options of `bnaudit check`, and "
        "what the rules are judged by. Also the table [tool.bnaudit] of a pyproject.toml.",
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": False,
    }
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"
