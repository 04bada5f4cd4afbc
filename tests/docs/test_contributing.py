"""The paths and tables that CONTRIBUTING.md sends people to are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PATHS = sorted({p for p in re.findall(r"`([\w<>./-]+)`", TEXT) if "/" in p})
TABLES = re.findall(r"`(_?[A-Z][A-Z_]+|\w+_to_\w+)` of\s+`([\w./-]+\.py)`", TEXT)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_there(path: str) -> None:
    """Folders of the map are those of src/bnaudit; <name> stands for any."""
    pattern = re.sub(r"<\w+>", "*", path).rstrip("/")
    assert list(ROOT.glob(pattern)) or list((ROOT / "src" / "bnaudit").glob(pattern)), path


@pytest.mark.parametrize(("name", "path"), TABLES)
def test_a_table_is_where_it_is_said_to_be(name: str, path: str) -> None:
    source = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^(def )?{name}\b", source, re.MULTILINE), f"{name} is not in {path}"


def test_there_is_something_to_check() -> None:
    assert len(PATHS) > 25
    assert len(TABLES) > 6


@pytest.mark.parametrize("folder", sorted(p.name for p in (ROOT / "src" / "bnaudit").iterdir()))
def test_the_map_has_every_room(folder: str) -> None:
    if (ROOT / "src" / "bnaudit" / folder / "__init__.py").exists():
        assert f"`{folder}/`" in TEXT
