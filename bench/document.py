"""Where the benches write what they measured."""

from __future__ import annotations

import re
from pathlib import Path

PERFORMANCE = Path(__file__).parents[1] / "docs" / "performance.md"


def written(name: str, rows: str) -> None:
    """Puts a table between its markers in docs/performance.md."""
    text = PERFORMANCE.read_text(encoding="utf-8")
    begin, end = f"<!-- numbers:begin {name} -->", "<!-- numbers:end -->"
    pattern = re.escape(begin) + r".*?" + re.escape(end)
    found, count = re.subn(pattern, f"{begin}\n{rows}\n{end}", text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{PERFORMANCE.name} has no place for {name}")
    PERFORMANCE.write_text(found, encoding="utf-8")
