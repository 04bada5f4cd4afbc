"""Kinds of values that say how data is read: names of arrays, and how images become tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bnaudit.config.kinds import NOTHING, Kind, Schema, entries_of, is_count, mapping_of, text_of
from bnaudit.config.tree import did_you_mean
from bnaudit.errors import UsageError

if TYPE_CHECKING:
    from bnaudit.config.kinds import Context
    from bnaudit.config.tree import Node


_TEXT: Schema = {"type": "string", "minLength": 1}
_NAMES: Schema = {"type": "object", "additionalProperties": _TEXT}


class Names(Kind):
    """Name -> another name, as text."""

    metavar = "INPUT=KEY"
    repeated = True
    wanted = "a mapping from inputs of the model to keys of the data"
    empty = NOTHING
    plain: Schema = _NAMES

    def typed(self, text: str) -> tuple[str, str]:
        """`x=image` -> ("x", "image"); see `Kind.typed`."""
        name, equals, key = text.partition("=")
        if not equals or not name or not key:
            raise ValueError(f"{text!r} is no mapping; write it like {self.metavar}")
        return name, key

    def join(self, values: tuple[Any, ...]) -> dict[str, str]:
        """See `Kind.join`."""
        names = [name for name, _ in values]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"is given twice for {name!r}")
        return dict(values)

    def accept(self, name: str, value: Any) -> Any:
        """See `Kind.accept`."""
        if not isinstance(value, Mapping):
            raise UsageError(f"{name} has to be {self.wanted}")
        return {str(k): str(v) for k, v in value.items()}

    def read(self, node: Node, context: Context) -> dict[str, str]:
        """See `Kind.read`."""
        found = mapping_of(node, context, self.wanted)
        return {name: text_of(item, context.inside(name)) for name, item in found.items()}


IMAGENET = "imagenet"
"""Instead of numbers: those of ImageNet."""

_WORDS = {
    "channels": ("rgb", "bgr", "gray"),
    "layout": ("nchw", "nhwc"),
    "resample": ("bilinear", "bicubic", "lanczos", "box", "nearest"),
    "range": ("1", "255"),
}
_SIZES = ("size", "crop")
_NUMBERS = ("mean", "std")


_NUMBER: Schema = {"type": "number"}
_NUMBERS_TOO: Schema = {"type": "array", "items": _NUMBER, "minItems": 1}
_IMAGES: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **{key: {"anyOf": [{"type": "integer", "minimum": 1}, _TEXT]} for key in _SIZES},
        **{key: {"anyOf": [_NUMBER, _NUMBERS_TOO, _TEXT]} for key in _NUMBERS},
        **{
            name: {"enum": [*words, *(int(w) for w in words if w.isdigit())]}
            for name, words in _WORDS.items()
        },
    },
}


class Images(Names):
    """How a folder of images becomes a tensor."""

    metavar = "KEY=VALUE"
    wanted = "a mapping with size, crop, mean, std, channels, layout, range or resample"
    known = (*_SIZES, *_NUMBERS, *_WORDS)
    plain: Schema = _IMAGES

    def typed(self, text: str) -> tuple[str, str]:
        """`size=256` -> ("size", "256"); see `Kind.typed`."""
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} says nothing; write it like size=256")
        if name not in self.known:
            known = ", ".join(self.known)
            raise ValueError(f"no {name!r}{did_you_mean(name, self.known)}; there are: {known}")
        _value(name, value)
        return name, value

    def accept(self, name: str, value: Any) -> dict[str, Any]:
        """See `Kind.accept`."""
        if not isinstance(value, Mapping):
            raise UsageError(f"{name} has to be {self.wanted}")
        found = {}
        for key, text in value.items():
            if key not in self.known:
                raise UsageError(
                    f"{name}: no {key!r}{did_you_mean(str(key), self.known)}",
                    hint=f"there are: {', '.join(self.known)}",
                )
            plain = ",".join(map(str, text)) if isinstance(text, (list, tuple)) else str(text)
            try:
                found[key] = _value(key, plain)
            except ValueError as error:
                raise UsageError(f"{name}: {error}") from error
        return found

    def read(self, node: Node, context: Context) -> dict[str, str]:
        """See `Kind.read`."""
        found = {}
        for key, item in mapping_of(node, context, self.wanted).items():
            if key not in self.known:
                context.unknown(item.key_line or item.line, "key", key, list(self.known))
            inside = context.inside(key)
            found[key] = ",".join(text for text, _ in entries_of(item, inside, _wanted(key)))
            try:
                _value(key, found[key])
            except ValueError:
                inside.wrong(item, _wanted(key))
        return found


def _wanted(key: str) -> str:
    if key in _SIZES:
        return "a size in pixels such as 256, or HEIGHTxWIDTH"
    if key in _NUMBERS:
        return "one number, one a channel (red first), or imagenet"
    return "one of " + ", ".join(_WORDS[key])


def _value(key: str, text: str) -> Any:
    """(height, width) or (shorter side,); numbers; a word.

    Raises:
        ValueError: it has no meaning.
    """
    wrong = ValueError(f"{key} is {text!r}, but has to be {_wanted(key)}")
    if key in _SIZES:
        sizes = text.lower().split("x")
        if len(sizes) > 2 or not all(is_count(s) and 0 < int(s) <= 1 << 16 for s in sizes):
            raise wrong
        return tuple(map(int, sizes))
    if key in _NUMBERS:
        if text == IMAGENET:
            return text
        try:
            numbers = tuple(float(part) for part in text.split(","))
        except ValueError:
            raise wrong from None
        if not all(map(math.isfinite, numbers)) or (key == "std" and min(numbers) <= 0):
            raise wrong
        return numbers
    if text not in _WORDS[key]:
        raise wrong
    return text
