"""Files and functions stay small enough to be read in one go, and the version is told once."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from bnaudit import __version__

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MAX_FILE = 600
MAX_FUNCTION = 50


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < MAX_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.body[0].lineno + 2  # one for its head
            assert length <= MAX_FUNCTION, (
                f"{path.name}:{node.lineno} {node.name} has {length} lines"
            )


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_every_file_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", "?"))


def test_the_version_is_in_the_changelog() -> None:
    changelog = ROOT / "CHANGELOG.md"
    if not changelog.exists():
        pytest.skip("no CHANGELOG.md")
    assert re.search(rf"^## \[?{re.escape(__version__)}\b", changelog.read_text(), re.MULTILINE)


def test_dependencies_that_are_imported_are_declared() -> None:
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = metadata.split("dependencies = [", 1)[1].split("]", 1)[0]
    declared = {re.split(r"[><=~]", name)[0] for name in re.findall(r'"([^"]+)"', block)}
    used: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                used |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                used.add(node.module.split(".")[0])
    known = {"onnx", "torch", "numpy", "click", "rich", "onnx2torch", "yaml", "safetensors"}
    assert {n.replace("yaml", "pyyaml") for n in used & known} <= declared
