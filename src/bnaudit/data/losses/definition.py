"""What a named loss is, and how labels are laid beside an output, whatever axes either has."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from bnaudit.losses import LOSSES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    Settings = Mapping[str, Any]

LabelsAre = Literal["classes", "binary", "values", "sequences"]
IGNORED = -100
"""As torch's cross_entropy."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A named loss.

    Attributes:
        compute: (output, labels, options) -> scalar. A ValueError says what is wrong with the labels.
        labels_are: (output, labels) -> what it takes the labels for.
        suits: final activations that it is taken in front of.
        constant: (output, all labels like it, options) -> the output of a model that gives every row the
            same answer, one that these labels speak for; None where there is none.
    """

    compute: Callable[[Tensor, Any, Settings], Tensor]
    labels_are: Callable[[Tensor, Any], LabelsAre]
    suits: frozenset[str] = frozenset()
    constant: Callable[[Tensor, Tensor, Settings], Tensor | None] | None = None


def definition(name: str) -> Definition:
    """That of a name in `LOSSES`."""
    module, _, attribute = LOSSES[name].computed_by.partition(":")
    return cast("Definition", getattr(importlib.import_module(module), attribute))


def ignored(settings: Settings) -> int:
    """The label that is left out."""
    return int(settings.get("ignore_index", IGNORED))


def class_axis_first(y: Tensor, labels: Tensor) -> Tensor:
    """The output with its classes at axis 1, where torch wants them: some models have them last.

    The shape of the labels tells: (N, L) beside (N, L, K).
    """
    last = tuple(labels.shape) == tuple(y.shape[:-1]) or tuple(labels.shape) == tuple(y.shape)
    first = _fits_first(y, labels)
    return y.movedim(-1, 1) if last and not first and y.dim() > 2 else y


def _fits_first(y: Tensor, labels: Tensor) -> bool:
    return _without_ones(labels, y) is not None or tuple(labels.shape) == tuple(y.shape)


def _without_ones(labels: Tensor, y: Tensor) -> Tensor | None:
    """Indices in the shape (N, ...) that classes at axis 1 ask for: (N, 1, H, W) is that too."""
    wanted = (y.shape[0], *y.shape[2:])
    if tuple(labels.shape) == wanted:
        return labels
    if labels.dim() == y.dim() and labels.shape[1] == 1 and labels.numel() == y[:, 0].numel():
        return labels.reshape(wanted) if tuple(labels[:, 0].shape) == wanted else None
    return None


def whole(labels: Tensor) -> bool:
    """Whether these are integers, in whatever type."""
    if not labels.is_floating_point():
        return True
    return bool((labels == labels.round()).all())


def are_indices(y: Tensor, labels: Tensor) -> bool:
    """Whether labels have the shape of class indices of an output of several classes, and are integers."""
    if y.dim() < 2 or not isinstance(labels, torch.Tensor):
        return False
    y = class_axis_first(y, labels)
    return y.shape[1] > 1 and _without_ones(labels, y) is not None and whole(labels)


_ONE_SCORE = " (for one score a sample use --loss bce or mse)"


def class_indices(y: Tensor, labels: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """The output with classes at axis 1, and indices as int64 of the shape of the rest.

    Checked here: out of range they abort a GPU's whole process.

    Raises:
        ValueError: they are none of this output's.
    """
    if y.dim() < 2:
        raise ValueError(
            "there is no axis of classes; for one score a sample use --loss bce or mse"
        )
    y = class_axis_first(y, labels)
    found = _without_ones(labels, y)
    if found is None:
        wanted = [y.shape[0], *y.shape[2:]]
        raise ValueError(
            f"{y.shape[1]} classes take class indices of shape {wanted}, not {list(labels.shape)}"
            + _ONE_SCORE * (y.shape[1] == 1)
        )
    if not whole(found):
        raise ValueError(
            "class indices are whole numbers; class probabilities have the output's shape"
        )
    indices = found.long()
    left_out = ignored(settings)
    used = indices[indices != left_out]
    if not used.numel() and indices.numel():
        raise ValueError(f"every label of the batch is {left_out}, which ignore_index leaves out")
    outside = used[(used < 0) | (used >= y.shape[1])]
    if outside.numel():
        odd = torch.unique(outside).tolist()
        mask = (
            f"; where {odd[0]} marks what has no label, --loss-option ignore_index={odd[0]} leaves it out"
            if len(odd) == 1
            else ""
        )
        raise ValueError(
            f"class indices run from {int(used.min())} to {int(used.max())}, "
            f"but there are {y.shape[1]} classes" + (_ONE_SCORE if y.shape[1] == 1 else mask)
        )
    return y, indices


def matching(y: Tensor, labels: Tensor) -> Tensor:
    """The labels in shape and dtype of the output.

    Axes of size 1 may differ; anything more would pair values with the wrong outputs.

    Raises:
        ValueError: they have another shape.
    """
    if labels.squeeze().shape != y.squeeze().shape:
        raise ValueError(f"{list(labels.shape)} values for {list(y.shape)} outputs")
    return labels.reshape(y.shape).to(y.dtype)


def binary(y: Tensor, labels: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Output and labels between 0 and 1, both flat, without those that are left out.

    Raises:
        ValueError: they are none.
    """
    target = matching(y, labels)
    kept = target != ignored(settings)
    if not bool(kept.any()):
        raise ValueError(
            f"every label of the batch is {ignored(settings)}, which ignore_index leaves out"
        )
    used = target[kept]
    if not 0 <= float(used.min()) <= float(used.max()) <= 1:
        odd = torch.unique(used[~((used >= 0) & (used <= 1))])
        mask = (
            f"; where {int(odd[0])} marks what has no label, --loss-option ignore_index={int(odd[0])} "
            "leaves it out"
            if odd.numel() == 1 and float(odd[0]) == round(float(odd[0]))
            else ""
        )
        raise ValueError("binary labels lie between 0 and 1" + mask)
    return y, target


def weights(name: str, settings: Settings, y: Tensor, count: int, what: str) -> Tensor | None:
    """An option that is a list, one entry a class or an output.

    Raises:
        ValueError: there are more or fewer.
    """
    given = settings.get(name)
    if given is None:
        return None
    found = torch.tensor(given, dtype=y.dtype, device=y.device)
    if found.dim() and found.numel() != count:
        raise ValueError(f"{name} has {found.numel()} entries for {count} {what}")
    return found


def reduced(values: Tensor, settings: Settings, count: Tensor | None = None) -> Tensor:
    """Mean or sum of what each label costs; the mean over `count` where that is not their number."""
    if settings.get("reduction") == "sum":
        return values.sum()
    return values.mean() if count is None else values.sum() / count


def even_odds(y: Tensor, labels: Tensor, settings: Settings) -> Tensor | None:
    """Log-probabilities of the answer that all classes which occur are alike: K of them cost ln K.

    Whatever their frequencies; a model that knows anything of the data is below. Smoothing spreads a
    share of every label over all classes, and of this answer too.
    """
    y = class_axis_first(y, labels)
    if are_indices(y, labels):
        found = torch.unique(labels).long()
        found = found[found != ignored(settings)]
        shares = torch.zeros(y.shape[1], dtype=torch.float64)
        shares[found[(found >= 0) & (found < y.shape[1])].cpu()] = 1.0
    else:
        shares = (labels.double().cpu().transpose(0, 1).flatten(1).sum(1) > 0).double()
    if shares.sum() < 2:
        return None
    smooth = settings.get("label_smoothing", 0.0)
    odds = (1 - smooth) * shares / shares.sum() + smooth / len(shares)
    logs: Tensor = odds.clamp_min(1e-300).log()
    return logs.reshape(1, -1, *[1] * (y.dim() - 2))
