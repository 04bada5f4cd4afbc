"""The scalar that is differentiated: the usual losses on labels, and one that needs none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812  # the field's name for it

from bnaudit.data.head import Logits
from bnaudit.data.outputs import floating, named_tensors, primary
from bnaudit.errors import BnauditError, DataError, RunError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

LabelLoss = Callable[["Tensor", "Tensor"], "Tensor"]
UserLoss = Callable[..., Any]

LABEL_FREE = "noise_mse"
NAMES = ("auto", "cross_entropy", "nll", "mse", "bce", LABEL_FREE)
"""What `--loss` takes besides a function of the user's own."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss, named for the report.

    Attributes:
        name: its name.
        why: why this one is used.
        label_free: whether it runs without labels.
        compute: (model output, labels or None, index of the batch) -> scalar.
    """

    name: str
    why: str
    label_free: bool
    compute: Callable[[Any, Tensor | None, int], Tensor]


def choose_loss(loss: str | UserLoss, labels: Tensor | None, seed: int) -> Loss:
    """The loss that was asked for, or the one that fits the labels that are there.

    Args:
        loss: one of `NAMES`, or a callable (output, labels) -> scalar tensor.
        labels: a sample of the labels, or None.
        seed: of the label-free loss's targets.

    Raises:
        UsageError: the name is unknown, or the loss needs labels and there are none.
    """
    if not isinstance(loss, str):
        if not callable(loss):
            raise UsageError(f"the loss is a {type(loss).__name__}, neither a name nor a function")
        name = getattr(loss, "__name__", type(loss).__name__)
        return Loss(name, "given by the user", labels is None, partial(_user, loss, name))
    if loss not in NAMES:
        raise UsageError(f"unknown loss {loss!r}", hint=f"one of: {', '.join(NAMES)}")
    why = "asked for"
    if loss == "auto" and labels is None:
        loss, why = LABEL_FREE, "no labels given"
    elif loss == "auto" and labels is not None and labels.is_floating_point():
        loss, why = "mse", "the labels are floating-point values"
    elif loss == "auto":
        loss, why = "cross_entropy", "the labels are class indices"
    if loss == LABEL_FREE:
        return Loss(loss, why, label_free=True, compute=partial(_noise_mse, seed))
    if labels is None:
        raise UsageError(
            f"the loss {loss} needs labels",
            hint="pass --labels, put a 'labels' array into the .npz, or leave --loss out",
        )
    return Loss(loss, why, label_free=False, compute=partial(_labelled, loss))


def _noise_mse(seed: int, output: Any, labels: Tensor | None, index: int) -> Tensor:  # noqa: ARG001
    """L = sum over outputs of mean (y - r)^2 / 2, r standard normal from `seed` and the batch's index.

    Regression to noise: its gradient y - r differs from sample to sample as that of a real task
    does, is never constant along an output's scale (as |y|^2 is on a normalised embedding), and its
    Hessian is the identity. r is drawn on the CPU in float64: the same targets everywhere.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)
    terms: list[Tensor] = []
    for y in outputs_of(output).values():
        r = torch.randn(y.shape, generator=generator, dtype=torch.float64)
        wide = y.float() if y.dtype in (torch.float16, torch.bfloat16) else y
        terms.append(0.5 * (wide - r.to(wide.device, wide.dtype)).square().mean())
    return torch.stack([t.to(terms[0].dtype) for t in terms]).sum()


def _labelled(name: str, output: Any, labels: Tensor | None, index: int) -> Tensor:  # noqa: ARG001
    if labels is None:
        raise DataError(f"the loss {name} needs labels, and a batch has none")
    key, y = primary(outputs_of(output))
    if name == "nll" and isinstance(output, Logits) and key in output.read:
        name = "cross_entropy"  # nll of the log of their softmax
    if y.dtype in (torch.float16, torch.bfloat16):
        y = y.float()
    try:
        return _LABELLED[name](y, labels)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise DataError(
            f"the labels {_shape(labels)} do not fit the model's {key} {_shape(y)} for {name}",
            hint=next(iter(str(error).splitlines()), type(error).__name__)[:200],
        ) from error


def _shape(t: Tensor) -> str:
    return f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}"


def outputs_of(output: Any) -> dict[str, Tensor]:
    """The floating-point tensors by name that a loss is taken of.

    Raises:
        RunError: there is none.
    """
    return floating(_usable(output))


def _usable(output: Any) -> dict[str, Tensor]:
    tensors = output if isinstance(output, Logits) else named_tensors(output)
    if not floating(tensors):
        kinds = ", ".join(f"{k} {_shape(t)}" for k, t in tensors.items()) or type(output).__name__
        raise RunError(
            f"the model returns no floating-point tensor to build a loss on ({kinds})",
            hint="export the network up to its scores, without argmax or decoding",
        )
    return tensors


def _cross_entropy(y: Tensor, labels: Tensor) -> Tensor:
    if labels.is_floating_point():
        return F.cross_entropy(y, labels.to(y.dtype))
    return F.cross_entropy(y, _classes(labels, y))


def _nll(y: Tensor, labels: Tensor) -> Tensor:
    return F.nll_loss(y, _classes(labels, y))


_ONE_SCORE = " (for one score a sample use --loss bce or mse)"


def _classes(labels: Tensor, y: Tensor) -> Tensor:
    """Class indices as int64, checked here: out of range they abort a GPU's whole process."""
    if y.dim() < 2:
        raise ValueError(
            "there is no axis of classes; for one score a sample use --loss bce or mse"
        )
    labels = labels.long()
    if labels.dim() == 2 and y.dim() == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    used = labels[labels != -100]
    if used.numel() and not 0 <= int(used.min()) <= int(used.max()) < y.shape[1]:
        raise ValueError(
            f"class indices run from {int(used.min())} to {int(used.max())}, "
            f"but there are {y.shape[1]} classes" + _ONE_SCORE * (y.shape[1] == 1)
        )
    return labels


def _matching(y: Tensor, labels: Tensor) -> Tensor:
    # Axes of size 1 may differ; anything more would pair values with the wrong outputs.
    if labels.squeeze().shape != y.squeeze().shape:
        raise ValueError(f"{list(labels.shape)} values for {list(y.shape)} outputs")
    return labels.reshape(y.shape).to(y.dtype)


def _mse(y: Tensor, labels: Tensor) -> Tensor:
    return F.mse_loss(y, _matching(y, labels))


def _bce(y: Tensor, labels: Tensor) -> Tensor:
    target = _matching(y, labels)
    if target.numel() and not 0 <= float(target.min()) <= float(target.max()) <= 1:
        raise ValueError("binary labels lie between 0 and 1")
    return F.binary_cross_entropy_with_logits(y, target)


_LABELLED: dict[str, LabelLoss] = {
    "cross_entropy": _cross_entropy,
    "nll": _nll,
    "mse": _mse,
    "bce": _bce,
}


def _user(
    function: UserLoss,
    name: str,
    output: Any,
    labels: Tensor | None,
    index: int,  # noqa: ARG001
) -> Tensor:
    try:
        value = function(output, labels)
    except BnauditError:
        raise
    except Exception as error:  # whatever the user's function raises
        raise UsageError(
            f"the loss {name} failed ({type(error).__name__}: {error})",
            hint="it is called as function(output, labels), with the model's whole output",
        ) from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        raise UsageError(f"the loss {name} returned no scalar tensor ({type(value).__name__})")
    return value.reshape(())
