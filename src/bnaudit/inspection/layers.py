"""Layers of a file that keeps its modules: what class they were, and what a BatchNorm among them stores."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bnaudit.errors import InputError
from bnaudit.load.pickles.objects import UNINITIALISED, StoredTensor
from bnaudit.records.inspection import Absence, BatchNormStatics

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from pathlib import Path

_BATCHNORM = re.compile(r"(Sync|Lazy|Frozen)?BatchNorm")
_OTHER_NORM = re.compile(r"(Instance|Layer|Group|RMS|LocalResponse)Norm")
_WEIGHTED = re.compile(r"(Quantized|Lazy|Nonsparse)?(Conv(Transpose)?\dd|Linear|Bilinear)")
_BATCHNORM_HOME = "torch.nn."
_BASE = ("num_features", "eps", "momentum", "affine", "track_running_stats")


# PyTorch's names, then those of Keras, of JAX libraries, of Paddle and of textbooks.
ROLES: dict[str, str] = {
    "running_mean": "mean",
    "moving_mean": "mean",
    "_mean": "mean",
    "mean": "mean",
    "running_var": "var",
    "running_variance": "var",
    "moving_variance": "var",
    "moving_var": "var",
    "_variance": "var",
    "variance": "var",
    "var": "var",
    "weight": "gamma",
    "gamma": "gamma",
    "scale": "gamma",
    "bias": "beta",
    "beta": "beta",
    "shift": "beta",
    "num_batches_tracked": "count",
}
"""Own name of a tensor -> what it is in a BatchNorm."""

_BARE = {"mean", "var", "variance"}


def paired(tensors: Mapping[str, StoredTensor]) -> int | None:
    """The number of channels where tensors of these names are a BatchNorm's, else None.

    A mean and a variance, one number a channel each, and as many gammas and betas where there are any.
    Names that say no more than "mean" need all four: data is normalised with such pairs as well.

    Args:
        tensors: own name -> tensor; names without a role do not matter.
    """
    found = {ROLES[own]: tensor for own, tensor in tensors.items() if own in ROLES}
    found.pop("count", None)
    if "mean" not in found or "var" not in found or not all(t.is_float for t in found.values()):
        return None
    if len(found) < 4 and any(own in _BARE for own in tensors):
        return None
    sizes = {t.numel if is_vector(t) else -1 for t in found.values()}
    return sizes.pop() if len(sizes) == 1 and -1 not in sizes else None


def is_vector(tensor: StoredTensor) -> bool:
    """Whether it has one number a channel: one dimension, and others of size 1 for broadcasting."""
    return bool(tensor.shape) and sum(size != 1 for size in tensor.shape) <= 1


@dataclass(frozen=True, slots=True)
class Layer:
    """One module of a file.

    Attributes:
        path: where it is registered.
        kind: its class's own name.
        home: the Python module that defines the class, "" where the file does not tell.
        values: its attributes, tensors among them.
    """

    path: str
    kind: str
    home: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_batchnorm(self) -> bool:
        """One of PyTorch's, or by its attributes a class on one of them.

        A class that is only called so is a BatchNorm of its own, or a wrapper around one of PyTorch's.
        """
        if _OTHER_NORM.search(self.kind):
            return False
        named = bool(_BATCHNORM.match(self.kind)) and self.home.startswith(_BATCHNORM_HOME)
        return named or all(name in self.values for name in _BASE)

    @property
    def is_own_batchnorm(self) -> bool:
        """Another class that has the tensors of one."""
        if self.is_batchnorm or _OTHER_NORM.search(self.kind):
            return False
        tensors = {n: t for n, t in self.values.items() if isinstance(t, StoredTensor)}
        return paired(tensors) is not None

    @property
    def other_norm(self) -> str | None:
        """The class of another normalisation."""
        return self.kind if _OTHER_NORM.search(self.kind) else None

    @property
    def has_weights(self) -> bool:
        """A convolution or linear layer."""
        return bool(_WEIGHTED.match(self.kind))

    def number(self, name: str) -> float | None:
        """An attribute that is a finite number."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return float(value) if math.isfinite(value) else None

    def tensor(self, role: str) -> StoredTensor | None:
        """The tensor that is a BatchNorm's "mean", "var", "gamma", "beta" or "count"."""
        found = (v for n, v in self.values.items() if ROLES.get(n) == role)
        return next((v for v in found if isinstance(v, StoredTensor)), None)


def statics(
    layer: Layer,
    name: str,
    origin: str,
    read: Callable[[StoredTensor], tuple[float, ...]],
) -> BatchNormStatics:
    """The record of a BatchNorm layer.

    Args:
        layer: the module.
        name: for the report.
        origin: likewise.
        read: gives a tensor's elements; it is called for vectors only.
    """
    training = layer.values.get("training")
    parts = {role: layer.tensor(role) for role in ("mean", "gamma", "var", "beta")}
    known = [t for t in parts.values() if t is not None and is_vector(t)]
    features = layer.values.get("num_features")
    if layer.is_own_batchnorm:
        training = None  # what it does with the flag, if anything, is its own business
    elif parts["mean"] is None and parts["var"] is None:
        training = True
    return BatchNormStatics(
        name=name,
        origin=origin,
        channels=known[0].numel if known else features if type(features) is int else None,
        eps=layer.number("eps"),
        momentum=layer.number("momentum"),
        training=training if isinstance(training, bool) else None,
        batches_tracked=counter(layer.tensor("count"), read),
        dtype=known[0].dtype if known else None,
        gamma=values(parts["gamma"], read),
        beta=values(parts["beta"], read),
        running_mean=values(parts["mean"], read),
        running_var=values(parts["var"], read),
    )


def with_places(
    layers: Sequence[BatchNormStatics], stored: Mapping[str, Hashable]
) -> tuple[BatchNormStatics, ...]:
    """The layers, each with the names of the others that have the same running statistics.

    Args:
        layers: by name.
        stored: name -> where its statistics are stored, of those that have an address.
    """
    alike: dict[Hashable, list[str]] = {}
    for layer in layers:
        if layer.name in stored:
            alike.setdefault(stored[layer.name], []).append(layer.name)
    return tuple(
        replace(layer, places=(*layer.places, *(n for n in group if n != layer.name)))
        if layer.name in stored and len(group := alike[stored[layer.name]]) > 1
        else layer
        for layer in layers
    )


def address(layer: Layer, part: int = 0) -> Hashable | None:
    """Where the running variance of a layer is stored; None where it has none, or no place of its own."""
    variance = layer.tensor("var")
    if variance is None or variance.storage is None or not variance.numel:
        return None
    return (part, variance.storage, variance.offset, variance.strides)


def require_run(path: Path, layers: Iterable[Layer]) -> None:
    """Refuses a file that was saved before its lazy BatchNorms had seen a batch.

    Raises:
        InputError: it has such layers, named in the text.
    """
    lazy = [
        layer.path
        for layer in layers
        if any(
            isinstance(t, StoredTensor) and t.layout == UNINITIALISED and ROLES.get(n) == "mean"
            for n, t in layer.values.items()
        )
    ]
    if lazy:
        raise InputError(
            f"{path}: {few(lazy)}: a LazyBatchNorm that was never run: its tensors have no values yet",
            hint="run a batch through the network, then save it",
        )


def values(
    tensor: StoredTensor | None, read: Callable[[StoredTensor], tuple[float, ...]]
) -> tuple[float, ...] | None:
    """The numbers of a vector; None where there is none or its type is not one of numbers."""
    if tensor is None or not is_vector(tensor) or not tensor.is_float:
        return None
    return read(tensor)


def counter(
    tensor: StoredTensor | None, read: Callable[[StoredTensor], tuple[float, ...]]
) -> int | None:
    """A count of batches, whatever type it has been cast to."""
    if tensor is None or tensor.numel != 1 or tensor.layout != "strided":
        return None
    value = read(tensor)[0] if len(tensor.shape) < 2 else math.nan
    return int(value) if math.isfinite(value) else None


def own_forms(layers: Iterable[tuple[str, str]]) -> Absence:
    """The absence of a file that has BatchNorms of other classes, or in arithmetic, and no other.

    Args:
        layers: of each the path, and what it is.
    """
    layers = list(layers)
    kinds = Counter(what for _, what in layers)
    return Absence(
        "other-form",
        tuple(f"{few([path for path, own in layers if own == what])}: {what}" for what in kinds),
        SWAP,
    )


SWAP = (
    "to have them measured, put torch.nn.BatchNorm1d, 2d or 3d with the same weight, bias, running_mean, "
    "running_var and eps in their place"
)


def own_notes(own: Absence) -> list[str]:
    """What `own_forms` has found, where it is judged beside layers of the usual form or without a run."""
    told = [f"judged by what they store: {clause}" for clause in own.evidence]
    return [*told, SWAP] if told else []


def few(names: Sequence[str], shown: int = 3) -> str:
    """The first names, and how many more."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(n or "the model itself" for n in names[:shown]) + more


def other_norms(layers: Iterable[Layer]) -> dict[str, int]:
    """Class of another normalisation -> how often, in the order of first appearance."""
    return dict(Counter(kind for layer in layers if (kind := layer.other_norm) is not None))
