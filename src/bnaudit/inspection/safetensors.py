"""A safetensors file, or several with an index, without a run: BatchNorm by the tensors' names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.inspection.checkpoint import inspect_names
from bnaudit.load.weights.safetensors import open_safetensors

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.inspection import Inspection

_LONGEST = 60


def inspect_safetensors(path: Path) -> Inspection:
    """What the tensors of a file, or of the files of an index, say of BatchNorm.

    Only vectors of BatchNorm layers are read. They come in the file's order, which is not the
    network's: the format sorts its tensors.

    Raises:
        InputError: a header is damaged, or there are no tensors.
    """
    stored = open_safetensors(path)
    facts = {}
    made_for = stored.top.get("format")
    if isinstance(made_for, str):
        facts["framework"] = made_for[:_LONGEST]
    if len(stored.paths) > 1:
        facts["files"] = str(len(stored.paths))
    return inspect_names(stored, "safetensors", None, facts)
