"""docs/security.md: the tables that benches write have been written, and tell of no failure."""

from __future__ import annotations

import re
from pathlib import Path

from bench.fuzz.child import KINDS
from bench.fuzz.targets import TARGETS

TEXT = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")


def between(name: str) -> str:
    found = re.search(rf"<!-- numbers:begin {name} -->\n(.*?)<!-- numbers:end -->", TEXT, re.DOTALL)
    assert found is not None
    return found[1].strip()


def test_every_reader_has_a_row_of_zeros() -> None:
    head, _, *rows = (line.strip("| ").split(" | ") for line in between("fuzz").splitlines())
    assert head == ["reader", "files", *KINDS.values()]
    assert [row[0] for row in rows] == [*TARGETS, "all"]
    for name, count, *found in rows:
        assert int(count) > 0, name
        assert set(found) == {"0"}, name


def test_kills_left_whole_files() -> None:
    assert "0 partial or broken outputs" in between("kills")
