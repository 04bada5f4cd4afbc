"""Files whose tensors are bytes at known places: the numbers are written over, every other byte stays.

Checkpoints (zip and legacy), TorchScript, torch.export and safetensors. The checksums that zip files have
of their members follow.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from bnaudit.errors import InputError, RunError
from bnaudit.load.pickles.archive import Archive
from bnaudit.load.pickles.checkpoint import explained
from bnaudit.load.pickles.numbers import PlacedFile
from bnaudit.load.pickles.objects import SIZES, DamagedError, StoredTensor
from bnaudit.load.sniff import FileKind, sniff
from bnaudit.recalibration.store.base import Store
from bnaudit.recalibration.store.numbers import TYPES, encoded
from bnaudit.recalibration.store.sums import renew_checksums

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from bnaudit.load.weights.stored import StoredFile
    from bnaudit.recalibration.passes import Layer, Statistics

_APART = "save the two apart (tensor.clone()), or recalibrate before the file is put together"


@dataclass(frozen=True, slots=True)
class TensorStore(Store):
    """See `Store`.

    Attributes:
        path: the file.
        file: gives the places of its numbers.
        tensors: all that have a name in the file.
        names: layer -> names of its mean, and of its variance; one tensor may have several.
    """

    path: Path
    file: PlacedFile
    tensors: Mapping[str, StoredTensor]
    names: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]

    def write(self, folder: Path, name: str, statistics: Mapping[str, Statistics]) -> None:
        """See `Store.write`."""
        target = folder / name
        patches = self._patches(statistics)
        self._require_apart(patches)
        shutil.copyfile(self.path, target)
        with target.open("r+b") as file:
            for start, (data, _) in patches.items():
                file.seek(start)
                file.write(data)
        if isinstance(self.file, Archive):
            renew_checksums(target, [(start, len(data)) for start, (data, _) in patches.items()])

    def _patches(self, statistics: Mapping[str, Statistics]) -> dict[int, tuple[bytes, str]]:
        """Place in the file -> bytes, and whose they are.

        Raises:
            RunError: two layers want other numbers at one place.
        """
        patches: dict[int, tuple[bytes, str]] = {}
        for layer, found in statistics.items():
            for names, values in zip(self.names[layer], found, strict=True):
                for own in names:
                    for start, data in self._placed(own, values):
                        known = patches.setdefault(start, (data, own))
                        if known[0] != data:
                            raise RunError(
                                f"{self.path}: {own} and {known[1]} are one tensor in the file, and the "
                                "layers have different statistics now",
                                hint=_APART,
                            )
        return patches

    def _placed(self, name: str, values: Tensor) -> Iterator[tuple[int, bytes]]:
        tensor = self.tensors[name]
        data = encoded(values.flatten(), tensor.dtype, big_endian=self.file.big_endian)
        width = SIZES[tensor.dtype]
        for i, element in enumerate(_elements(tensor)):
            yield self._place(tensor, element), data[i * width : (i + 1) * width]

    def _place(self, tensor: StoredTensor, element: int) -> int:
        if tensor.storage is None:
            raise DamagedError("a tensor without numbers")
        return self.file.position(tensor.storage, element * SIZES[tensor.dtype])

    def _require_apart(self, patches: Mapping[int, tuple[bytes, str]]) -> None:
        """Refuses to change what belongs to another tensor as well: a moving average, another layer."""
        ours = {name for _, name in patches.values()}
        for layer in self.names.values():
            for names in layer:
                if ours.intersection(names):
                    ours.update(names)
        own = [self.tensors[name] for name in ours]
        storages = {(t.storage.key, t.storage.start) for t in own if t.storage is not None}
        for name, tensor in self.tensors.items():
            storage = tensor.storage
            if storage is None or (storage.key, storage.start) not in storages or name in ours:
                continue
            if tensor.layout == "strided" and tensor.numel:
                places = {self._place(tensor, e) for e in _elements(tensor)}
                met = next((p for p in patches if p in places), None)
                if met is not None:
                    raise RunError(
                        f"{self.path}: {name} is the same tensor in the file as {patches[met][1]}, and would "
                        "change with it",
                        hint=_APART,
                    )


def _elements(tensor: StoredTensor) -> list[int]:
    """Places of its elements in its storage, row by row."""
    found = [tensor.offset]
    for size, stride in zip(tensor.shape, tensor.strides, strict=True):
        found = [place + i * stride for place in found for i in range(size)]
    return found


def of_weights(
    path: Path, module: nn.Module, layers: Mapping[str, Layer], entry: str | None
) -> Store:
    """The weights of a factory's network, by the names that it gives them.

    Raises:
        InputError: the file cannot be read, or is of a kind whose numbers are not written.
    """
    from bnaudit.load.factory_weights import names_in_file

    kind = sniff(path)
    wanted = list(module.state_dict())
    if kind is FileKind.ONNX:
        raise InputError(
            f"{path}: an ONNX file has a network of its own",
            hint=f"recalibrate it by itself: bnaudit recalibrate {path} --data ... -o FIXED",
        )
    if kind is FileKind.TORCHSCRIPT:
        tensors, archive = _script_tensors(path)
        return _store("torchscript", path, archive, tensors, layers, names_in_file(tensors, wanted))
    if kind not in {FileKind.CHECKPOINT, FileKind.SAFETENSORS}:
        raise InputError(
            f"{path}: statistics are not written into {kind.value} files",
            hint="save the weights with torch.save or safetensors",
        )
    stored, others = _opened(path, kind, entry)
    if len(stored.paths) > 1:
        raise InputError(
            f"{path}: an index of {len(stored.paths)} files, which one output cannot be",
            hint="save the weights in one file: torch.save(model.state_dict(), path)",
        )
    names = names_in_file(stored.tensors, wanted)
    form = "checkpoint" if kind is FileKind.CHECKPOINT else "safetensors"
    return _store(form, path, stored.parts[0], {**others, **stored.tensors}, layers, names)


def _opened(
    path: Path, kind: FileKind, entry: str | None
) -> tuple[StoredFile, dict[str, StoredTensor]]:
    """The entry that was loaded, and the tensors of all others by a name that tells them."""
    if kind is FileKind.SAFETENSORS:
        from bnaudit.load.weights.safetensors import open_safetensors

        return open_safetensors(path), {}
    from bnaudit.load.weights.checkpoint import open_weights

    every = open_weights(path)
    chosen = every if entry is None else open_weights(path, entry)
    others = {
        f"{name} (entry {other.entry!r})": tensor
        for other in (every, *every.beside.values())
        if other.entry != chosen.entry
        for name, tensor in other.tensors.items()
    }
    return chosen, others


def of_torchscript(path: Path, layers: Mapping[str, Layer]) -> Store:
    """A scripted or traced module.

    Raises:
        InputError: it is damaged, or frozen.
    """
    tensors, archive = _script_tensors(path)
    return _store("torchscript", path, archive, tensors, layers, {n: n for n in tensors})


def _script_tensors(path: Path) -> tuple[dict[str, StoredTensor], Archive]:
    from bnaudit.inspection.script.program import read_program

    with explained(path, "TorchScript file"):
        archive = Archive(path)
        found = {
            f"{layer.path}.{own}" if layer.path else own: value
            for layer in read_program(archive).layers
            for own, value in layer.values.items()
            if isinstance(value, StoredTensor)
        }
    return found, archive


def of_exported(path: Path, layers: Mapping[str, Layer]) -> Store:
    """A torch.export file.

    Raises:
        InputError: it is damaged, or of an older format.
    """
    from bnaudit.load.weights.exported import model_names, stored_weights

    with explained(path, "torch.export file"):
        archive = Archive(path)
        models = model_names(archive)
        model = "model" if "model" in models else models[0]
        tensors, _ = stored_weights(archive, model)
    return _store("exported", path, archive, tensors, layers, {n: n for n in tensors})


def _store(  # what the formats differ in
    form: str,
    path: Path,
    file: object,
    tensors: Mapping[str, StoredTensor],
    layers: Mapping[str, Layer],
    in_file: Mapping[str, str],
) -> TensorStore:
    if not isinstance(file, PlacedFile):
        raise InputError(f"{path}: its numbers are packed", hint="save it again with torch.save")
    names, dtypes, kept = {}, {}, {}
    for name, layer in layers.items():
        mean, var = (
            tuple(in_file[p] for p in paths if p in in_file and in_file[p] in tensors)
            for paths in layer.paths
        )
        reason = None
        if not mean or not var:
            reason = "the file has no tensors of these names (frozen?)"
        else:
            found = [tensors[n] for n in (*mean, *var)]
            reason = next(filter(None, (_obstacle(file, t) for t in found)), None)
        if reason is not None:
            kept[name] = reason
            continue
        names[name] = (mean, var)
        dtypes[name] = (tensors[mean[0]].dtype, tensors[var[0]].dtype)
    return TensorStore(form, dtypes, kept, (path,), path, file, tensors, names)


def _obstacle(file: PlacedFile, tensor: StoredTensor) -> str | None:
    """Why a tensor cannot be written over."""
    if tensor.storage is None or tensor.layout != "strided" or tensor.dtype not in TYPES:
        return f"its statistics are stored as {tensor.layout} {tensor.dtype}"
    places = sorted(_elements(tensor))
    if any(a == b for a, b in pairwise(places)):
        return "one number is stored for all of its channels"
    try:
        file.position(tensor.storage, 0)
    except DamagedError as error:
        return str(error)
    return None
