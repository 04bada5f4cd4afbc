"""What `--loss-option` takes: values by name, typed or in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnaudit.config.kinds import NOTHING, Pairs, mapping_of
from bnaudit.errors import UsageError
from bnaudit.values import parse

if TYPE_CHECKING:
    from bnaudit.config.kinds import Context, Schema
    from bnaudit.config.tree import Node

_SCALAR: Schema = {"type": ["number", "boolean", "string"]}


class Values(Pairs):
    """Name -> number, switch, text or list of numbers; what they mean is for the loss to say."""

    empty = NOTHING
    wanted = "a mapping such as {ignore_index: 255}"
    plain: Schema = {  # noqa: RUF012  # as of every kind
        "type": "object",
        "additionalProperties": {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]},
    }

    def typed(self, text: str) -> tuple[str, Any]:
        """`ignore_index=255` -> ("ignore_index", 255); see `Kind.typed`."""
        name, separator, value = text.partition("=")
        if not separator or not name.strip() or not value.strip():
            raise ValueError(f"{text!r} is no option; write it like ignore_index=255")
        try:
            return name.strip(), parse(value)
        except UsageError as error:
            raise ValueError(error.message) from error

    def join(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """See `Kind.join`."""
        return dict(super().join(values))

    def read(self, node: Node, context: Context) -> dict[str, Any]:
        """See `Kind.read`."""
        found = {}
        for name, item in mapping_of(node, context, self.wanted).items():
            inside = context.inside(name)
            items = item.value if isinstance(item.value, list) else [item]
            values = [_scalar(part, inside) for part in items]
            found[name] = values if isinstance(item.value, list) else values[0]
        return found


def _scalar(node: Node, context: Context) -> Any:
    if isinstance(node.value, (list, dict)) or node.value is None:
        context.wrong(node, "a number, true or false, a text, or a list of numbers")
    return parse(node.value) if isinstance(node.value, str) and node.text else node.value
