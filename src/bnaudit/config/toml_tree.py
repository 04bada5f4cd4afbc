"""`[tool.bnaudit]` of a pyproject.toml into a tree; tomllib keeps no lines, so they are looked up."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

from bnaudit.config.tree import Node

if TYPE_CHECKING:
    from bnaudit.config.tree import Source

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
_SECTION = ("tool", "bnaudit")
_LINE = re.compile(r"at line (\d+)")

Path = tuple[str, ...]


def parse_pyproject(text: str, source: Source) -> Node | None:
    """What stands under `[tool.bnaudit]`, or None where there is no such table.

    A file that is no TOML at all is an error only if it mentions the table: somebody else's broken
    file is not ours to judge.

    Raises:
        ConfigError: the file is not TOML, and mentions the table.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also of a number's length
        if "tool.bnaudit" not in text:
            return None
        found = _LINE.search(str(error))
        line = int(found[1]) if found else len(text.splitlines())  # "at end of document"
        source.refuse(line, f"not valid TOML: {str(error).partition(' (at ')[0]}")
    tool = document.get("tool")
    if not isinstance(tool, dict) or _SECTION[1] not in tool:
        return None
    lines = _lines(text)
    return _node(tool[_SECTION[1]], (), lines, lines.get((), 0))


def _lines(text: str) -> dict[Path, int]:
    """Where each key under the section stands, as well as regular expressions can tell.

    A multi-line string that looks like TOML may mislead it: a line number is then off, no value is.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            table = _parts(header[1])
            path = table
        elif key:
            path = (*table, *_parts(key[1]))
        else:
            continue
        if path[: len(_SECTION)] == _SECTION:
            found.setdefault(path[len(_SECTION) :], number)
    return found


def _parts(dotted: str) -> Path:
    return tuple(next(iter(tomllib.loads(f"{part} = 0"))) for part in re.findall(_PART, dotted))


def _node(value: object, path: Path, lines: dict[Path, int], above: int) -> Node:
    line = lines.get(path, above)
    if isinstance(value, dict):
        nodes = {key: _node(item, (*path, key), lines, line) for key, item in value.items()}
        return Node(nodes, line, line)
    if isinstance(value, list):
        return Node([_node(item, path, lines, line) for item in value], line, line)
    if value is None or isinstance(value, (bool, int, float, str)):
        return Node(value, line, line)
    return Node(str(value), line, line)  # a date: nothing here takes one
