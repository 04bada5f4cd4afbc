"""Where the benches write what they measured."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PERFORMANCE, SECURITY = DOCS / "performance.md", DOCS / "security.md"


def written(name: str, rows: str, page: Path = PERFORMANCE) -> None:
    """Puts a table between its markers in a page of docs/."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- numbers:begin {name} -->", "<!-- numbers:end -->"
    pattern = re.escape(begin) + r".*?" + re.escape(end)
    found, count = re.subn(pattern, f"{begin}\n{rows}\n{end}", text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{page.name} has no place for {name}")
    page.write_text(found, encoding="utf-8")
