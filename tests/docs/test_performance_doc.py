"""docs/performance.md: every table that a bench writes has been written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PERFORMANCE = Path(__file__).parents[2] / "docs" / "performance.md"
TABLES = re.findall(
    r"<!-- numbers:begin (\w+) -->\n(.*?)<!-- numbers:end -->",
    PERFORMANCE.read_text(encoding="utf-8"),
    re.DOTALL,
)


@pytest.mark.parametrize(("name", "rows"), TABLES, ids=[name for name, _ in TABLES])
def test_a_table_has_rows_of_one_width(name: str, rows: str) -> None:
    lines = rows.strip().splitlines()
    assert len(lines) > 2, name
    assert len({line.count("|") for line in lines}) == 1


def test_there_are_tables() -> None:
    assert len(TABLES) >= 8
