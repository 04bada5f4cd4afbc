"""Kinds of values: each reads a node strictly, and says what it takes as JSON Schema."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from bnaudit.config.tree import described, did_you_mean
from bnaudit.errors import UsageError
from bnaudit.render.columns import COLUMNS, order_of
from bnaudit.render.formats import formats_of, split_output
from bnaudit.values import Typed

if TYPE_CHECKING:
    from bnaudit.config.tree import Node, Source
    from bnaudit.judge.rule import Rule

Schema = dict[str, Any]

NOTHING: dict[str, Any] = {}
_TEXT: Schema = {"type": "string", "minLength": 1}
_TEXTS: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_BOOLEAN: Schema = {"type": "boolean"}
_SIZE: Schema = {"type": "integer", "minimum": 1}
_SIZES: Schema = {"type": "array", "items": _SIZE, "minItems": 1}
_SHAPE: Schema = {"anyOf": [_SIZES, {"type": "string", "pattern": "^[0-9]+([xX][0-9]+)*$"}, _SIZE]}
_SHAPES: Schema = {"anyOf": [_SHAPE, {"type": "object", "additionalProperties": _SHAPE}]}


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
        if hint is None and isinstance(node.value, bool) and node.text:
            hint = f"to mean the text, quote it: '{node.text}'"
        self.source.refuse(line, f"{self.key} has to be {wanted}, not {described(node)}", hint)

    def unknown(self, line: int, what: str, name: str, known: list[str]) -> NoReturn:
        """Raises "unknown WHAT 'NAME', did you mean ...?"."""
        hint = f"known: {', '.join(known)}" if 0 < len(known) <= 12 else None
        self.source.refuse(line, f"unknown {what} {name!r}{did_you_mean(name, known)}", hint)


class Kind:
    """What an option takes: typed, in a file, and from Python.

    Its value has one form, that of the file; `accept` makes a field of `AuditOptions` of it.

    Attributes:
        metavar: what stands for a value in --help.
        wanted: what it takes, as errors and the documentation say it.
        repeated: whether the option may be typed several times.
        files: whether a shell completes names of files.
        empty: the default of an option that says no other.
        plain: what it takes in a file, as JSON Schema, where no rule is involved.
    """

    metavar = "TEXT"
    wanted = "text"
    repeated = False
    files = False
    empty: Any = None
    plain: Schema = _TEXT

    def __init__(
        self, *, metavar: str | None = None, wanted: str | None = None, files: bool = False
    ) -> None:
        self.metavar = metavar or self.metavar
        self.wanted = wanted or self.wanted
        self.files = files or self.files

    def of(self, document: str) -> Kind:
        """The kind as it is for a command that writes this document."""
        del document
        return self

    def typed(self, text: str) -> Any:
        """One text of a command line as a value; the identity on texts that are values.

        Raises:
            ValueError: it has no meaning; the message is the end of a sentence for people.
        """
        if not text:
            raise ValueError("an empty text says nothing")
        return text

    def join(self, values: tuple[Any, ...]) -> Any:
        """What a repeated option says altogether.

        Raises:
            ValueError: as `typed`.
        """
        return values

    def accept(self, name: str, value: Any) -> Any:
        """A value that Python code, a file or a command line gives, as the field `name` holds it.

        Raises:
            UsageError: it has no meaning.
        """
        del name
        return value

    def read(self, node: Node, context: Context) -> Any:
        """The value that stands in a file.

        Raises:
            ConfigError: the node holds something else.
        """
        return text_of(node, context, self.wanted)

    def schema(self, rules: tuple[Rule, ...]) -> Schema:
        """What it takes in a file, as JSON Schema."""
        del rules
        return self.plain


def is_count(text: str) -> bool:
    """Whether a text is a whole number from 0 on, of some length, in digits that everybody reads alike."""
    return text.isascii() and text.isdecimal() and len(text) <= 100


def _one_of(what: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UsageError(f"unknown {what} {value!r}", hint=f"one of: {', '.join(known)}")
    return value


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
        found += [(part, item) for part in parts(text)]
    return found


def parts(text: str) -> tuple[str, ...]:
    """What stands between the commas of a text."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


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


class Flag(Kind):
    """true or false."""

    wanted = "true or false"
    empty = False
    plain: Schema = _BOOLEAN

    def read(self, node: Node, context: Context) -> bool:
        """See `Kind.read`."""
        if not isinstance(node.value, bool):
            context.wrong(node, self.wanted)
        return node.value


class Count(Kind):
    """How often an option is typed (-vv)."""


class Whole(Kind):
    """A whole number in a range."""

    metavar = "N"

    def __init__(self, least: int = 0, most: int | None = None) -> None:
        upto = f"of at least {least}" if most is None else f"from {least} to {most}"
        super().__init__(wanted=f"a whole number {upto}")
        self.least, self.most = least, most
        above = {} if most is None else {"maximum": most}
        self.plain = {"type": "integer", "minimum": least, **above}

    def _holds(self, value: Any) -> bool:
        inside = isinstance(value, int) and not isinstance(value, bool) and value >= self.least
        return inside and (self.most is None or value <= self.most)

    def accept(self, name: str, value: Any) -> int:
        """See `Kind.accept`; numpy's whole numbers are numbers too."""
        number = operator.index(value) if hasattr(type(value), "__index__") else None
        if isinstance(value, bool) or not self._holds(number):
            raise UsageError(f"{name} is {value!r}, but has to be {self.wanted}")
        return cast("int", number)

    def read(self, node: Node, context: Context) -> int | str:
        """See `Kind.read`."""
        if not self._holds(node.value):
            context.wrong(node, self.wanted)
        return cast("int", node.value)


class LayerCount(Whole):
    """A number of layers, or "all", which is -1 in a field."""

    metavar = "N|all"

    def __init__(self) -> None:
        super().__init__()
        self.wanted = f"{self.wanted} or 'all'"
        self.plain = {"anyOf": [self.plain, {"enum": ["all"]}]}

    def typed(self, text: str) -> int | str:
        """See `Kind.typed`."""
        if text != "all" and not is_count(text):
            raise ValueError(f"{text!r} is neither a number of layers nor 'all'")
        return text if text == "all" else int(text)

    def accept(self, name: str, value: Any) -> int:
        """See `Kind.accept`."""
        if value == "all" or (value == -1 and not isinstance(value, bool)):
            return -1
        return super().accept(name, value)

    def read(self, node: Node, context: Context) -> int | str:
        """See `Kind.read`."""
        return "all" if node.value == "all" else super().read(node, context)


class Batches(Whole):
    """A number of batches, or "auto", which is None in a field."""

    metavar = "N|auto"

    def __init__(self) -> None:
        super().__init__(1)
        self.wanted = f"{self.wanted} or 'auto'"
        self.plain = {"anyOf": [self.plain, {"enum": ["auto"]}]}

    def typed(self, text: str) -> int | str:
        """See `Kind.typed`."""
        if text != "auto" and not (is_count(text) and int(text) > 0):
            raise ValueError(f"{text!r} is neither a number of batches nor 'auto'")
        return text if text == "auto" else int(text)

    def accept(self, name: str, value: Any) -> Any:
        """See `Kind.accept`."""
        return None if value == "auto" else super().accept(name, value)

    def read(self, node: Node, context: Context) -> int | str:
        """See `Kind.read`."""
        return "auto" if node.value == "auto" else super().read(node, context)


class Size(Kind):
    """A number of bytes: 500MB, 2GB or 1.5GiB."""

    metavar = "SIZE"
    wanted = "a size such as 500MB or 2GB"

    def typed(self, text: str) -> str:
        """See `Kind.typed`."""
        if _bytes(text) is None:
            raise ValueError(f"{text!r} is no size; write it like 500MB or 2GB")
        return text

    def accept(self, name: str, value: Any) -> int:
        """See `Kind.accept`."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        size = value if whole else _bytes(str(value))
        if size is None or size < 1:
            raise UsageError(
                f"{name} is {value!r}, but has to be a size", hint="such as 500MB or 2GB"
            )
        return int(size)

    def read(self, node: Node, context: Context) -> str:
        """See `Kind.read`."""
        text = text_of(node, context, self.wanted)
        if _bytes(text) is None:
            context.wrong(node, self.wanted)
        return text


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip


def _bytes(text: str) -> int | None:
    """A size of at least one byte, or None."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)\s*", text, re.IGNORECASE | re.ASCII)
    unit = match[2].upper() if match else ""
    unit = unit if unit in _UNITS else unit + "B"
    if match is None or unit not in _UNITS or not 1 <= float(match[1]) * _UNITS[unit] < math.inf:
        return None
    return int(float(match[1]) * _UNITS[unit])


class Texts(Kind):
    """One text, or a list."""

    repeated = True
    empty = ()
    plain: Schema = _TEXTS

    def read(self, node: Node, context: Context) -> tuple[str, ...]:
        """See `Kind.read`."""
        return tuple(text for text, _ in texts_of(node, context, self.wanted))


class Word(Kind):
    """One of a few words."""

    def __init__(self, known: tuple[str, ...]) -> None:
        super().__init__(wanted=f"one of {', '.join(known)}")
        self.known = known
        self.plain = {"enum": list(known)}

    def accept(self, name: str, value: Any) -> Any:
        """See `Kind.accept`."""
        return _one_of(name, value, self.known)

    def read(self, node: Node, context: Context) -> str:
        """See `Kind.read`."""
        word = text_of(node, context, self.wanted)
        if word not in self.known:
            context.unknown(node.line, context.key, word, list(self.known))
        return word


class Words(Kind):
    """At least one of a few words, or "all"."""

    metavar = "LIST"

    def __init__(self, known: tuple[str, ...], each: str) -> None:
        super().__init__(wanted=f"a list of {', '.join(known)}, or all")
        self.known, self.each = known, each
        word = {"enum": [*known, "all"]}
        words = {"type": "array", "items": word, "minItems": 1}
        self.plain = {"anyOf": [word, words, _TEXT]}

    def typed(self, text: str) -> tuple[str, ...]:
        """See `Kind.typed`."""
        words = parts(super().typed(text))
        for word in words:
            if word not in (*self.known, "all"):
                known = ", ".join(self.known)
                close = did_you_mean(word, self.known)
                raise ValueError(f"no {self.each} {word!r}{close} (there are: {known})")
        if not words:
            raise ValueError(f"{text!r} names no {self.each}")
        return self._meant(words)

    def accept(self, name: str, value: Any) -> tuple[str, ...]:
        """See `Kind.accept`."""
        del name
        names = value.split(",") if isinstance(value, str) else value
        names = tuple(str(word).strip() for word in names)
        if names == ("all",):
            return self.known
        return tuple(_one_of(self.each, word, self.known) for word in names)

    def read(self, node: Node, context: Context) -> tuple[str, ...]:
        """See `Kind.read`."""
        found = entries_of(node, context, self.wanted)
        for word, item in found:
            if word not in (*self.known, "all"):
                context.unknown(item.line, context.key, word, [*self.known, "all"])
        if not found:
            context.wrong(node, self.wanted)
        return self._meant([word for word, _ in found])

    def _meant(self, words: Sequence[str]) -> tuple[str, ...]:
        return self.known if "all" in words else tuple(dict.fromkeys(words))


class Shapes(Kind):
    """Input name -> shape as text, the empty name for the only input."""

    metavar = "[NAME:]NxCx..."
    repeated = True
    empty = NOTHING
    plain: Schema = _SHAPES
    wanted = "a shape like [8, 3, 32, 32] or 8x3x32x32, or one for each input"

    def typed(self, text: str) -> tuple[str, str]:
        """`x:8x3x224x224` -> ("x", "8x3x224x224"); see `Kind.typed`."""
        name, _, shape = text.rpartition(":")
        sizes = shape.lower().replace(",", "x").split("x")
        if not _are_sizes(sizes):
            raise ValueError(f"{text!r} is no shape; write it like x:8x3x224x224")
        return name, "x".join(sizes)

    def join(self, values: tuple[Any, ...]) -> dict[str, str]:
        """See `Kind.join`."""
        names = [name for name, _ in values]
        for name in names:
            if names.count(name) > 1:
                of = f"the input {name!r}" if name else "the only input"
                raise ValueError(f"is given twice for {of}")
        return dict(values)

    def accept(self, name: str, value: Any) -> dict[str, tuple[int, ...]]:
        """See `Kind.accept`; shapes that are no text are taken as they are."""
        del name
        return {
            key: tuple(map(int, shape.split("x"))) if isinstance(shape, str) else shape
            for key, shape in value.items()
        }

    def read(self, node: Node, context: Context) -> dict[str, str]:
        """See `Kind.read`."""
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
        if not _are_sizes(sizes):
            context.wrong(node, self.wanted)
        return "x".join(sizes)


def _are_sizes(sizes: Sequence[str]) -> bool:
    return bool(sizes) and all(is_count(size) and int(size) > 0 for size in sizes)


class Pairs(Kind):
    """Name -> value that is read as YAML where it is used; typed only."""

    metavar = "NAME=VALUE"
    repeated = True
    empty = NOTHING

    def typed(self, text: str) -> tuple[str, Typed]:
        """`scale=0.5` -> ("scale", "0.5"); the first = separates."""
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise ValueError(f"{text!r} has no name; write it like scale=0.5")
        return name.strip(), Typed(value)

    def join(self, values: tuple[Any, ...]) -> dict[str, Typed]:
        """See `Kind.join`."""
        names = [name for name, _ in values]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"is given twice for {name!r}")
        return dict(values)

    def accept(self, name: str, value: Any) -> Any:
        """See `Kind.accept`."""
        if not isinstance(value, Mapping):
            raise UsageError(f"{name} has to be a mapping from names to values")
        return value


class Columns(Words):
    """Columns of a document's main table, or all."""

    def __init__(self, document: str = "report") -> None:
        super().__init__(COLUMNS.get(document, ()), "column")

    def of(self, document: str) -> Columns:
        """See `Kind.of`."""
        return Columns(document)


class Order(Kind):
    """One of them, with a direction or without."""

    metavar = "COLUMN[:up]"
    wanted = "a column, and :up or :down"

    def __init__(self, document: str = "report") -> None:
        super().__init__()
        self.document = document

    def of(self, document: str) -> Order:
        """See `Kind.of`."""
        return Order(document)

    def typed(self, text: str) -> str:
        """See `Kind.typed`."""
        try:
            return order_of(self.document, super().typed(text))
        except UsageError as error:
            raise ValueError(error.message) from None


class StdoutFormat(Word):
    """The name of a format, or none."""

    def __init__(self, document: str = "report") -> None:
        shown = (name for name, form in formats_of(document).items() if not form.file_only)
        super().__init__((*shown, "none"))

    def of(self, document: str) -> StdoutFormat:
        """See `Kind.of`."""
        return StdoutFormat(document)


class Outputs(Texts):
    """Files to write a document to: FILE, or FORMAT=FILE where the suffix says nothing."""

    metavar = "FILE"
    wanted = "a file, or a list of files (FORMAT=FILE where the suffix says nothing)"
    files = True

    def __init__(self, document: str = "report") -> None:
        super().__init__()
        self.document = document

    def of(self, document: str) -> Outputs:
        """See `Kind.of`."""
        return Outputs(document)

    def typed(self, text: str) -> str:
        """The folder is checked now, not after minutes of measuring; see `Kind.typed`."""
        name, path = split_output(text)
        known = formats_of(self.document)
        if name is None:
            suffixes = ", ".join(f.suffix for f in known.values() if f.suffix)
            raise ValueError(
                f"{text}: the suffix says no format (known: {suffixes}; or FORMAT=FILE)"
            )
        if name not in known:
            raise ValueError(f"{text}: no format of this command (there are: {', '.join(known)})")
        if not Path(path).parent.is_dir() or Path(path).is_dir():
            raise ValueError(f"{text}: cannot be written: no such folder, or a folder itself")
        return text
