"""Values typed on a command line: numbers, switches, texts, lists, nothing."""

from __future__ import annotations

from typing import Any

from bnaudit.errors import UsageError

_NOTHING = frozenset({"", "~", "null", "none"})
_SWITCHES = {"true": True, "false": False}


class Typed(str):
    """Text as it was typed: it is read as YAML, unless what it is for takes a text."""

    __slots__ = ()


MATCHED = "matched"
"""What `--data` says for batches made from the model; a file of this name is ./matched."""


def parse(text: str) -> Any:
    """Reads YAML as of version 1.2: `yes` and `007` stay texts, `1e-3` is a number, `none` is None.

    Raises:
        UsageError: it is no YAML.
    """
    plain = text.strip()
    if plain.lower() in _NOTHING:
        return None
    if plain.lower() in _SWITCHES:
        return _SWITCHES[plain.lower()]
    if plain[0] not in "[{\"'":
        return _scalar(plain)
    import yaml

    try:
        return _value(yaml.compose(plain, yaml.SafeLoader))
    except yaml.YAMLError as error:
        reason = str(getattr(error, "problem", None) or "not YAML")
        raise UsageError(f"{text!r} cannot be read: {reason}") from error


def _value(node: Any) -> Any:
    """A quoted text stays one; whatever else stands inside lists and mappings is a value of its own."""
    if node.id == "sequence":
        return [_value(n) for n in node.value]
    if node.id == "mapping":
        return {str(key.value): _value(n) for key, n in node.value}
    return str(node.value) if node.style in {"'", '"'} else parse(str(node.value))


def _scalar(plain: str) -> Any:
    if not plain.isascii() or "_" in plain:
        return plain
    digits = plain.lstrip("+-")
    if digits.isdecimal() and (digits == "0" or not digits.startswith("0")):
        return int(plain) if len(digits) < 4000 else plain
    try:
        number = float(plain)
    except ValueError:
        return plain
    return plain if digits.isdecimal() else number
