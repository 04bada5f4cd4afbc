"""Which file configures a command: the one that is named, else the nearest one of the project."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.config.tree import Source
from bnaudit.errors import ConfigError
from bnaudit.files import exists, is_file, opened

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.config.tree import Node

YAML_NAMES = ("bnaudit.yaml", "bnaudit.yml")
PYPROJECT = "pyproject.toml"
LARGEST = 2**20
"""Bytes. A configuration is a page of text."""


@dataclass(frozen=True, slots=True)
class Found:
    """A configuration file, read.

    Attributes:
        source: where.
        tree: what it says.
        notes: files that were passed over in its favour.
    """

    source: Source
    tree: Node
    notes: tuple[str, ...] = ()


def named(path: Path) -> Found:
    """The file that the user names: YAML, or TOML with `[tool.bnaudit]` if it ends in .toml.

    Raises:
        ConfigError: it cannot be read, or has no such table.
    """
    source = Source(str(path), os.path.dirname(path))  # noqa: PTH120  # "" and not "." for here
    text = _read(path)
    tree = _parse(text, source)
    if tree is None:
        source.refuse(0, "has no table [tool.bnaudit]", "bnaudit.yaml needs none")
    return Found(source, tree)


def nearest(start: Path) -> Found | None:
    """The first configuration from `start` upwards to the root of its repository, if any.

    Above a folder that is in no repository nothing is looked for: a configuration can name Python
    functions, which are run, and /tmp and the like belong to everybody.

    Args:
        start: the working directory.

    Raises:
        ConfigError: there is one, but it cannot be read.
    """
    above = [start.resolve(), *start.resolve().parents]
    root = next((i for i, folder in enumerate(above) if exists(folder / ".git")), 0)
    for level, folder in enumerate(above[: root + 1]):
        prefix = "/".join([".."] * level)
        found = _in(folder, prefix)
        if found is not None:
            return found
    return None


def _in(folder: Path, prefix: str) -> Found | None:
    """The configuration of one folder; YAML comes before pyproject.toml, and does not hide it."""
    chosen: Found | None = None
    passed: list[str] = []
    for name in (*YAML_NAMES, PYPROJECT):
        path = folder / name
        source = Source(f"{prefix}/{name}" if prefix else name, prefix)
        if not is_file(path):
            continue
        if chosen is not None and name != PYPROJECT:
            passed.append(source.name)
            continue
        tree = _parse(_read(path, source), source)
        if chosen is not None and tree is not None:
            passed.append(source.name)
        elif tree is not None:
            chosen = Found(source, tree)
    if chosen is None:
        return None
    notes = (f"{chosen.source.name} is read, {name} is not" for name in passed)
    return Found(chosen.source, chosen.tree, tuple(notes))


def _read(path: Path, source: Source | None = None) -> str:
    name = source.name if source else str(path)
    try:
        with opened(path) as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise ConfigError(f"{name}: no such file") from None
    except OSError as error:
        reason = "is a folder" if isinstance(error, IsADirectoryError) else error.strerror
        raise ConfigError(f"{name}: cannot be read ({reason})") from error
    if len(raw) > LARGEST:
        raise ConfigError(f"{name}: larger than {LARGEST} bytes: no configuration is")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: not UTF-8", hint="save the file as UTF-8") from None


def _parse(text: str, source: Source) -> Node | None:
    """Only a file that may configure bnaudit waits for the import of a parser."""
    if source.name.endswith(".toml"):
        if not _mentioned(text):
            return None
        from bnaudit.config.toml_tree import parse_pyproject

        return parse_pyproject(text, source)
    from bnaudit.config.yaml_tree import parse_yaml

    return parse_yaml(text, source)


def _mentioned(text: str) -> bool:
    """Whether a pyproject.toml may have a table `tool.bnaudit`, or a table `tool` with such a key."""
    if "bnaudit" not in text:
        return False
    lines = text.splitlines()
    if any("tool" in line and "bnaudit" in line for line in lines):
        return True
    return any(line.strip().strip("[]\"' \t") == "tool" for line in lines)
