"""Layers of a file that keeps its modules: what class they were, and what a BatchNorm among them stores."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnaudit.load.pickles.objects import StoredTensor
from bnaudit.records.inspection import BatchNormStatics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_BATCHNORM = re.compile(r"(Sync|Lazy|Frozen)?BatchNorm")
_OTHER_NORM = re.compile(r"(Instance|Layer|Group|RMS|LocalResponse)Norm")
_WEIGHTED = re.compile(r"(Quantized|Lazy|Nonsparse)?(Conv(Transpose)?\dd|Linear|Bilinear)")
_BASE = ("num_features", "eps", "momentum", "affine", "track_running_stats")


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
        """A BatchNorm by its class's name, or by the attributes of a subclass's base."""
        if _OTHER_NORM.search(self.kind):
            return False
        return bool(_BATCHNORM.match(self.kind)) or all(name in self.values for name in _BASE)

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

    def tensor(self, name: str) -> StoredTensor | None:
        """An attribute that is a tensor."""
        value = self.values.get(name)
        return value if isinstance(value, StoredTensor) else None


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

    def vector(own: str) -> tuple[float, ...] | None:
        return values(layer.tensor(own), read)

    training = layer.values.get("training")
    sized = [layer.tensor(own) for own in ("running_mean", "weight", "running_var", "bias")]
    known = [t for t in sized if t is not None and len(t.shape) == 1]
    features = layer.values.get("num_features")
    return BatchNormStatics(
        name=name,
        origin=origin,
        channels=known[0].shape[0] if known else features if type(features) is int else None,
        eps=layer.number("eps"),
        momentum=layer.number("momentum"),
        training=training if isinstance(training, bool) else None,
        batches_tracked=counter(layer.tensor("num_batches_tracked"), read),
        dtype=known[0].dtype if known else None,
        gamma=vector("weight"),
        beta=vector("bias"),
        running_mean=vector("running_mean"),
        running_var=vector("running_var"),
    )


def values(
    tensor: StoredTensor | None, read: Callable[[StoredTensor], tuple[float, ...]]
) -> tuple[float, ...] | None:
    """The numbers of a vector; None where there is none or its type is not one of numbers."""
    if tensor is None or len(tensor.shape) != 1 or not tensor.is_float:
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


def other_norms(layers: Iterable[Layer]) -> dict[str, int]:
    """Class of another normalisation -> how often, in the order of first appearance."""
    return dict(Counter(kind for layer in layers if (kind := layer.other_norm) is not None))
