"""Configuration text as a tree that remembers its lines, whatever syntax it was written in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn

from bnaudit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

Scalar = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a configuration.

    Attributes:
        value: a scalar, a list of nodes, or nodes by key.
        line: where it stands, from 1; 0 where that is not known.
        key_line: where the key that holds it stands.
        text: how an unquoted YAML scalar is written, None for everything else.
    """

    value: Scalar | list[Node] | dict[str, Node]
    line: int
    key_line: int = 0
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The file that a tree was read from.

    Attributes:
        name: as errors show it.
        folder: what its relative paths start from; "" for the working directory.
    """

    name: str
    folder: str = ""

    def at(self, line: int) -> str:
        """`bnaudit.yaml:7`, or the file alone where the line is not known."""
        return f"{self.name}:{line}" if line else self.name

    def refuse(self, line: int, message: str, hint: str | None = None) -> NoReturn:
        """Raises a `ConfigError` that begins with the place."""
        raise ConfigError(f"{self.at(line)}: {message}", hint=hint)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'fail-on'?`, or nothing where no known name is close."""
    by_lower = {option.lower(): option for option in known}
    wanted = name.lower().replace("_", "-")
    close = get_close_matches(wanted, by_lower, 1) or get_close_matches(name.lower(), by_lower, 1)
    return f", did you mean {by_lower[close[0]]!r}?" if close else ""


def described(node: Node) -> str:
    """What a value is, for "has to be a number, not ...", in words that fit both syntaxes."""
    value = node.value
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, bool):
        written = (node.text or "").lower()
        return f"the boolean {str(value).lower()}" + (
            f" (YAML reads {node.text} so)" if written not in {"", "true", "false"} else ""
        )
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
