"""Everything bnaudit raises on purpose: one tree, the exit code on the class, the hint on the instance."""

from __future__ import annotations

from typing import ClassVar


class BnauditError(Exception):
    """A failure with a subject, a fact and a remedy.

    Attributes:
        exit_code: what the command line exits with.
        message: one line that names the subject and the fact.
        hint: one line that says what to do about it; where none is given, that of the class.
    """

    exit_code: ClassVar[int] = 70
    usual_hint: ClassVar[str | None] = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint


def first_line(error: BaseException) -> str:
    """Of an exception's text, or its kind where it has none; short enough for one line of a report."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:240]


class UsageError(BnauditError):
    """The options contradict each other, or one has no meaning for this model."""

    exit_code = 2
    usual_hint = "`bnaudit check --help` says what each option takes"


class ConfigError(BnauditError):
    """A configuration file that cannot be read, or says something that has no meaning."""

    exit_code = 2
    usual_hint = "`bnaudit config --no-config` lists every key with its default"


class InputError(BnauditError):
    """A model file that cannot be read, or holds something that no loader takes."""

    exit_code = 2


class DataError(BnauditError):
    """Sample batches or labels that do not fit the model's inputs."""

    exit_code = 2
    usual_hint = "`bnaudit check --help` says what --data and --labels take"


class RunError(BnauditError):
    """The model loads, but cannot be run, differentiated or measured."""

    exit_code = 4


class NoBatchNormError(BnauditError):
    """There is nothing to work on: no BatchNorm in the model."""

    exit_code = 3
