"""Weights of a file into a network, whatever wrapper it was saved from."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import torch
from torch.nn.parameter import is_lazy

from bnaudit.errors import InputError
from bnaudit.load.weights.state import read_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from bnaudit.load.pickles.objects import StoredTensor

T = TypeVar("T")

_INFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What compilation, sharding and checkpointing put in the middle of names."""

_COUNTER = "num_batches_tracked"
"""Files from before PyTorch 0.4.1, and most converters, have none, and nothing measured needs it."""

_SHOWN = 3


def load_weights(
    module: nn.Module, path: Path, *, strict: bool, entry: str | None = None
) -> tuple[str, ...]:
    """Loads a file's tensors into a network that was made to be measured.

    Args:
        module: the network; it is changed.
        path: a checkpoint, safetensors, TorchScript or ONNX file.
        strict: whether every name of the network has to be in the file and, unless the file holds
            the network beside other things under a prefix of its own, the other way round.
        entry: which of several networks in the file; None for the first of those that fit best.

    Returns:
        Notes on what was left out.

    Raises:
        InputError: the file cannot be read, or its names or shapes are not those of the network.
    """
    wanted: Mapping[str, Tensor] = module.state_dict()
    state = read_state(path, entry, lambda tensors: _fit(tensors, wanted))
    tensors, prefix = _renamed(state.tensors, wanted)
    outside = len(state.tensors) - len(tensors)
    shared = [name for name in tensors if name in wanted]
    if not shared:
        raise InputError(
            f"{path}: none of its {len(tensors)} tensors (first: {next(iter(tensors))}) is one of the "
            f"network's {len(wanted)} (first: {next(iter(wanted), 'none')})",
            hint="is it the file of this network? --arg may make the factory build the right one",
        )
    missing = [n for n in wanted if n not in tensors and not n.endswith(_COUNTER)]
    if not state.complete:
        missing = [n for n in missing if wanted[n].is_floating_point()]
    unexpected = [n for n in tensors if n not in wanted]
    if strict:
        _require_match(path, missing, unexpected)
    _require_shapes(path, {n: tensors[n] for n in shared}, wanted)
    given = {n: tensors[n] for n in shared}
    empty = any(tensor.is_meta for tensor in wanted.values())
    try:
        with torch.no_grad():
            module.load_state_dict(dict(given), strict=False, assign=empty)
    except (RuntimeError, TypeError, ValueError) as error:
        first = next((ln.strip() for ln in str(error).splitlines()[1:] if ln.strip()), str(error))
        raise InputError(
            f"{path}: cannot be loaded into the network ({first[:160]})",
            hint="save the weights as plain dense tensors: torch.save(model.state_dict(), path)",
        ) from error
    return (*state.notes, *_notes(path, prefix, outside, missing, unexpected))


def names_in_file(names: Iterable[str], wanted: Iterable[str]) -> dict[str, str]:
    """Name in the network -> name in the file, as `load_weights` matches them.

    Args:
        names: of the file's tensors.
        wanted: of the network's.
    """
    return _renamed({name: name for name in names}, dict.fromkeys(wanted, ""))[0]


def _fit(tensors: Mapping[str, Tensor | StoredTensor], wanted: Mapping[str, Tensor]) -> int:
    """How many of a network's tensors these are, by name and shape."""
    named, _ = _renamed(tensors, wanted)
    return sum(n in wanted and tuple(t.shape) == tuple(wanted[n].shape) for n, t in named.items())


def _renamed(tensors: Mapping[str, T], wanted: Mapping[str, object]) -> tuple[dict[str, T], str]:
    """The tensors under the network's names, and the prefix that its names have in the file.

    The prefix is the one under which most names are the network's; of several the first in the file,
    as plain weights come before their moving averages. What lies outside of it is no part of the
    network (a loss, an optimiser, an average of the weights) and left out.
    """
    plain = {_without_infixes(name): tensor for name, tensor in tensors.items()}
    names = {_without_infixes(name): name for name in wanted}
    prefix = _common_prefix(plain, names)
    stripped = {n.removeprefix(prefix): t for n, t in plain.items() if n.startswith(prefix)}
    added = "" if prefix else _common_prefix(names, plain)
    if not all(name.startswith(added) for name in names):
        added = ""  # only the network as a whole is wrapped
    return {names.get(added + n, n): t for n, t in stripped.items()}, prefix


def _without_infixes(name: str) -> str:
    for infix in _INFIXES:
        name = name.replace(infix, "")
    return name


def _common_prefix(longer: Iterable[str], shorter: Mapping[str, object]) -> str:
    """What to take off `longer` so that most of its names are in `shorter`; "" where that is nothing."""
    votes: Counter[str] = Counter()
    for name in longer:
        parts = name.split(".")
        for depth in range(len(parts)):
            if ".".join(parts[depth:]) in shorter:
                votes["".join(f"{part}." for part in parts[:depth])] += 1
    most = max(votes.values(), default=0)
    return "" if votes[""] == most else next(p for p in votes if votes[p] == most)


def _require_match(path: Path, missing: list[str], unexpected: list[str]) -> None:
    if not missing and not unexpected:
        return
    parts = []
    if missing:
        parts.append(f"it lacks {len(missing)} of the network's tensors ({_listed(missing)})")
    if unexpected:
        parts.append(f"it has {len(unexpected)} that the network lacks ({_listed(unexpected)})")
    raise InputError(
        f"{path}: does not fit the network: {'; '.join(parts)}",
        hint="--arg may make the factory build the right network; --no-strict loads what fits",
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _require_shapes(path: Path, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    wrong = [
        (name, tensor)
        for name, tensor in given.items()
        if not is_lazy(wanted[name]) and tensor.shape != wanted[name].shape
    ]
    if wrong:
        name, tensor = wrong[0]
        have, want = (
            "x".join(map(str, t.shape)) or "a single number" for t in (tensor, wanted[name])
        )
        more = f"; {len(wrong) - 1} more differ" if len(wrong) > 1 else ""
        raise InputError(
            f"{path}: {name} is {have} in the file and {want} in the network{more}",
            hint="--arg sets what the factory builds, for example --arg num_classes=10",
        )


def _notes(
    path: Path, prefix: str, outside: int, missing: list[str], unexpected: list[str]
) -> tuple[str, ...]:
    others = f"; tensors under other names: {outside}, left out" if outside else ""
    notes = [f"{path}: the names begin with {prefix!r} there{others}"] if prefix else []
    if missing:
        notes.append(
            f"{path}: tensors that it lacks, left as the factory made them: {len(missing)} "
            f"({_listed(missing)})"
        )
    if unexpected:
        notes.append(f"{path}: tensors left out: {len(unexpected)} ({_listed(unexpected)})")
    return tuple(notes)
