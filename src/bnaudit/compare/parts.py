"""Reading a JSON document strictly: whatever is missing or of another type is named by its path."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from bnaudit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

HINT = "write one with `bnaudit check MODEL -o report.json`"


@dataclass(frozen=True, slots=True)
class Part:
    """A value of a document, and where it stands.

    Attributes:
        value: as `json` reads it.
        file: of the document.
        where: dotted path, "" for the document.
    """

    value: Any
    file: str
    where: str = ""

    def __getitem__(self, key: str) -> Part:
        """The value under a key, which has to be there."""
        where = f"{self.where}.{key}" if self.where else key
        if not isinstance(self.value, dict):
            self.refuse("a mapping")
        if key not in self.value:
            raise InputError(f"{self.file}: not a whole report: {where} is missing", hint=HINT)
        return Part(self.value[key], self.file, where)

    def items(self) -> Iterator[Part]:
        """The entries of a list."""
        if not isinstance(self.value, list):
            self.refuse("a list")
        for place, value in enumerate(self.value):
            yield Part(value, self.file, f"{self.where}[{place}]")

    @property
    def absent(self) -> bool:
        """Whether it is null: there is no such value, and the report says why elsewhere."""
        return self.value is None

    def text(self) -> str:
        """Text."""
        if not isinstance(self.value, str):
            self.refuse("text")
        return str(self.value)

    def number(self) -> float:
        """A finite number."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.refuse("a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.refuse("a finite number")
        return number

    def whole(self) -> int:
        """A whole number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            self.refuse("a whole number")
        return int(self.value)

    def number_or_none(self) -> float | None:
        """A finite number, or null."""
        return None if self.absent else self.number()

    def text_or_none(self) -> str | None:
        """Text, or null."""
        return None if self.absent else self.text()

    def refuse(self, wanted: str) -> NoReturn:
        """Raises "PATH is no ..."."""
        where = self.where or "the document"
        raise InputError(f"{self.file}: not a whole report: {where} has to be {wanted}", hint=HINT)
