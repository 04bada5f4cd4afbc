"""What a source of samples is: it reads one file or folder into arrays by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnaudit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bnaudit.data.rows import Rows
    from bnaudit.load.model import InputSpec, LoadedModel

LARGE = 1 << 26
"""Bytes of an array from which on its rows are read when they are asked for; a smaller one is read whole,
checksums and all."""

COPY_AGAIN = "copy or download it again and compare the size"
YOUR_OWN = "anything else a function of your own can read: --data file.py:function"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a source may have to know of the model and the options.

    Attributes:
        model: what takes the arrays; None for a file of labels.
        only: the input that the file is for, where it is for one alone.
        labels: the key of the labels that was asked for.
        given: input -> array, as `--map` says it.
        images: how images are read, see `bnaudit.config.data_kinds.Images`.
    """

    model: LoadedModel | None = None
    only: str | None = None
    labels: str | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The inputs that the file may hold."""
        specs = () if self.model is None else self.model.inputs
        return tuple(s for s in specs if self.only in {None, s.name})


@dataclass(frozen=True, slots=True)
class Found:
    """The arrays of a file.

    Attributes:
        arrays: by name; by "0", "1", ... where they have none.
        named: whether the names are the file's own.
        notes: what was assumed.
        labels_are: what its labels are, where the file says it otherwise than by an array ("the class
            folders"); they stand among the arrays.
    """

    arrays: Mapping[str, Rows]
    named: bool = True
    notes: tuple[str, ...] = ()
    labels_are: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of file.

    Attributes:
        name: in errors.
        is_one: whether a path is of this kind, by its first bytes (none of a folder).
        read: its arrays.
    """

    name: str
    is_one: Callable[[Path, bytes], bool]
    read: Callable[[Path, Wanted], Found]


def missing(library: str, extra: str, what: str) -> DataError:
    """The error where a library of an extra is not installed."""
    return DataError(
        f"{what} needs {library}, which is not installed",
        hint=f"pip install 'bnaudit[{extra}]'",
    )
