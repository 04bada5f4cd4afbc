"""JSON documents against golden files, one line an entry, so that a diff shows what a change does."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "json"
_FRACTION = re.compile(r"\d+(\.\d+)+(e[-+]?\d+)?")
UPDATE = os.environ.get("BNAUDIT_UPDATE_GOLDEN") == "1"


def check(name: str, text: str, *, exact: bool = True) -> None:
    """Compares a document with the golden one of that name.

    Args:
        name: of the file, without its suffix.
        text: the document as bnaudit wrote it.
        exact: whether its numbers are the same on every machine; if not, their places are compared.
    """
    document = json.loads(text)
    assert text == json.dumps(document, indent=2) + "\n", "not written as documents are"
    document["tool"]["version"] = "X.Y.Z"
    if not exact:
        document = _without_numbers(document)
    found = _lines(document)
    path = FOLDER / f"{name}.json"
    if UPDATE:
        path.write_text(found, encoding="utf-8", newline="\n")
    assert found == path.read_text(encoding="utf-8"), "BNAUDIT_UPDATE_GOLDEN=1 rewrites the file"


def _lines(document: dict[str, Any]) -> str:
    parts = []
    for key, value in document.items():
        if isinstance(value, list) and value:
            entries = ",\n".join(f"  {json.dumps(entry)}" for entry in value)
            parts.append(f"{json.dumps(key)}: [\n{entries}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _without_numbers(value: Any) -> Any:
    """Fractions, versions and times are another machine's; what is a number, and what is not, is ours."""
    if isinstance(value, dict):
        masked = {key: _without_numbers(item) for key, item in value.items()}
        return {**masked, **dict.fromkeys(masked.keys() & {"versions", "seconds"}, "...")}
    if isinstance(value, list):
        return [_without_numbers(item) for item in value]
    if isinstance(value, float):
        return "number"
    return _FRACTION.sub("#", value) if isinstance(value, str) else value
