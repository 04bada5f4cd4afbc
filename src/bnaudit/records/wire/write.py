"""From records to documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from math import isfinite
from typing import Any

from bnaudit.records.values import Skipped
from bnaudit.records.wire.forms import Forms, Hint, Json, Key, Layouts, label_of


def write(record: Any, forms: Forms, *, channels: bool = False) -> Json:
    """A record's document: dictionaries, lists, texts, finite numbers, None.

    Args:
        record: a dataclass.
        forms: of the version that is written.
        channels: whether values by channel are.
    """
    return _Writer(Layouts(forms), channels).record(record, "", None)


class _Writer:
    """Reasons are entered while the keys before them are written, so they come in their order."""

    def __init__(self, layouts: Layouts, channels: bool) -> None:
        self.layouts = layouts
        self.channels = channels

    def record(self, record: Any, path: str, reasons: list[Json] | None) -> Json:
        form, keys = self.layouts.form(type(record)), self.layouts.keys(type(record))
        if form.skipped:
            return self.scope(keys, record)
        return self.keys(keys, record, path, None if form.quiet else reasons)

    def scope(self, keys: Sequence[Key], record: Any) -> Json:
        reasons: list[Json] = []
        return {**self.keys(keys, record, "", reasons), "skipped": reasons}

    def keys(self, keys: Sequence[Key], record: Any, path: str, reasons: list[Json] | None) -> Json:
        document: Json = {}
        for key in keys:
            where = f"{path}.{key.name}" if path else key.name
            value = record if isinstance(record, Skipped) else key.get(record)
            if key.channels and not self.channels:
                document[key.name] = None
            elif key.hint is not None and key.keys:
                document |= self.keys(key.keys, value, path, reasons)
            elif key.hint is not None:
                document[key.name] = self.value(value, key.hint, where, reasons)
            elif key.skipped:
                document[key.name] = self.scope(key.keys, value)
            else:
                document[key.name] = self.keys(key.keys, value, where, reasons)
        return document

    def value(self, value: Any, hint: Hint, path: str, reasons: list[Json] | None) -> Any:
        """One value; or null, and the reason why there is none."""
        form = self.layouts.form(hint.base)
        lost: str | None = None
        if isinstance(value, Skipped):
            lost = value.reason
        elif value is not None and (hint.base is float or isinstance(value, float)):
            lost = None if isfinite(value) else f"not finite ({float(value)})"
        elif value is not None and form.finite:
            numbers = self.numbers(value)
            listed = ", ".join(f"{name} {float(number)!r}" for name, number in numbers.items())
            lost = None if all(map(isfinite, numbers.values())) else f"not finite ({listed})"
        if lost is None and value is not None:
            return self.known(value, hint, path, reasons)
        if lost is not None and reasons is not None:
            reasons.append({"metric": path, "reason": lost})
        skipped = isinstance(value, Skipped) and self.layouts.keeps_shape(hint.base)
        shaped = skipped or (value is None and form.constant)
        return self.nulls(self.layouts.keys(hint.base)) if shaped else None

    def known(self, value: Any, hint: Hint, path: str, reasons: list[Json] | None) -> Any:
        """A value that is there."""
        if isinstance(value, Enum):
            return label_of(value)
        if hint.base is Mapping:
            inner = hint.items[0]
            return {k: self.value(v, inner, f"{path}.{k}", reasons) for k, v in value.items()}
        if hint.base is tuple:
            return self.entries(value, hint, path, reasons)
        if is_dataclass(value):
            return self.record(value, path, reasons)
        return float(value) if hint.base is float else value

    def entries(
        self, values: Sequence[Any], hint: Hint, path: str, reasons: list[Json] | None
    ) -> list[Any]:
        """A list. In an array by channel bad entries become null, and one reason counts them."""
        item = hint.items[0]
        form = self.layouts.form(item.base)
        if hint.variadic and (item.base is float or form.rows):
            rows = [self.numbers(v).values() if form.rows else (v,) for v in values]
            bad = sum(not all(map(isfinite, row)) for row in rows)
            if bad:
                what = "rows with values that are not finite" if form.rows else "values not finite"
                reasons = [] if reasons is None else reasons
                reasons.append({"metric": path, "reason": f"{bad} of {len(values)} {what}"})
            return [self.value(value, item, path, None) for value in values]
        if form.named:
            return [
                {
                    key.name: self.value(key.get(value), key.hint, where, reasons)
                    for key in self.layouts.keys(item.base)
                    if key.hint is not None
                }
                for value in values
                if (where := f"{path}.{getattr(value, form.named):g}")
            ]
        inner = hint.items * len(values) if hint.variadic else hint.items
        return [
            self.value(value, kind, f"{path}.{place}", reasons)
            for place, (value, kind) in enumerate(zip(values, inner, strict=True))
        ]

    def numbers(self, record: Any) -> dict[str, float]:
        """The fields of a record that are numbers, and no counts."""
        keys = self.layouts.keys(type(record))
        return {k.name: k.get(record) for k in keys if k.hint and k.hint.base is float}

    def nulls(self, keys: Sequence[Key]) -> Json:
        """The shape of a group that was skipped."""
        document: Json = {}
        for key in keys:
            document[key.name] = None
            if key.hint is None and not key.channels:
                document[key.name] = self.nulls(key.keys)
            elif key.hint and key.hint.skipped and self.layouts.keeps_shape(key.hint.base):
                document[key.name] = self.nulls(self.layouts.keys(key.hint.base))
        return document
