"""From documents back to records: strictly, every complaint with the path to what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, is_dataclass
from enum import Enum
from typing import Any, TypeVar

from bnaudit.records.values import Skipped
from bnaudit.records.wire.forms import Forms, Hint, Json, Key, Layouts, label_of

T = TypeVar("T")

_NOT_FINITE = re.compile(r"not finite \((nan|-?inf)\)")
_NUMBERS = re.compile(r"not finite \(((?:\w+ [-+\w.]+(?:, )?)+)\)")
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


class MisfitError(Exception):
    """A document that is not one of its schema.

    Attributes:
        where: dotted path of the value, "" for the document.
        what: what is wrong with it, to follow the path: "is missing", "has to be a number".
    """

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where or 'the document'} {what}")
        self.where = where
        self.what = what


def read(cls: type[T], document: Any, forms: Forms) -> T:
    """The record that a document was written from.

    Keys that the record does not have are passed over: a newer version may have them. A key that is
    missing is the field's default, where it has one. What was hidden is lost, and what was null has the
    reason that the document gives.

    Args:
        cls: the record.
        document: as `json` reads it.
        forms: of the version that wrote it.

    Raises:
        MisfitError: a key that is missing, or a value of another type.
    """
    record: T = _Reader(Layouts(forms)).record(cls, document, "", {}, "")
    return record


@dataclass(frozen=True, slots=True)
class _Reader:
    """`where` is the path from the document, for complaints; `path` that from the nearest reasons."""

    layouts: Layouts

    def record(
        self, cls: Any, document: Any, where: str, reasons: Mapping[str, str], path: str
    ) -> Any:
        _wanted(isinstance(document, dict), where, "a mapping")
        if self.layouts.form(cls).skipped:
            reasons, path = _reasons(document, where), ""
        found: Json = {}
        self.fill(found, self.layouts.keys(cls), document, where, reasons, path)
        return cls(**found)

    def fill(
        self,
        found: Json,
        keys: Sequence[Key],
        document: Json,
        where: str,
        reasons: Mapping[str, str],
        path: str,
    ) -> None:
        """Enters the fields that stand under `keys`."""
        for key in keys:
            here, at = _join(where, key.name), _join(path, key.name)
            if key.field is not None and key.keys:
                found[key.field.name] = self.inlined(key, document, where, reasons, path)
                continue
            computed = key.hint is not None and key.field is None
            optional = key.field is not None and _has_default(key.field)
            if computed or (key.name not in document and optional):
                continue
            if key.name not in document:
                raise MisfitError(here, "is missing")
            value = document[key.name]
            if value is None and key.channels and (key.hint is None or optional):
                continue
            if key.field is not None and key.hint is not None:
                found[key.field.name] = self.value(value, key.hint, here, reasons, at)
                continue
            _wanted(isinstance(value, dict), here, "a mapping")
            inner = (_reasons(value, here), "") if key.skipped else (reasons, at)
            self.fill(found, key.keys, value, here, *inner)

    def inlined(
        self, key: Key, document: Json, where: str, reasons: Mapping[str, str], path: str
    ) -> Any:
        """A record whose keys stand among its neighbour's; skipped where one that has to be there is."""
        for inner in key.keys if key.hint and key.hint.skipped else ():
            reason = reasons.get(_join(path, inner.name))
            bare = inner.hint is not None and not (inner.hint.skipped or inner.hint.optional)
            if bare and document.get(inner.name) is None and reason is not None:
                return Skipped(reason)
        found: Json = {}
        self.fill(found, key.keys, document, where, reasons, path)
        return None if key.hint is None else key.hint.base(**found)

    def value(
        self, value: Any, hint: Hint, where: str, reasons: Mapping[str, str], path: str
    ) -> Any:
        """One value, or what stood there where it is null."""
        form = self.layouts.form(hint.base)
        shaped = form.constant or self.layouts.keeps_shape(hint.base)
        if value is None or (shaped and _all_null(value)):
            reason = reasons.get(path)
            lost = _NOT_FINITE.fullmatch(reason or "") if hint.base is float else None
            if lost or (hint.base is float and not (hint.skipped or hint.optional)):
                _wanted(not hint.limits.finite, where, "a number")
                return float(lost[1]) if lost else math.nan
            numbers = _NUMBERS.fullmatch(reason or "") if form.finite else None
            if numbers:
                return self.told(hint.base, numbers[1])
            if hint.skipped and (value is None or reason is not None):
                return Skipped("not in the report" if reason is None else reason)
            if hint.optional and (value is None or form.constant):
                return None
        return self.known(value, hint, where, reasons, path)

    def told(self, cls: Any, numbers: str) -> Any:
        """A record that was null since a number is not finite: the reason has them all, but for counts."""
        found = dict(number.split(" ") for number in numbers.split(", "))
        keys = [key for key in self.layouts.keys(cls) if key.field is not None]
        return cls(**{key.field.name: float(found.get(key.name, 0)) for key in keys if key.field})

    def known(
        self, value: Any, hint: Hint, where: str, reasons: Mapping[str, str], path: str
    ) -> Any:
        """A value that is there, as far as its shape tells."""
        if is_dataclass(hint.base):
            return self.record(hint.base, value, where, reasons, path)
        if hint.base is tuple:
            return self.entries(value, hint, where, reasons, path)
        if hint.base is Mapping:
            _wanted(isinstance(value, dict), where, "a mapping")
            inner = hint.items[0]
            return {
                k: self.value(v, inner, f"{where}.{k}", reasons, f"{path}.{k}")
                for k, v in value.items()
            }
        return _plain(value, hint, where)

    def entries(
        self, values: Any, hint: Hint, where: str, reasons: Mapping[str, str], path: str
    ) -> tuple[Any, ...]:
        _wanted(isinstance(values, list), where, "a list")
        if not hint.variadic:
            _wanted(len(values) == len(hint.items), where, f"a list of {len(hint.items)}")
        inner = hint.items * len(values) if hint.variadic else hint.items
        return tuple(
            self.value(value, item, f"{where}[{place}]", reasons, f"{path}.{place}")
            for place, (value, item) in enumerate(zip(values, inner, strict=True))
        )


def _plain(value: Any, hint: Hint, where: str) -> Any:
    base, among = hint.base, hint.limits.among
    if base is Any:
        return value
    if isinstance(base, tuple):
        fits = isinstance(value, base) and not isinstance(value, bool)
        _wanted(fits or (value is None and hint.optional), where, "a size or a name")
        return value
    if isinstance(base, type) and issubclass(base, Enum):
        found = next((member for member in base if label_of(member) == value), None)
        _wanted(found is not None, where, f"one of {', '.join(map(str, among))}")
        return found
    kinds = (int, float) if base is float else base
    fits = isinstance(value, kinds) and (base is bool or not isinstance(value, bool))
    _wanted(fits, where, _WORDS[base])
    if base is float:
        return _number(value, where)
    _wanted(not among or value in among, where, f"one of {', '.join(map(str, among))}")
    return value


def _number(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    _wanted(math.isfinite(number), where, "a finite number")
    return number


def _reasons(document: Json, where: str) -> dict[str, str]:
    """Path -> why it is null."""
    here = _join(where, "skipped")
    entries = document.get("skipped", [])
    _wanted(isinstance(entries, list), here, "a list")
    found: dict[str, str] = {}
    for place, entry in enumerate(entries):
        at = f"{here}[{place}]"
        _wanted(isinstance(entry, dict), at, "a mapping")
        for key in ("metric", "reason"):
            _wanted(isinstance(entry.get(key), str), f"{at}.{key}", "text")
        found.setdefault(entry["metric"], entry["reason"])
    return found


def _all_null(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_all_null, value.values()))
    return value is None


def _has_default(item: Any) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wanted(fits: bool, where: str, what: str) -> None:
    if not fits:
        raise MisfitError(where, f"has to be {what}")
