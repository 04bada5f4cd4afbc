"""The JSON Schema of a record's document: types, forms, and what the records say of their own fields."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from enum import Enum
from typing import Any

from bnaudit.records.values import Limits
from bnaudit.records.wire.forms import Forms, Hint, Json, Key, Layouts

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", tuple: "array"}
_REASONS: Json = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "metric": {
                "description": "Dotted path of the key below this object.",
                "type": "string",
            },
            "reason": {"description": "Why it is null.", "type": "string"},
        },
        "required": ["metric", "reason"],
    },
}


def schema(cls: type, forms: Forms) -> Json:
    """The schema of a record, with a definition for every record in it.

    Objects are open: a key that a later version of bnaudit adds does not make a document invalid.

    Args:
        cls: the record.
        forms: of the version.
    """
    made = _Schema(Layouts(forms))
    document = made.object(cls, nullable=False)
    return {**document, "$defs": dict(sorted(made.definitions.items()))}


@dataclass(slots=True)
class _Schema:
    layouts: Layouts
    definitions: Json = field(default_factory=dict)
    named: dict[str, Any] = field(default_factory=dict)

    def object(self, cls: type, *, nullable: bool) -> Json:
        """A record; with `nullable` it may have been skipped, which leaves nulls in its shape."""
        finite = self.layouts.form(cls).finite
        document = self.keys(self.layouts.keys(cls), nullable=nullable, finite=finite)
        return self.with_reasons(document) if self.layouts.form(cls).skipped else document

    def with_reasons(self, document: Json) -> Json:
        self.definitions["skipped"] = _REASONS
        sentence = "Why keys of this object are null; a group that was skipped is named once."
        skipped = {"description": sentence, "$ref": "#/$defs/skipped"}
        document["properties"]["skipped"] = skipped
        document["required"] = list(document["properties"])
        return document

    def keys(self, keys: Sequence[Key], *, nullable: bool, finite: bool = False) -> Json:
        properties: Json = {}
        for key in keys:
            if key.hint is not None and key.keys:
                inner = self.keys(key.keys, nullable=nullable or key.hint.skipped)
                properties |= inner["properties"]
                continue
            if key.hint is None:
                value = self.keys(key.keys, nullable=nullable and not key.channels)
                value = self.with_reasons(value) if key.skipped else value
                value = _or_null(value) if key.channels else value
            else:
                limits = replace(key.hint.limits, finite=finite or key.hint.limits.finite)
                hint = replace(key.hint, limits=limits)
                value = self.value(hint, nullable=nullable or key.channels)
            properties[key.name] = {"description": key.sentence, **value}
        return {"type": "object", "properties": properties, "required": list(properties)}

    def value(self, hint: Hint, *, nullable: bool = False) -> Json:
        base, null = hint.base, nullable or hint.optional
        if is_dataclass(base):
            form = self.layouts.form(base)
            shaped = (hint.skipped and not form.whole) or form.constant
            reference = self.reference(base, nullable=shaped)
            whole = form.whole and (hint.skipped or form.finite)
            kept = form.constant or (hint.skipped and not form.whole)
            return _or_null(reference) if whole or (null and not kept) else reference
        null = null or hint.skipped or (base is float and not hint.limits.finite)
        if base is Any:
            return {}
        if base is Mapping:
            inner = self.value(hint.items[0])
            return {"type": "object", "additionalProperties": inner or True}
        if base is tuple:
            return self.array(hint, null=null)
        if isinstance(base, type) and issubclass(base, Enum):
            base = str
        types = [_TYPES[kind] for kind in (base if isinstance(base, tuple) else (base,))]
        return _limited([*types, *(["null"] if null else [])], hint.limits, null=null)

    def array(self, hint: Hint, *, null: bool) -> Json:
        document: Json = {"type": ["array", "null"] if null else "array"}
        document["items"] = self.value(hint.items[0])
        if not hint.variadic:
            document |= {"minItems": len(hint.items), "maxItems": len(hint.items)}
        return document

    def reference(self, cls: Any, *, nullable: bool) -> Json:
        """A definition by the class's name; by its module's, too, where two have one."""
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()
        if self.named.setdefault(name, cls) is not cls:
            name = f"{cls.__module__.rpartition('.')[2]}_{name}"
        if name not in self.definitions:
            self.definitions[name] = self.object(cls, nullable=nullable)
        return {"$ref": f"#/$defs/{name}"}


def _or_null(document: Json) -> Json:
    return {"anyOf": [document, {"type": "null"}]}


def _limited(types: list[str], limits: Limits, *, null: bool) -> Json:
    if limits.among:
        return {"enum": [*limits.among, *([None] if null else [])]}
    document: Json = {"type": types if len(types) > 1 else types[0]}
    for name in ("minimum", "maximum", "pattern"):
        value = getattr(limits, name)
        if value is not None:
            document[name] = value
    return document
