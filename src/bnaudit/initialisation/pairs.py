"""The same parameter in two files: wrappers' prefixes away, names and shapes compared."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from bnaudit.errors import InputError, UsageError
from bnaudit.load.sniff import FileKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnaudit.load.weights.model import NamedTensor, WeightFile

_WRAPPERS = frozenset({"module", "model", "_orig_mod"})
_COMPILED = "_orig_mod."
_MAX_LEVEL = 4
_SHOWN = 3
_RUNNING = ("running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Renamed:
    """A file's tensors under the names they are compared by.

    Attributes:
        file: the file.
        tensors: canonical name -> tensor, in the file's order.
        prefix: what was removed from the names ("module."), or "".
    """

    file: WeightFile
    tensors: Mapping[str, NamedTensor]
    prefix: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """Both files, and the names of what is to be compared, in the trained file's order."""

    start: Renamed
    trained: Renamed
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def pair(start: WeightFile, trained: WeightFile, *, every: bool, layers: str | None) -> Pairs:
    """Matches the parameters of two files.

    Args:
        start: the initial weights.
        trained: the trained ones.
        every: parameters of one dimension too, not only weights.
        layers: shell-style pattern of names to compare, None for all.

    Raises:
        InputError: the files are of different architectures.
        UsageError: the pattern matches nothing.
    """
    left, right = _agree(start, trained)
    chosen = [_chosen(side, every, layers) for side in (left, right)]
    if not chosen[0] and not chosen[1]:
        if layers is not None:
            raise UsageError(f"--layers {layers!r} matches no weight of either file")
        raise InputError(
            f"{trained.path}: has no weights of two or more dimensions",
            hint="--all compares 1-D parameters too; quantised weights are not compared",
        )
    notes = _compare(left, right, *chosen)
    return Pairs(left, right, tuple(n for n in chosen[1] if n in chosen[0]), notes)


def _agree(start: WeightFile, trained: WeightFile) -> tuple[Renamed, Renamed]:
    """Removes as little from the names as makes most of them agree."""
    sides = [[_renamed(file, level) for level in range(_MAX_LEVEL)] for file in (start, trained)]

    def overlap(levels: tuple[int, int]) -> tuple[int, int]:
        left, right = sides[0][levels[0]], sides[1][levels[1]]
        if left is None or right is None:
            return (-1, 0)
        return (len(left.tensors.keys() & right.tensors.keys()), -sum(levels))

    best = max(((i, j) for i in range(_MAX_LEVEL) for j in range(_MAX_LEVEL)), key=overlap)
    left, right = sides[0][best[0]], sides[1][best[1]]
    if left is None or right is None:
        raise InputError(f"{start.path} and {trained.path}: names that differ in a wrapper only")
    return left, right


def _renamed(file: WeightFile, level: int) -> Renamed | None:
    """Up to `level` wrappers off the front of each name; None where two names become one.

    torch.compile's `_orig_mod` is never an author's name and goes wherever it stands.
    """
    tensors: dict[str, NamedTensor] = {}
    prefix = ""
    for tensor in file.tensors:
        name, removed = tensor.name.replace(_COMPILED, ""), ""
        for _ in range(level):
            head, dot, rest = name.partition(".")
            if not dot or head not in _WRAPPERS:
                break
            name, removed = rest, f"{removed}{head}."
        if name in tensors:
            return None
        if _COMPILED in tensor.name:
            removed += _COMPILED
        prefix = prefix or removed
        tensors[name] = tensor
    return Renamed(file, tensors, prefix)


def _chosen(side: Renamed, every: bool, layers: str | None) -> dict[str, tuple[int, ...]]:
    return {
        name: tensor.shape
        for name, tensor in side.tensors.items()
        if (every or len(tensor.shape) > 1)
        and not name.endswith(_RUNNING)
        and tensor.name not in side.file.statistics
        and (layers is None or fnmatchcase(name, layers))
    }


def _compare(
    left: Renamed,
    right: Renamed,
    start: dict[str, tuple[int, ...]],
    trained: dict[str, tuple[int, ...]],
) -> tuple[str, ...]:
    """Notes on what may be missing.

    Raises:
        InputError: anything else is missing on one side, or of another shape.
    """
    only_start = [n for n in start if n not in trained and n not in right.tensors]
    only_trained = [n for n in trained if n not in start and n not in left.tensors]
    differing = [
        f"{n} {_size(left.tensors[n].shape)} / {_size(right.tensors[n].shape)}"
        for n in dict.fromkeys((*start, *trained))
        if n in left.tensors
        and n in right.tensors
        and left.tensors[n].shape != right.tensors[n].shape
    ]
    notes = []
    for side, other, missing in ((right, left, only_start), (left, right, only_trained)):
        # An export drops what the forward pass does not use, an auxiliary head for one.
        exported = side.file.kind is FileKind.ONNX and other.file.kind is not FileKind.ONNX
        if missing and exported and len(missing) < len(start | trained) / 2:
            weights = f"{len(missing)} weight{'' if len(missing) == 1 else 's'}"
            notes.append(f"{weights} not in the exported {side.file.path}: {_few(missing)}")
            missing.clear()
    facts = [
        f"only in {left.file.path}: {_few(only_start)}" if only_start else "",
        f"only in {right.file.path}: {_few(only_trained)}" if only_trained else "",
        f"of another shape: {_few(differing)}" if differing else "",
    ]
    if any(facts):
        hint = "give the same network twice; --layers PATTERN compares a part that both have"
        if any(name.startswith("onnx::") for name in (*only_start, *only_trained)):
            hint = (
                "the ONNX export renamed weights ('onnx::...'): give two files exported in the same "
                "way, or the checkpoints"
            )
        raise InputError(
            f"the two files are of different architectures ({'; '.join(f for f in facts if f)})",
            hint=hint,
        )
    return tuple(notes)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
