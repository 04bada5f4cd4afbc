"""BatchNorm layers by the names of their tensors, all that a state_dict tells.

A layer is a prefix with a vector of running means and one of running variances, as long as each
other and as gamma and beta, where it has those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnaudit.inspection.layers import counter, values
from bnaudit.records.inspection import BatchNormStatics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bnaudit.load.pickles.objects import StoredTensor
    from bnaudit.load.weights.stored import StoredFile

# PyTorch's names, then those of Keras and of JAX libraries.
_ROLES: dict[str, str] = {
    "running_mean": "mean",
    "moving_mean": "mean",
    "running_var": "var",
    "moving_variance": "var",
    "moving_var": "var",
    "weight": "gamma",
    "gamma": "gamma",
    "scale": "gamma",
    "bias": "beta",
    "beta": "beta",
    "num_batches_tracked": "count",
}
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
        role = _ROLES.get(own)
        if role is not None:
            found.setdefault(prefix, Group(prefix)).roles.setdefault(role, name)
    return found


def length(tensors: Mapping[str, StoredTensor], group: Group) -> int | None:
    """The number of channels of a prefix that is a BatchNorm, None where it is none."""
    if "mean" not in group.roles or "var" not in group.roles:
        return None
    shapes = {tensors[n].shape for role, n in group.roles.items() if role != "count"}
    floats = all(tensors[group.roles[r]].is_float for r in ("mean", "var"))
    shape = next(iter(shapes))
    return shape[0] if floats and len(shapes) == 1 and len(shape) == 1 else None


def named_batchnorms(stored: StoredFile) -> tuple[BatchNormStatics, ...]:
    """The BatchNorm layers of a state_dict.

    Raises:
        InputError: their numbers are damaged.
    """
    found = groups(stored.tensors)
    wrapper = wrapping(stored.tensors)
    return tuple(
        _statics(stored, group, channels, wrapper)
        for group in found.values()
        if (channels := length(stored.tensors, group)) is not None
    )


def _statics(stored: StoredFile, group: Group, channels: int, wrapper: str) -> BatchNormStatics:
    def tensor(role: str) -> StoredTensor | None:
        return stored.tensors[group.roles[role]] if role in group.roles else None

    part = stored.owners.get

    def vector(role: str) -> tuple[float, ...] | None:
        owner = part(group.roles.get(role, ""), 0)
        return values(tensor(role), lambda t: stored.vector(t, owner))

    mean = group.roles["mean"]
    return BatchNormStatics(
        name=unwrapped(group.prefix, wrapper) or "BatchNorm",
        origin=f"tensors {group.prefix + '.' if group.prefix else ''}*",
        channels=channels,
        batches_tracked=counter(
            tensor("count"), lambda t: stored.vector(t, part(group.roles["count"], 0))
        ),
        dtype=stored.tensors[mean].dtype,
        gamma=vector("gamma"),
        beta=vector("beta"),
        running_mean=vector("mean"),
        running_var=vector("var"),
    )


def wrapping(names: Iterable[str]) -> str:
    """What DataParallel, DDP and averaged models put before every name, or ""."""
    own = [n.replace(_COMPILED, "") for n in names if n != _AVERAGED]
    return _PARALLEL if own and all(n.startswith(_PARALLEL) for n in own) else ""


def unwrapped(name: str, wrapper: str) -> str:
    """A name without wrappers; torch.compile's is no author's and goes wherever it stands."""
    plain = f"{name}.".replace(_COMPILED, "").removeprefix(wrapper)
    return plain.removesuffix(".")


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
        if _ROLES.get(split(name)[1]) in STATISTICS or "float" not in tensor.dtype:
            continue
        key: tuple[object, ...] = (name,)
        if tensor.storage is not None:
            part = stored.owners.get(name, 0)
            key = (part, tensor.storage.key, tensor.storage.start, tensor.offset, tensor.shape)
        sizes[key] = tensor.numel
    return sum(sizes.values())
