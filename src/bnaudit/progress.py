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

    def advance(self, steps: float = 1) -> None:
        """Some of the stage is done.

        Args:
            steps: how many, in mean ones where they take unlike times: the time left follows from it.
        """

    def say(self, state: str) -> None:
        """How the stage stands, in a few words beside its name; the last ones count."""

    def expect(self, seconds: float, shorter: str) -> None:
        """What the stage is estimated to take in all.

        Args:
            seconds: of it.
            shorter: which option makes it shorter.
        """


class Silent:
    """Shows nothing."""

    def stage(self, name: str, total: int | None = None) -> None:
        """See `Progress.stage`."""

    def advance(self, steps: float = 1) -> None:
        """See `Progress.advance`."""

    def say(self, state: str) -> None:
        """See `Progress.say`."""

    def expect(self, seconds: float, shorter: str) -> None:
        """See `Progress.expect`."""
