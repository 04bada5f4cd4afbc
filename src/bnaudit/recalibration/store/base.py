"""What every store of running statistics says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bnaudit.recalibration.passes import Statistics


@dataclass(frozen=True, slots=True)
class Store(ABC):
    """The running statistics of one model.

    Attributes:
        format: of what is written.
        dtypes: layer -> type of its mean and of its variance, torch's names.
        kept: layer -> why its statistics cannot be written.
        sources: all files that the model is made of.
    """

    format: str
    dtypes: Mapping[str, tuple[str, str]]
    kept: Mapping[str, str]
    sources: tuple[Path, ...]

    @abstractmethod
    def write(self, folder: Path, name: str, statistics: Mapping[str, Statistics]) -> None:
        """Writes the model with other statistics into an empty folder.

        Args:
            folder: where to; whatever lies there then belongs to the model.
            name: of its main file.
            statistics: layer -> what is to be stored, in the file's own precision.

        Raises:
            InputError, RunError: the file cannot hold them.
        """
