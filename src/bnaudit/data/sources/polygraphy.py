"""Polygraphy's feed dictionaries: the JSON of `--save-inputs` and `--load-inputs`.

A list with one mapping an iteration, or a folder with a file for each: input name -> {"array": an .npy
file in base 64, "polygraphy_class": "ndarray"}; torch tensors likewise, as torch.save writes them. Old
files mark the class by a key `__polygraphy_encoded_ndarray`, and the first ones are in latin-1.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bnaudit.data.arrays import from_numpy, to_tensor
from bnaudit.data.rows import Held, Joined
from bnaudit.data.sources.source import Found
from bnaudit.errors import DataError
from bnaudit.files import content

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from bnaudit.data.rows import Rows
    from bnaudit.data.sources.source import Wanted

_LIMIT = 1 << 31
_OLD = "__polygraphy_encoded_"
_HINT = (
    "`polygraphy run model.onnx --onnxrt --save-inputs inputs.json` writes what is read: a list of "
    "mappings from input names to arrays"
)


def is_feed(path: Path, head: bytes) -> bool:
    """Whether it is JSON, or a folder of nothing else."""
    if os.path.isdir(path):  # noqa: PTH112  # pathlib's raises
        suffixes = {entry.suffix for entry in path.iterdir()}
        return suffixes == {".json"}
    return head.lstrip()[:1] in (b"[", b"{") or path.suffix == ".json"


def read_feed(path: Path, wanted: Wanted) -> Found:
    """The iterations' arrays, joined along their rows."""
    del wanted
    files = [path] if path.is_file() else sorted(path.iterdir())
    feeds = [feed for file in files for feed in _feeds(file)]
    if not feeds:
        raise DataError(f"{path}: holds no iteration", hint=_HINT)
    parts: dict[str, list[Tensor]] = {name: [] for name in feeds[0]}
    for number, feed in enumerate(feeds):
        if feed.keys() != parts.keys():
            raise DataError(
                f"{path}: iteration {number} has the arrays {', '.join(feed)}, the first "
                f"{', '.join(parts)}",
                hint=_HINT,
            )
        for name, value in feed.items():
            parts[name].append(_decoded(value, f"{path}: {name} of iteration {number}"))
    return Found({name: _joined(p, f"{path}: {name}") for name, p in parts.items()})


def _feeds(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(content(path, _LIMIT))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON, or cut off", hint=_HINT) from error
    feeds = found if isinstance(found, list) else [found]
    if not all(isinstance(f, dict) and f and "polygraphy_class" not in f for f in feeds):
        raise DataError(f"{path}: is JSON, but none of Polygraphy's inputs", hint=_HINT)
    return feeds


def _joined(parts: list[Tensor], subject: str) -> Rows:
    first = parts[0]
    if not first.dim():
        return Held(first)
    if any(p.shape[1:] != first.shape[1:] or p.dtype != first.dtype for p in parts):
        raise DataError(
            f"{subject}: the iterations have arrays of different shapes or types",
            hint="the first axis alone may differ; give the iterations in files of their own",
        )
    return Joined([Held(p) for p in parts])


def _decoded(value: Any, subject: str) -> Tensor:
    kind = value.get("polygraphy_class") if isinstance(value, dict) else None
    if kind is None and isinstance(value, dict):
        kind = next((k.removeprefix(_OLD) for k in value if k.startswith(_OLD)), None)
    key = {"ndarray": "array", "Tensor": "tensor"}.get(str(kind))
    text = None if key is None else value.get(key)
    if not isinstance(text, str):
        raise DataError(f"{subject}: is no array of Polygraphy's", hint=_HINT)
    try:
        try:
            raw = base64.b64decode(text.encode(), validate=True)
        except binascii.Error:
            raw = text.encode("latin-1")
        if key == "tensor":
            return to_tensor(torch.load(io.BytesIO(raw), "cpu", weights_only=True), subject)
        return from_numpy(np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False), subject)
    except DataError:
        raise
    except Exception as error:  # base64, numpy and torch each fail in ways of their own
        raise DataError(f"{subject}: cannot be read", hint=_HINT) from error
