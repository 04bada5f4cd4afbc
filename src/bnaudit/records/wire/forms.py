"""The keys of records' documents: what types and forms say that a writer, a reader and a schema do alike.

A field is a key of its name, in the order of the record. What is not a finite number is null, and the reason
stands in the `skipped` list of the nearest record that has one, under the dotted path to it. A group that
was skipped keeps its shape: each of its keys is null, and one reason stands for all.

Where a document differs from its record a `Form` says so: the forms of a version of a document are its
contract, and stay when the next version gets forms of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from bnaudit.records.values import Limits, Skipped

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """Fields that stand under a key of their own, where the first of them would.

    Attributes:
        members: their names.
        sentence: what the group holds.
        skipped: whether it has a list of reasons of its own.
    """

    members: tuple[str, ...]
    sentence: str
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Computed:
    """A key that no field holds: it follows from the record, and is not read back.

    Attributes:
        after: the key that it stands behind, "" for the first place.
        type: of the value.
        value: from the record.
        sentence: what it is.
    """

    after: str
    type: Any
    value: Callable[[Any], Any]
    sentence: str


@dataclass(frozen=True, slots=True)
class Form:
    """How a record stands in a document, as far as it is not field by field.

    Attributes:
        names: field -> its key.
        hidden: fields that are not written.
        groups: key -> fields under it.
        inline: fields whose records' keys stand beside the others.
        computed: key -> what it follows from.
        channels: keys that are null unless values by channel are asked for.
        skipped: whether the record has a list of reasons, its last key.
        whole: whether it is one null where it was skipped, and does not keep its shape.
        finite: whether it is one null where one of its numbers is not finite.
        constant: whether it keeps its shape where there is none (None), too.
        quiet: whether numbers that are not finite are null without a reason.
        rows: a list of it is an array by channel: one reason for all entries that are not finite.
        named: the field that names an entry of a list; its other value stands at that path.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    groups: Mapping[str, Group] = field(default_factory=dict)
    inline: tuple[str, ...] = ()
    computed: Mapping[str, Computed] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    skipped: bool = False
    whole: bool = False
    finite: bool = False
    constant: bool = False
    quiet: bool = False
    rows: bool = False
    named: str = ""


Forms = Mapping[type, Form]
PLAIN = Form()
UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Hint:
    """A type as documents need it.

    Attributes:
        base: a class, or a tuple of plain classes of which the value has one.
        items: of a tuple its entries, of a mapping its values.
        variadic: whether a tuple has any length.
        skipped: whether a `Skipped` may stand in its place.
        optional: whether None may.
        limits: what it is besides.
    """

    base: Any
    items: tuple[Hint, ...] = ()
    variadic: bool = False
    skipped: bool = False
    optional: bool = False
    limits: Limits = UNLIMITED


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a record's document.

    Attributes:
        name: of the key.
        hint: its type; None for a group.
        get: its value from the record; the record itself for a group.
        sentence: what it is.
        field: what it is read back into, None for a group and for what is computed.
        keys: of a group, and of a record whose keys stand in its place.
        channels: whether it is null unless values by channel are asked for.
        skipped: whether a group has a list of reasons of its own.
    """

    name: str
    hint: Hint | None
    get: Callable[[Any], Any]
    sentence: str
    field: Field[Any] | None = None
    keys: Sequence[Key] = ()
    channels: bool = False
    skipped: bool = False


@cache
def hint_of(annotation: Any) -> Hint:
    """Reads an annotation.

    Raises:
        TypeError: no document can hold such a value.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = next(item for item in arguments if isinstance(item, Limits))
        return replace(hint_of(arguments[0]), limits=limits)
    if origin in (Union, UnionType):
        hints = [hint_of(item) for item in arguments if item not in (NoneType, Skipped)]
        one = hints[0] if len(hints) == 1 else Hint(tuple(hint.base for hint in hints))
        skipped, optional = Skipped in arguments, NoneType in arguments
        return replace(one, skipped=skipped or one.skipped, optional=optional or one.optional)
    if origin in (tuple, Mapping):
        inner = arguments[1:] if origin is Mapping else arguments
        items = tuple(hint_of(item) for item in inner if item is not Ellipsis)
        return Hint(origin, items, variadic=Ellipsis in arguments)
    if origin is Literal:
        return Hint(str, limits=Limits(among=arguments))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return Hint(annotation, limits=Limits(among=tuple(map(label_of, annotation))))
    if annotation not in (str, int, float, bool, Any) and not is_dataclass(annotation):
        raise TypeError(f"{annotation!r} has no place in a document")
    return Hint(annotation)


def label_of(value: Enum) -> str:
    """The name of an enumeration's member in documents."""
    return str(getattr(value, "label", value.value))


class Layouts:
    """The keys of records' documents, by the forms of one version."""

    def __init__(self, forms: Forms) -> None:
        self._forms = forms
        self._found: dict[type, Sequence[Key]] = {}

    def form(self, cls: Any) -> Form:
        """How records of a class, or of one made from it, stand in these documents."""
        found = (self._forms[base] for base in getattr(cls, "__mro__", ()) if base in self._forms)
        return next(found, PLAIN)

    def keeps_shape(self, cls: Any) -> bool:
        """Whether a record of the class that was skipped is an object of nulls, and not one null."""
        return is_dataclass(cls) and not self.form(cls).whole

    def keys(self, cls: type) -> Sequence[Key]:
        """The keys of a class, in the order of the document."""
        if cls not in self._found:
            self._found[cls] = self._keys(cls)
        return self._found[cls]

    def _keys(self, cls: type) -> Sequence[Key]:
        form, hints = self.form(cls), get_type_hints(cls, include_extras=True)
        sentences = sentences_of(cls)
        groups: dict[str, list[Key]] = {name: [] for name in form.groups}
        top: list[Key] = []

        def put(place: list[Key], key: Key | None) -> None:
            place += [key] if key else []
            for name, computed in form.computed.items():
                if computed.after == (key.name if key else ""):
                    hint, channels = hint_of(computed.type), name in form.channels
                    put(
                        place,
                        Key(name, hint, computed.value, computed.sentence, None, (), channels),
                    )

        put(top, None)
        for item in (item for item in fields(cls) if item.name not in form.hidden):
            place = top
            for name, group in form.groups.items():
                if item.name in group.members:
                    place = groups[name]
                    if not place:
                        channels = name in form.channels
                        under = Key(name, None, _itself, group.sentence, None, place, channels)
                        put(top, replace(under, skipped=group.skipped))
            name, hint = form.names.get(item.name, item.name), hint_of(hints[item.name])
            inner = self.keys(hint.base) if item.name in form.inline else ()
            get, sentence = _getter(item.name), sentences.get(item.name, "")
            put(place, Key(name, hint, get, sentence, item, inner, name in form.channels))
        return top


def _itself(record: Any) -> Any:
    return record


def _getter(name: str) -> Callable[[Any], Any]:
    return lambda record: getattr(record, name)


_ATTRIBUTE = re.compile(r" {8}([a-z_][\w, ]*): (.*)")


@cache
def sentences_of(cls: type) -> dict[str, str]:
    """What the docstring says of each field under "Attributes:", as sentences."""
    texts = (base.__doc__ or "" for base in cls.__mro__)
    text = next((text for text in texts if "Attributes:\n" in text), "")
    lines = text.partition("Attributes:\n")[2].splitlines()
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines:
        match = _ATTRIBUTE.fullmatch(line)
        if match:
            names = match[1].split(", ")
            found |= dict.fromkeys(names, match[2])
        elif line.startswith(" " * 12):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return {name: _sentence(text) for name, text in found.items()}


def _sentence(text: str) -> str:
    """A word begins with a capital, a symbol keeps its case: g is no G."""
    text = re.sub(r"\bNone\b", "null", text)
    word = re.match(r"[a-z]{2,}(?=[ ,;:.](?![=/]))|a (?=[a-z])", text)
    return f"{text[:1].upper()}{text[1:]}" if word else text
