"""The index of weights in several files: `model.safetensors.index.json`, `pytorch_model.bin.index.json`.

{"metadata": {...}, "weight_map": {name of the tensor: file beside the index}}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.files import is_file, opened, referred_to

if TYPE_CHECKING:
    from pathlib import Path

_LIMIT = 1 << 26


def shard_paths(path: Path) -> tuple[Path, ...] | None:
    """The files that an index names, sorted; None where the file is no such index.

    Raises:
        InputError: a name in it leads elsewhere, or a file of it is missing.
    """
    with opened(path) as file:
        if not file.read(64).lstrip().startswith(b"{") or path.stat().st_size > _LIMIT:
            return None
        file.seek(0)
        text = file.read()
    import json  # few model files begin like JSON

    try:
        names = set(json.loads(text)["weight_map"].values())
        if not names or not all(isinstance(n, str) for n in names):
            return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    for name in sorted(names):
        if name in ("", ".", "..") or any(c in name for c in "/\\\0"):
            raise InputError(
                f"{path}: names a file in another folder", hint="all parts lie beside the index"
            )
        if not is_file(path.with_name(name)):
            raise InputError(
                f"{path}: its part {name} is missing", hint="all parts lie beside the index"
            )
    return tuple(referred_to(path.with_name(name)) for name in sorted(names))
