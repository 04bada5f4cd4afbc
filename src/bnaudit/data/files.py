"""Sample rows from files: what `--data` and `--labels` name, put together and matched with the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bnaudit.data.batch import Samples
from bnaudit.data.rows import Joined
from bnaudit.data.signature import LABELS, family, labels_key, match, named, wanted
from bnaudit.data.sources import Found, Wanted, read
from bnaudit.errors import DataError
from bnaudit.files import exists, is_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnaudit.data.rows import Rows
    from bnaudit.load.model import LoadedModel
    from bnaudit.options import AuditOptions


def read_samples(
    paths: Sequence[str], model: LoadedModel, options: AuditOptions, labels: str | None
) -> Samples:
    """Reads and checks the rows that `--data` and `--labels` name.

    Args:
        paths: files and folders; several that hold the same input are joined along the rows, others add
            inputs. `name=path` names the input that one is for.
        model: what the arrays must fit.
        options: `--map`, and how images are read.
        labels: a key in the data or a path of its own; None takes one of `LABELS` if there is one.

    Raises:
        DataError: a file cannot be read, or its arrays do not fit.
    """
    context = Wanted(model, None, labels, options.map, options.images)
    joined: dict[str, list[Rows]] = {}
    notes: tuple[str, ...] = ()
    labels_are = None
    for typed in paths:
        found = _read(typed, context)
        notes, labels_are = (*notes, *found.notes), found.labels_are
        for name, array in found.arrays.items():
            joined.setdefault(name, []).append(array)
    source = paths[0] if len(paths) == 1 else "the data"
    arrays = {name: _along_rows(parts, f"{source}: {name}") for name, parts in joined.items()}
    rows, labels_from, key = labels_beside(arrays, labels, model, source)
    arrays, more = named(arrays, model, key, options.map)
    if key is not None:
        labels_from = f"{source}: {labels_are}" if labels_are else f"{source}:{key}"
    return Samples(
        arrays=match(arrays, model, source=source, ignore=[] if key is None else [key]),
        labels=rows,
        labels_from=labels_from,
        source="file",
        paths=tuple(paths),
        notes=(*notes, *more),
    )


def _along_rows(parts: Sequence[Rows], subject: str) -> Rows:
    if len(parts) == 1:
        return parts[0]
    if len({family(p.dtype) for p in parts}) > 1:
        kinds = ", ".join(str(p.dtype).removeprefix("torch.") for p in parts)
        raise DataError(f"{subject}: the files hold different types ({kinds})")
    if any(not p.dim() or p.shape[1:] != parts[0].shape[1:] for p in parts):
        shapes = ", ".join(str(list(p.shape)) for p in parts)
        raise DataError(
            f"{subject}: the arrays of several files do not join along the rows ({shapes})",
            hint="all axes but the first have to be the same",
        )
    return Joined(parts)


def labels_beside(
    arrays: Mapping[str, Rows], labels: str | Path | None, model: LoadedModel, source: str
) -> tuple[Rows | None, str | None, str | None]:
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
            f"labels {str(labels)!r}: neither a key of {source} (it has: {', '.join(arrays)}) nor a file",
            hint=f"--labels names one of them, or a file of labels; unasked, {', '.join(LABELS)} are taken",
        )
    return read_labels(Path(labels)), str(labels), None


def read_labels(path: Path) -> Rows:
    """The labels in a file of their own: its only array, or the one called "labels" or the like.

    Raises:
        DataError: the file cannot be read, or does not say which array is meant.
    """
    arrays = read(path, Wanted()).arrays
    key = next((n for n in LABELS if n in arrays), None)
    if len(arrays) != 1 and key is None:
        raise DataError(
            f"{path}: holds several arrays ({', '.join(arrays)}) and none is called {LABELS[0]!r}",
            hint=f"labels are called {', '.join(LABELS)}",
        )
    return arrays[next(iter(arrays)) if key is None else key]


def _read(typed: str, context: Wanted) -> Found:
    """The arrays of one file by input name."""
    model = context.model
    assert model is not None  # noqa: S101  # of labels alone there is none
    name, _, rest = typed.partition("=")
    if rest and not exists(typed) and (model.accepts(name) or exists(rest)):
        if not model.accepts(name):
            raise DataError(f"--data {typed}: the model has no input {name!r}", hint=wanted(model))
        return _of_input(name, Path(rest), context)
    found = read(Path(typed), context)
    names = [s.name for s in model.inputs]
    if found.named or context.given:
        return found
    parts = list(found.arrays.values())
    if len(parts) != len(names):
        raise DataError(
            f"{typed}: holds {len(parts)} array(s) without names, but the model has {len(names)} inputs",
            hint=f"{wanted(model)}; use an .npz keyed by input name, --data NAME=PATH, or --map INPUT=PLACE",
        )
    return Found(dict(zip(names, parts, strict=True)), notes=found.notes)


def _of_input(name: str, path: Path, context: Wanted) -> Found:
    """What a file holds for one input, and the labels beside it."""
    model = context.model
    assert model is not None  # noqa: S101
    found = read(path, Wanted(model, name, context.labels, context.given, context.images))
    arrays = dict(found.arrays)
    key = context.labels if context.labels in arrays else labels_key(arrays, model)
    beside = {} if key is None or len(arrays) == 1 else {key: arrays.pop(key)}
    array = context.given.get(name, name)
    if array in arrays:
        single = arrays[array]
    elif len(arrays) == 1:
        single = next(iter(arrays.values()))
    else:
        raise DataError(
            f"{path}: holds several arrays ({', '.join(arrays)}), but is given for the input {name!r} alone",
            hint=f"--map {name}={next(iter(arrays), 'KEY')} says which one is meant; or leave {name}= out: "
            "inputs are found by their names",
        )
    return Found({array: single, **beside}, notes=found.notes, labels_are=found.labels_are)
