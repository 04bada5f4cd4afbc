"""Every row of docs/formats.md names a test, and the test is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
TABLES = TEXT.partition("## ONNX")[2]
NAMED = re.findall(r"`((?:[\w-]+/)*test_\w+\.py)(?:::(\w+))?`", TABLES)


def test_every_row_names_one() -> None:
    rows = [line for line in TABLES.splitlines() if line.startswith("| ")]
    bodies = [row for row in rows if not row.endswith("| test |")]
    assert len(bodies) > 40
    for row in bodies:
        assert re.search(r"`[\w/]+/test_\w+\.py(::test_\w+)?` \|$", row), row


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)))
def test_the_test_is_there(file: str, test: str) -> None:
    path = ROOT / "tests" / file
    assert path.is_file(), file
    code = path.read_text(encoding="utf-8")
    assert re.search(rf"^def {test or 'test_'}", code, re.MULTILINE)
