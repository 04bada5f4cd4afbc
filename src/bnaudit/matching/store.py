"""Matched batches that were made before, in the user's cache folder; only where that was asked for.

The key is a digest of everything that they follow from: the model's file, its tensors (a file may keep them
in others, a factory has none), the noise to begin with, the steps, device and precision, and the versions.
What is read is arrays alone (.npz, no pickles), of the shapes and types that are expected; and it is not
believed: the batches are run, and have to come as near to the statistics as they are said to.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bnaudit._version import __version__
from bnaudit.files import content, is_file, opened

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.session import Session

_MOST = 1 << 30
"""Bytes of the folder; the files that were used longest ago go first."""

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one batch.

    Attributes:
        inputs: as the batch has them.
        steps: that it took.
        left: the objective.
        kept: inputs that were left as drawn, and why.
    """

    inputs: tuple[Tensor, ...]
    steps: int
    left: float
    kept: dict[str, str]


def folder() -> Path:
    """Where this user's programs keep what they can make again."""
    given = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    usual = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return (Path(given) if given else Path.home() / usual) / "bnaudit" / "matched"


def key_of(session: Session, limit: int) -> str:
    """The digest that names the file."""
    execution, loaded = session.execution, session.placed.loaded
    digest = hashlib.sha256()
    said = [
        __version__,
        torch.__version__,
        limit,
        execution.device.type,
        execution.dtype,
        loaded.format,
    ]
    said += [sorted((name, repr(value)) for name, value in loaded.values.items()), execution.seed]
    digest.update(repr(said).encode())
    if loaded.path is not None and is_file(loaded.path):
        with opened(loaded.path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    named = [*execution.module.named_parameters(), *execution.module.named_buffers()]
    named += [
        (name, x)
        for b in session.batches.items
        for name, x in zip(session.batches.names, b.inputs, strict=True)
    ]
    for name, tensor in named:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def read(key: str, session: Session) -> list[Kept] | None:
    """The batches under a key; None where there are none that could be theirs."""
    path = folder() / f"{key}.npz"
    items = session.batches.items
    most = 16 * sum(x.numel() for b in items for x in b.inputs) + _BLOCK
    try:
        file = io.BytesIO(content(path, most, renewable=True))
        if sum(entry.file_size for entry in zipfile.ZipFile(file).infolist()) > most:
            return None
        with np.load(file, allow_pickle=False) as arrays:
            tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        facts = json.loads(bytes(tensors["facts"].tolist()))
        found = [
            Kept(
                tuple(tensors[f"{i}.{j}"] for j in range(len(batch.inputs))),
                int(facts[i]["steps"]),
                float(facts[i]["left"]),
                {str(name): str(why) for name, why in facts[i]["kept"].items()},
            )
            for i, batch in enumerate(items)
        ]
    except Exception:  # not there, cut off, of another version: then they are made again
        return None
    same = all(
        x.shape == y.shape and x.is_floating_point() == y.is_floating_point()
        for kept, batch in zip(found, items, strict=True)
        for x, y in zip(kept.inputs, batch.inputs, strict=True)
    )
    with suppress(OSError):
        os.utime(path)
    return found if same else None


def write(key: str, batches: list[Kept]) -> str | None:
    """Keeps the batches: a whole file or none; why that failed, or None."""
    facts = [{"steps": b.steps, "left": b.left, "kept": b.kept} for b in batches]
    arrays = {f"{i}.{j}": x.numpy() for i, b in enumerate(batches) for j, x in enumerate(b.inputs)}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    place = folder()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            Path(name).replace(place / f"{key}.npz")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _bounded(place)
    except OSError as error:
        return f"the matched batches were not kept: {place}: {error.strerror or error}"
    return None


def _bounded(place: Path) -> None:
    files = [(path.stat(), path) for path in place.glob("*.npz")]
    total = sum(found.st_size for found, _ in files)
    for found, path in sorted(files, key=lambda entry: entry[0].st_mtime)[:-1]:
        if total <= _MOST:
            return
        path.unlink(missing_ok=True)
        total -= found.st_size
