"""What a run would use, key by key, and where each value comes from: as YAML to keep, or as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnaudit._version import __version__
from bnaudit.config.options import KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA = "bnaudit.config/1"
_COMMENT = 46
"""Column of the comments, where the value leaves room."""


@dataclass(frozen=True, slots=True)
class Effective:
    """One key's value.

    Attributes:
        key: its name.
        value: in the form that the file has.
        origin: "default", "command line", a variable, the file and line, or what excludes the option.
        origins: of the entries of a mapping, by their path.
    """

    key: str
    value: Any
    origin: str
    origins: Mapping[tuple[str, ...], str] = field(default_factory=dict)


def to_json(path: str | None, entries: Sequence[Effective], notes: Sequence[str]) -> str:
    """`bnaudit.config/1`: the file, and value and origin by key."""
    document = {
        "schema": SCHEMA,
        "tool": {"name": "bnaudit", "version": __version__},
        "file": path,
        "settings": {e.key: {"value": _plain(e.value), "origin": e.origin} for e in entries},
        "notes": list(notes),
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=True) + "\n"


def to_yaml(path: str | None, entries: Sequence[Effective], notes: Sequence[str]) -> str:
    """A bnaudit.yaml for the working directory that says the same, each line with its origin."""
    heading = [
        f"# What bnaudit {__version__} uses here: options, then the environment, then the file, "
        "then defaults.",
        f"# File: {_scalar(path) if path else 'none'}. Paths start from this directory.",
        *(f"# {_scalar(note)}" for note in notes),
    ]
    lines: list[str] = []
    for entry in entries:
        clause = KEYS[entry.key].clause
        comment = f"{entry.origin}; {clause[0].lower()}{clause[1:]}"
        value = _plain(entry.value)
        if isinstance(value, dict) and value:
            lines += [_commented(f"{entry.key}:", comment), *_below(entry, value, ())]
        else:
            lines.append(_commented(f"{entry.key}: {_scalar(value)}", comment))
    return "\n".join([*heading, *lines]) + "\n"


def _below(entry: Effective, values: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    lines = []
    for key, value in values.items():
        inside = (*path, key)
        head = "  " * len(inside) + f"{_scalar(key)}:"
        origin = entry.origins.get(inside, entry.origin)
        if isinstance(value, dict) and value:
            lines += [_commented(head, origin), *_below(entry, value, inside)]
        else:
            lines.append(_commented(f"{head} {_scalar(value)}", origin))
    return lines


def _commented(text: str, comment: str) -> str:
    return f"{text.ljust(_COMMENT)}  # {comment}"


def _plain(value: Any) -> Any:
    """Lists for tuples, and plain dictionaries; what is of the only input needs no name."""
    if isinstance(value, dict) and set(value) == {""}:
        return _plain(value[""])
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _scalar(value: Any) -> str:
    """One line of YAML: quoted where it has to be, escaped where a terminal would act on it."""
    text = _dumped(value, None)
    return text if text.isprintable() else _dumped(value, '"')


def _dumped(value: Any, quote: str | None) -> str:
    """Double quotes are the ones in which YAML knows escapes; text alone needs them."""
    import yaml

    text: str = yaml.safe_dump(
        [value],
        default_style=quote,
        default_flow_style=True,
        width=2**31,
        allow_unicode=quote is None,
        sort_keys=False,
    )
    return text.strip()[1:-1]
