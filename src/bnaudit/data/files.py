"""Sample batches from files: `.npz` keyed by input name, `.npy`, and tensors saved by torch."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bnaudit.data.arrays import from_numpy, to_tensor
from bnaudit.data.batch import Samples
from bnaudit.data.signature import LABELS, family, labels_key, match, named, wanted
from bnaudit.errors import DataError, InputError
from bnaudit.files import exists, is_file, opened
from bnaudit.load.archive import require_intact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bnaudit.load.model import LoadedModel


def read_samples(paths: Sequence[str], model: LoadedModel, labels: str | None) -> Samples:
    """Reads and checks the rows that `--data` and `--labels` name.

    Args:
        paths: files; several that hold the same input are joined along the rows, others add
            inputs. `name=path` names the input that a bare array is for.
        model: what the arrays must fit.
        labels: a key in the data or a path of its own; None takes one of `LABELS` if there is one.

    Raises:
        DataError: a file cannot be read, or its arrays do not fit.
    """
    joined: dict[str, list[Tensor]] = {}
    for typed in paths:
        for name, array in _named(typed, model).items():
            joined.setdefault(name, []).append(array)
    source = paths[0] if len(paths) == 1 else "the data"
    arrays: dict[str, Tensor] = {}
    for name, parts in joined.items():
        if len({family(p.dtype) for p in parts}) > 1:
            kinds = ", ".join(str(p.dtype).removeprefix("torch.") for p in parts)
            raise DataError(f"{source}: {name}: the files hold different types ({kinds})")
        try:
            arrays[name] = parts[0] if len(parts) == 1 else torch.cat(parts)
        except (RuntimeError, TypeError) as error:
            raise DataError(
                f"{source}: {name}: the arrays of several files do not join along the rows"
            ) from error
    rows, labels_from, key = labels_beside(arrays, labels, model, source)
    arrays, notes = named(arrays, model, key)
    return Samples(
        arrays=match(arrays, model, source=source, ignore=[] if key is None else [key]),
        labels=rows,
        labels_from=labels_from if key is None else f"{source}:{key}",
        source="file",
        paths=tuple(paths),
        notes=notes,
    )


def labels_beside(
    arrays: Mapping[str, Tensor], labels: str | Path | None, model: LoadedModel, source: str
) -> tuple[Tensor | None, str | None, str | None]:
    """The labels beside some arrays, where they came from, and their key if they are one of these.

    Args:
        arrays: by name.
        labels: a key among them or a path of its own; None takes one of `LABELS` if there is one.
        model: an input of this name is no labels unless asked for.
        source: of the arrays, named in errors.

    Raises:
        DataError: neither a key nor a file.
    """
    labels = labels_key(arrays, model) if labels is None else labels
    if labels is None:
        return None, None, None
    if isinstance(labels, str) and labels in arrays:
        return arrays[labels], labels, labels
    if not is_file(labels):
        raise DataError(
            f"labels {str(labels)!r}: neither a key of {source} (it has: {', '.join(arrays)}) nor a file"
        )
    return read_labels(Path(labels)), str(labels), None


def read_labels(path: Path) -> Tensor:
    """The labels in a file of their own: its only array, or the one called "labels".

    Raises:
        DataError: the file cannot be read, or does not say which array is meant.
    """
    content = _read(path)
    if isinstance(content, dict):
        key = next((n for n in LABELS if n in content), None)
        if len(content) != 1 and key is None:
            raise DataError(f"{path}: holds several arrays and none is called {LABELS[0]!r}")
        content = content[next(iter(content)) if key is None else key]
    if not isinstance(content, torch.Tensor):
        raise DataError(f"{path}: holds no single array")
    return content


def _named(typed: str, model: LoadedModel) -> dict[str, Tensor]:
    """The arrays of one file by input name."""
    names = [s.name for s in model.inputs]
    name, _, rest = typed.partition("=")
    if rest and not exists(typed) and (model.accepts(name) or exists(rest)):
        if not model.accepts(name):
            raise DataError(f"--data {typed}: the model has no input {name!r}", hint=wanted(model))
        single = _read(Path(rest))
        beside: dict[str, Tensor] = {}
        if isinstance(single, dict):
            key = None if len(single) == 1 else labels_key(single, model)
            beside = {} if key is None else {key: single.pop(key)}
            single = single.get(name, single) if len(single) != 1 else next(iter(single.values()))
        if not isinstance(single, torch.Tensor):
            raise DataError(
                f"{rest}: holds several arrays, but is given for the input {name!r} alone",
                hint=f"name one of its arrays {name!r}; or leave {name}= out: an .npz finds its inputs by "
                "its own keys",
            )
        return {name: single, **beside}
    content = _read(Path(typed))
    if isinstance(content, dict):
        return content
    parts = content if isinstance(content, list) else [content]
    if len(parts) != len(names):
        raise DataError(
            f"{typed}: holds {len(parts)} array(s) without names, but the model has {len(names)} inputs",
            hint=f"{wanted(model)}; use an .npz keyed by input name, or --data NAME=PATH",
        )
    return dict(zip(names, parts, strict=True))


def _read(path: Path) -> Tensor | list[Tensor] | dict[str, Tensor]:
    """One array, several without names, or several by name, told apart by content."""
    try:
        with opened(path) as file:
            magic = file.read(6)
        if magic == b"\x93NUMPY":
            return from_numpy(np.load(path, allow_pickle=False), str(path))
        npz = False
        if magic[:2] == b"PK":
            with zipfile.ZipFile(path) as archive:
                npz = all(name.endswith(".npy") for name in archive.namelist())
        if npz:
            with np.load(path, allow_pickle=False) as arrays:
                return {k: from_numpy(arrays[k], f"{path}: {k}") for k in arrays.files}
        return _saved(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; give a .npz, .npy or .pt file") from None
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: a damaged or cut-off .npz file") from error
    except DataError:
        raise
    except OSError as error:
        reason = error.strerror or "not what it begins as"
        raise DataError(f"{path}: cannot be read ({reason})") from error
    except Exception as error:  # numpy, zipfile, zlib and pickle each fail in ways of their own
        raise DataError(
            f"{path}: cannot be read as .npz, .npy or .pt tensors",
            hint="write it with numpy.savez(path, name=array) or torch.save of tensors; pickled "
            "objects are not read",
        ) from error


def _saved(path: Path) -> Tensor | list[Tensor] | dict[str, Tensor]:
    """What torch.save wrote, if its checksums are right, which PyTorch does not compare."""
    try:
        require_intact(path)
    except InputError as error:
        raise DataError(error.message, hint=error.hint) from error
    return _tensors(torch.load(path, map_location="cpu", weights_only=True), path)


def _tensors(content: Any, path: Path) -> Tensor | list[Tensor] | dict[str, Tensor]:
    if isinstance(content, torch.Tensor):
        return to_tensor(content, str(path))
    if isinstance(content, dict) and all(isinstance(v, torch.Tensor) for v in content.values()):
        return {str(k): to_tensor(v, f"{path}: {k}") for k, v in content.items()}
    if isinstance(content, (list, tuple)) and all(isinstance(v, torch.Tensor) for v in content):
        return [to_tensor(v, str(path)) for v in content]
    raise DataError(f"{path}: holds no tensors (a tensor, a list or a dict of tensors is read)")
