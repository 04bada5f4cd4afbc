"""Kinds of values: each reads a node strictly, and says what it takes as JSON Schema."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from bnaudit.config.tree import described, did_you_mean

if TYPE_CHECKING:
    from bnaudit.config.tree import Node, Source
    from bnaudit.judge.rule import Rule

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """What a reader may need besides the node.

    Attributes:
        key: of the value, for errors.
        source: the file.
        rules: that there are.
    """

    key: str
    source: Source
    rules: tuple[Rule, ...] = ()

    def inside(self, key: str) -> Context:
        """The same, for a value under `key`."""
        return Context(f"{self.key}.{key}", self.source, self.rules)

    def wrong(self, node: Node, wanted: str, hint: str | None = None) -> NoReturn:
        """Raises "KEY has to be WANTED, not ..."."""
        line = node.line or node.key_line
        self.source.refuse(
            line, f"{self.key} has to be {wanted}, not {described(node)}", hint or _hint(node)
        )

    def unknown(self, line: int, what: str, name: str, known: list[str]) -> NoReturn:
        """Raises "unknown WHAT 'NAME', did you mean ...?"."""
        hint = f"known: {', '.join(known)}" if 0 < len(known) <= 12 else None
        self.source.refuse(line, f"unknown {what} {name!r}{did_you_mean(name, known)}", hint)


class Kind(Protocol):
    """What a key takes."""

    def read(self, node: Node, context: Context) -> Any:
        """The value, as the command line's option takes it.

        Raises:
            ConfigError: the node holds something else.
        """

    def schema(self, rules: tuple[Rule, ...]) -> Schema:
        """What it takes, as JSON Schema."""


def _hint(node: Node) -> str | None:
    if isinstance(node.value, bool) and node.text:
        return f"to mean the text, quote it: '{node.text}'"
    return None


def text_of(node: Node, context: Context, wanted: str = "text") -> str:
    """Text; an unquoted number is the text that it was written as."""
    if isinstance(node.value, str) and node.value:
        return node.value
    number = isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
    if not number or not node.text:
        context.wrong(node, wanted)
    return node.text


def texts_of(node: Node, context: Context, wanted: str) -> list[tuple[str, Node]]:
    """One text, or a list of them, each with its node."""
    items = node.value if isinstance(node.value, list) else [node]
    return [(text_of(item, context, wanted), item) for item in items]


def entries_of(node: Node, context: Context, wanted: str) -> list[tuple[str, Node]]:
    """A list of words, or one text with commas as on the command line."""
    found = []
    for text, item in texts_of(node, context, wanted):
        found += [(part.strip(), item) for part in text.split(",") if part.strip()]
    return found


def number_of(node: Node, context: Context, wanted: str = "a number") -> float:
    """A finite number; YAML 1.1 takes 1e-3 for text, nobody else does."""
    value = node.value
    if isinstance(value, str) and node.text is not None:
        try:
            value = float(value)
        except ValueError:
            context.wrong(node, wanted)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        context.wrong(node, wanted)
    return value


def mapping_of(node: Node, context: Context, wanted: str) -> dict[str, Node]:
    """Nodes by key."""
    if not isinstance(node.value, dict):
        context.wrong(node, wanted)
    return node.value


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    def read(self, node: Node, context: Context) -> bool:
        """See `Kind.read`."""
        if not isinstance(node.value, bool):
            context.wrong(node, "true or false")
        return node.value

    def schema(self, rules: tuple[Rule, ...]) -> Schema:  # noqa: ARG002
        """See `Kind.schema`."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number in a range, or one of a few words instead."""

    least: int
    most: int | None = None
    words: tuple[str, ...] = ()

    def read(self, node: Node, context: Context) -> int | str:
        """See `Kind.read`."""
        value = node.value
        if isinstance(value, str) and value in self.words:
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            context.wrong(node, self._wanted())
        if value < self.least or (self.most is not None and value > self.most):
            context.wrong(node, self._wanted())
        return value

    def schema(self, rules: tuple[Rule, ...]) -> Schema:  # noqa: ARG002
        """See `Kind.schema`."""
        number: Schema = {"type": "integer", "minimum": self.least}
        if self.most is not None:
            number["maximum"] = self.most
        return {"anyOf": [number, {"enum": list(self.words)}]} if self.words else number

    def _wanted(self) -> str:
        upto = f"from {self.least} to {self.most}" if self.most else f"of at least {self.least}"
        return " or ".join([f"a whole number {upto}", *map(repr, self.words)])


@dataclass(frozen=True, slots=True)
class Text:
    """Any text."""

    wanted: str = "text"

    def read(self, node: Node, context: Context) -> str:
        """See `Kind.read`."""
        return text_of(node, context, self.wanted)

    def schema(self, rules: tuple[Rule, ...]) -> Schema:  # noqa: ARG002
        """See `Kind.schema`."""
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True, slots=True)
class Texts:
    """One text, or a list."""

    wanted: str

    def read(self, node: Node, context: Context) -> tuple[str, ...]:
        """See `Kind.read`."""
        return tuple(text for text, _ in texts_of(node, context, self.wanted))

    def schema(self, rules: tuple[Rule, ...]) -> Schema:  # noqa: ARG002
        """See `Kind.schema`."""
        one = {"type": "string", "minLength": 1}
        return {"anyOf": [one, {"type": "array", "items": one}]}


@dataclass(frozen=True, slots=True)
class Word:
    """One of a few words."""

    known: tuple[str, ...]

    def read(self, node: Node, context: Context) -> str:
        """See `Kind.read`."""
        word = text_of(node, context, f"one of {', '.join(self.known)}")
        if word not in self.known:
            context.unknown(node.line, context.key, word, list(self.known))
        return word

    def schema(self, rules: tuple[Rule, ...]) -> Schema:  # noqa: ARG002
        """See `Kind.schema`."""
        return {"enum": list(self.known)}


@dataclass(frozen=True, slots=True)
class Words:
    """Some of a few words, or one that stands for all."""

    known: tuple[str, ...]
    every: str = "all"

    def read(self, node: Node, context: Context) -> tuple[str, ...]:
        """See `Kind.read`."""
        found = entries_of(node, context, f"a list of {', '.join(self.known)}, or {self.every}")
        for word, item in found:
            if word != self.every and word not in self.known:
                context.unknown(item.line, context.key, word, [*self.known, self.every])
        words = tuple(dict.fromkeys(word for word, _ in found))
        return self.known if self.every in words else words

    def schema(self, rules: tuple[Rule, ...]) -> Schema:  # noqa: ARG002
        """See `Kind.schema`."""
        word: Schema = {"enum": [*self.known, self.every]}
        return {"anyOf": [word, {"type": "array", "items": word}, {"type": "string"}]}


@dataclass(frozen=True, slots=True)
class Shapes:
    """Input name -> shape, or one shape for the only input; a shape is a list of sizes, or 8x3x32."""

    wanted: str = field(default="a shape like [8, 3, 32, 32] or 8x3x32x32, or one for each input")

    def read(self, node: Node, context: Context) -> dict[str, str]:
        """See `Kind.read`; the empty name is the only input."""
        if isinstance(node.value, dict):
            return {
                name: self._shape(item, context.inside(name)) for name, item in node.value.items()
            }
        return {"": self._shape(node, context)}

    def _shape(self, node: Node, context: Context) -> str:
        items = node.value
        sizes = (
            [str(item.value) for item in items]
            if isinstance(items, list)
            else text_of(node, context, self.wanted).lower().split("x")
        )
        if not sizes or not all(s.isascii() and s.isdecimal() and int(s) > 0 for s in sizes):
            context.wrong(node, self.wanted)
        return "x".join(sizes)

    def schema(self, rules: tuple[Rule, ...]) -> Schema:  # noqa: ARG002
        """See `Kind.schema`."""
        size = {"type": "integer", "minimum": 1}
        shape: Schema = {
            "anyOf": [
                {"type": "array", "items": size, "minItems": 1},
                {"type": "string", "pattern": "^[0-9]+([xX][0-9]+)*$"},
                size,
            ]
        }
        return {"anyOf": [shape, {"type": "object", "additionalProperties": shape}]}
