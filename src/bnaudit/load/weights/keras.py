"""Keras' files: HDF5, alone or within the zip file of a `.keras` archive. Needs h5py, imported here only.

A BatchNormalization layer is a group with moving_mean and moving_variance in it (Keras 1 and 2, by name), or
one whose `vars` are numbered: gamma, beta, moving_mean, moving_variance, without what its configuration
turns off (Keras 3).
"""

from __future__ import annotations

import io
import json
import zipfile
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bnaudit.errors import InputError
from bnaudit.load.pickles.objects import FLOATS, DamagedError, Storage, StoredTensor
from bnaudit.load.sniff import FileKind
from bnaudit.load.weights.stored import COPY_AGAIN, StoredFile, dense

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Settings = dict[str, dict[str, Any]]
"""Name of a BatchNormalization layer -> its configuration."""

_PARTS = ("gamma", "beta", "moving_mean", "moving_variance")
_LARGEST = 1 << 31
_LONGEST_TEXT = 1 << 26


class _Datasets:
    """The numbers of datasets, read when a layer was found; a storage's key is the dataset's path."""

    big_endian = False

    def __init__(self, file: Any) -> None:
        self.file = file

    def numbers(self, of: Storage, start: int, count: int) -> bytes:
        """`count` bytes of a dataset from byte `start` on."""
        try:
            item = self.file[of.key]
            values = item[()].astype(item.dtype.newbyteorder("<")).tobytes()
        except Exception as error:  # HDF5 fails on damaged files in ways of its own
            raise DamagedError(f"the dataset {of.key!r} cannot be read") from error
        return bytes(values[start : start + count])


def open_keras(path: Path) -> tuple[StoredFile, Settings]:
    """The datasets of a file by name, and the configuration of its BatchNormalization layers.

    Raises:
        InputError: it is damaged, or h5py is not installed.
    """
    try:
        h5py = import_module("h5py")
    except ImportError as error:
        raise InputError(
            f"{path}: a Keras (HDF5) file, which needs h5py to be read",
            hint="pip install bnaudit[keras], or pip install h5py",
        ) from error
    try:
        content, config, version = _opened(path)
        file = h5py.File(content, "r")
        config = config or _text(file.attrs.get("model_config"))
        layers = dict(_layers(json.loads(config))) if config else {}
        tensors = dict(_tensors(h5py, file, layers))
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        RecursionError,
        zipfile.BadZipFile,
    ) as error:
        raise InputError(f"{path}: a damaged or cut-off Keras file", hint=COPY_AGAIN) from error
    top = {"keras_version": version or _text(file.attrs.get("keras_version"))}
    form = "h5" if content is path else "keras"
    data = _Datasets(file)
    stored = StoredFile(path, FileKind.KERAS, form, tensors, (data,), (path,), top=top)
    return stored, layers


def _opened(path: Path) -> tuple[Any, str, str]:
    """(what h5py opens, the configuration, Keras' version); the last two are "" outside a `.keras`."""
    if not zipfile.is_zipfile(path):
        return path, "", ""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        weights = next(e for name, e in entries.items() if name.endswith(".weights.h5"))
        if weights.file_size > _LARGEST:
            raise ValueError("larger than what is read into memory")
        texts = {
            name: archive.read(name).decode("utf-8", "replace")
            for name in ("config.json", "metadata.json")
            if name in entries and entries[name].file_size <= _LONGEST_TEXT
        }
        metadata = json.loads(texts.get("metadata.json", "{}"))
        version = metadata.get("keras_version") if isinstance(metadata, dict) else ""
        return io.BytesIO(archive.read(weights)), texts.get("config.json", ""), str(version or "")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def _layers(config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, configuration) of the BatchNormalization layers, in the order of the file."""
    waiting = [config]
    while waiting:
        entry = waiting.pop(0)
        if isinstance(entry, list):
            waiting = [*entry, *waiting]
        elif isinstance(entry, dict):
            settings = entry.get("config")
            if "BatchNormalization" in str(entry.get("class_name")) and isinstance(settings, dict):
                yield str(settings.get("name")), settings
            else:
                waiting = [*entry.values(), *waiting]


def _tensors(h5py: Any, file: Any, settings: Settings) -> Iterator[tuple[str, StoredTensor]]:
    """Datasets by name. Numbered ones of a BatchNormalization get the names of Keras 2.

    The group says what its layer is called; without the layer's configuration a file of weights alone does
    not tell whether a single vector before the statistics is gamma or beta, and it stays a number.
    """
    found: dict[str, Any] = {}
    file.visititems(lambda name, item: found.setdefault(name, item) and None)
    for name, item in found.items():
        if not isinstance(item, h5py.Dataset) or name.startswith("optimizer"):
            continue
        if item.external or item.is_virtual:  # HDF5 would open whatever path stands there
            raise InputError(
                f"{file.filename}: the numbers of {name!r} lie in another file, which is refused",
                hint="save the weights with Keras, in one file",
            )
        group, _, own = name.rpartition("/")
        label = name
        if own.isdecimal() and group.endswith("/vars"):
            layer = _text(item.parent.attrs.get("name")) or group.removesuffix("/vars")
            parts = _parts(settings.get(layer), len(item.parent))
            if layer in settings or _CLASS in group:
                label = f"{layer}/{parts[int(own)]}" if int(own) < len(parts) else name
        elif own.removesuffix(":0") in _PARTS:  # model_weights/bn1/bn1/gamma:0
            label = "/".join(dict.fromkeys(name.removeprefix("model_weights/").split("/")))
        shape, dtype = tuple(item.shape or ()), item.dtype.name
        if dtype in FLOATS:
            yield label, dense(name, dtype, shape)
        else:
            yield label, StoredTensor(None, dtype, shape, layout="other")


_CLASS = "batch_normalization"


def _parts(settings: dict[str, Any] | None, count: int) -> list[str]:
    """What the numbered vectors of a layer are."""
    if settings is not None:
        off = {"gamma": "scale", "beta": "center"}
        return [part for part in _PARTS if settings.get(off.get(part, ""), True)]
    before = ["gamma", "beta"] if count == len(_PARTS) else [str(i) for i in range(count - 2)]
    return [*before, *_PARTS[2:]]
