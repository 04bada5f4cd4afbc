"""Why numbers are missing: one sentence for each reason, however many layers share it."""

from __future__ import annotations

from dataclasses import dataclass, field

from bnaudit.render.table.text import listing

_SHOWN = 3

Note = tuple[str, str]
"""Text, style."""


@dataclass(slots=True)
class Notes:
    """Reasons so far, in the order in which they came up.

    Attributes:
        layers: how many there are; a reason that all of them share needs no names.
    """

    layers: int
    _labels: dict[tuple[bool, str, str], list[str]] = field(default_factory=dict)

    def add(self, what: str, why: str, label: str, *, failed: bool = False) -> None:
        """`what` ("" for all numbers) is missing at the layer `label` because of `why`."""
        labels = self._labels.setdefault((failed, what, why), [])
        if label not in labels:
            labels.append(label)

    def lines(self) -> list[Note]:
        """The sentences with their styles."""
        return [
            (f"{'✗' if failed else '–'} {self._subject(what, labels)}: {why}", _STYLES[failed])
            for (failed, what, why), labels in self._labels.items()
        ]

    def _subject(self, what: str, labels: list[str]) -> str:
        if what and len(labels) == self.layers > 1:
            return what
        return f"{what} of {listing(labels, _SHOWN)}" if what else listing(labels, _SHOWN)


_STYLES = {False: "", True: "bold red"}
