"""BatchNorm layers by the names of their tensors, all that a state_dict tells.

A layer is a prefix with a mean and a variance, one number a channel each, and as many gammas and betas
where it has those (`layers.paired`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnaudit.inspection.layers import (
    ROLES,
    SWAP,
    Layer,
    address,
    few,
    paired,
    require_run,
    statics,
    with_places,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from bnaudit.load.pickles.objects import StoredTensor
    from bnaudit.load.weights.stored import StoredFile
    from bnaudit.records.inspection import BatchNormStatics

STATISTICS = ("mean", "var", "count")
_COMPILED = "_orig_mod."
_PARALLEL = "module."
_AVERAGED = "n_averaged"


@dataclass(frozen=True, slots=True)
class Group:
    """The tensors of one prefix.

    Attributes:
        prefix: in the file.
        roles: "mean", "var", "gamma", "beta", "count" -> name of the tensor.
    """

    prefix: str
    roles: dict[str, str] = field(default_factory=dict)


def split(name: str) -> tuple[str, str]:
    """(prefix, own name): of "bn1.weight", and of "bn1/gamma:0" as TensorFlow writes it."""
    plain = name.removesuffix(":0")
    cut = max(plain.rfind("."), plain.rfind("/"))
    return plain[: max(cut, 0)], plain[cut + 1 :]


def groups(tensors: Mapping[str, StoredTensor]) -> dict[str, Group]:
    """Prefix -> its tensors that have a role, in the file's order."""
    found: dict[str, Group] = {}
    for name in tensors:
        prefix, own = split(name)
        role = ROLES.get(own)
        if role is not None:
            found.setdefault(prefix, Group(prefix)).roles.setdefault(role, name)
    return found


def members(tensors: Mapping[str, StoredTensor], group: Group) -> dict[str, StoredTensor]:
    """Own name -> tensor of a prefix, of those that have a role."""
    return {split(name)[1]: tensors[name] for name in group.roles.values()}


def named_batchnorms(stored: StoredFile) -> tuple[BatchNormStatics, ...]:
    """The BatchNorm layers of a state_dict.

    Raises:
        InputError: their numbers are damaged, or a lazy layer was saved before it was run.
    """
    found: list[BatchNormStatics] = []
    places: dict[str, Hashable] = {}
    wrapper = wrapping(stored.tensors)
    every = groups(stored.tensors).values()
    layers = {g.prefix: Layer(g.prefix, "BatchNorm", "", members(stored.tensors, g)) for g in every}
    require_run(stored.path, layers.values())
    for group in every:
        layer = layers[group.prefix]
        if not layer.is_own_batchnorm:
            continue
        parts = {id(stored.tensors[n]): stored.owners.get(n, 0) for n in group.roles.values()}
        found.append(
            statics(
                layer,
                unwrapped(group.prefix, wrapper) or "BatchNorm",
                f"tensors {group.prefix + '.' if group.prefix else ''}*",
                lambda t, parts=parts: stored.vector(t, parts[id(t)]),  # type: ignore[misc]
            )
        )
        variance = layer.tensor("var")
        at = address(layer, 0 if variance is None else parts.get(id(variance), 0))
        if at is not None:
            places[found[-1].name] = at
    return with_places(found, places)


def wrapping(names: Iterable[str]) -> str:
    """What DataParallel, DDP and averaged models put before every name, or ""."""
    own = [n.replace(_COMPILED, "") for n in names if n != _AVERAGED]
    return _PARALLEL if own and all(n.startswith(_PARALLEL) for n in own) else ""


def unwrapped(name: str, wrapper: str) -> str:
    """A name without wrappers; torch.compile's is no author's and goes wherever it stands."""
    plain = f"{name}.".replace(_COMPILED, "").removeprefix(wrapper)
    return plain.removesuffix(".")


def shape_notes(tensors: Mapping[str, StoredTensor]) -> tuple[str, ...]:
    """Which layers are of a class that PyTorch does not have: its statistics have one dimension."""
    own = [
        group.prefix
        for group in groups(tensors).values()
        if paired(found := members(tensors, group))
        and any(len(t.shape) > 1 for t in found.values())
    ]
    if not own:
        return ()
    return (
        f"{few(own)}: statistics of more than one dimension, as in a BatchNorm of one's own, which no "
        f"batch_norm runs: judged by what is stored; {SWAP}",
    )


def wrapper_notes(names: Iterable[str]) -> tuple[str, ...]:
    """What was taken off the names."""
    names = list(names)
    found = [w for w in (wrapping(names),) if w]
    if any(_COMPILED in n for n in names):
        found.append(_COMPILED)
    return tuple(f"{w!r} was taken off the layers' names" for w in found)


def count_parameters(stored: StoredFile) -> int:
    """Floating-point numbers that are not statistics, each once however many names it has."""
    sizes: dict[tuple[object, ...], int] = {}
    for name, tensor in stored.tensors.items():
        if ROLES.get(split(name)[1]) in STATISTICS or "float" not in tensor.dtype:
            continue
        key: tuple[object, ...] = (name,)
        if tensor.storage is not None:
            part = stored.owners.get(name, 0)
            key = (part, tensor.storage.key, tensor.storage.start, tensor.offset, tensor.shape)
        sizes[key] = tensor.numel
    return sum(sizes.values())
