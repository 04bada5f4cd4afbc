"""How far an audit has come, told to whoever shows it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told what is going on; the command line draws it on stderr."""

    def stage(self, name: str, total: int | None = None) -> None:
        """A new stage begins.

        Args:
            name: what is being done ("measuring").
            total: number of steps, None where it is not known.
        """

    def advance(self) -> None:
        """One step of the stage is done."""


class Silent:
    """Shows nothing."""

    def stage(self, name: str, total: int | None = None) -> None:
        """See `Progress.stage`."""

    def advance(self) -> None:
        """See `Progress.advance`."""
