"""Which layers are measured: the pattern of `--layers`, and what first order left to go on with."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from bnaudit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnaudit.measure.collect import Collected

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Selection:
    """A shell-style pattern of layer names; None selects every layer."""

    pattern: str | None = None

    def __contains__(self, name: object) -> bool:
        return self.pattern is None or fnmatchcase(str(name), self.pattern)

    def require_one(self, names: Iterable[str]) -> None:
        """Refuses a pattern that no executed layer matches.

        Raises:
            UsageError: lists what there is.
        """
        present = list(dict.fromkeys(names))
        if present and not any(name in self for name in present):
            shown = ", ".join(present[:6]) + (", ..." if len(present) > 6 else "")
            raise UsageError(
                f"--layers {self.pattern!r} matches none of the {len(present)} executed layers",
                hint=f"the layers are: {shown}",
            )


def measurable(collected: Collected, mode: str = "batch") -> list[Key]:
    """Calls with a gradient and enough values per channel for the theorems, in execution order."""
    fewest = 3 if mode == "batch" else 1
    return [r.key for r in collected.batches[0] if r.obstacle is None and r.m >= fewest]
