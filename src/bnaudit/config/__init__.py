"""Configuration from bnaudit.yaml or pyproject.toml: found, read with line numbers, checked strictly.

The command line gives these values to the options that were not typed; nothing else reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnaudit.config.find import Found
    from bnaudit.config.tree import Node
    from bnaudit.judge.rule import Rule


@dataclass(frozen=True)
class Setting:
    """What a file says under one key.

    Attributes:
        value: read and checked; its paths are relative to the working directory.
        origin: where it stands ("bnaudit.yaml:7").
        origins: the same for the entries of a mapping, by their path.
    """

    value: Any
    origin: str
    origins: Mapping[tuple[str, ...], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """A configuration.

    Attributes:
        path: its file as errors name it, or None without one.
        settings: by key, only what the file sets.
        notes: what the user should know of how the file was chosen.
    """

    path: str | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def get(self, key: str) -> Any:
        """The value of a key: the file's, or the default."""
        from bnaudit.config.options import KEYS

        found = self.settings.get(key)
        return KEYS[key].default if found is None else found.value


NO_CONFIG = Config()


def load_config(path: Path | None = None) -> Config:
    """The named configuration, or the nearest one from the working directory upwards.

    Args:
        path: the file, or None to look for one; its absence is harmless then.

    Raises:
        ConfigError: a file that cannot be read, an unknown key or rule, a value of the wrong type.
    """
    from bnaudit.config.find import named, nearest

    found = nearest(Path.cwd()) if path is None else named(path)
    return NO_CONFIG if found is None else read_config(found)


def read_config(found: Found, rules: tuple[Rule, ...] | None = None) -> Config:
    """Checks every key and value of a file.

    Args:
        found: the file.
        rules: that it may speak of; None for those that there are.

    Raises:
        ConfigError: at the first thing that has no meaning.
    """
    # Without a file nobody waits for the import of its keys and rules.
    from bnaudit.config.kinds import Context
    from bnaudit.config.options import KEYS
    from bnaudit.config.tree import described, did_you_mean
    from bnaudit.judge.rules import RULES

    rules = RULES if rules is None else rules

    source, tree = found.source, found.tree
    if tree.value is None:
        return Config(source.name, {}, found.notes)
    if not isinstance(tree.value, dict):
        source.refuse(tree.line, f"the configuration has to be a mapping, not {described(tree)}")
    settings = {}
    for name, node in tree.value.items():
        key = KEYS.get(name)
        if key is None:
            source.refuse(node.key_line, f"unknown key {name!r}{did_you_mean(name, KEYS)}")
        if node.value is None:
            continue  # `batches:` alone is the default, as if the line were not there
        value = key.kind.read(node, Context(name, source, rules))
        if key.relocate is not None:
            value = key.relocate(value, source.folder)
        origins = {path: source.at(line) for path, line in _entries(node)}
        settings[name] = Setting(value, source.at(node.key_line), origins)
    return Config(source.name, settings, found.notes)


def _entries(node: Node) -> list[tuple[tuple[str, ...], int]]:
    """Every entry below a mapping with its line."""
    if not isinstance(node.value, dict):
        return []
    found: list[tuple[tuple[str, ...], int]] = []
    for key, item in node.value.items():
        found.append(((key,), item.key_line))
        found += [((key, *path), line) for path, line in _entries(item)]
    return found
