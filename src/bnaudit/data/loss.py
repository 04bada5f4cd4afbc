"""The scalar that is differentiated: a named loss, one without labels, the model's or the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.choice import by_labels
from bnaudit.data.head import Logits
from bnaudit.data.losses.definition import definition
from bnaudit.data.outputs import floating, named_tensors, own_loss, primary
from bnaudit.data.targets import described
from bnaudit.errors import BnauditError, DataError, RunError, UsageError, first_line
from bnaudit.losses import AUTO, LABEL_FREE, NAMES, RETURNED, require_name, settings_for

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.data.losses.definition import LabelsAre

__all__ = ["LABEL_FREE", "NAMES", "RETURNED", "Loss", "choose_loss", "outputs_of", "returned_loss"]

UserLoss = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss, named for the report.

    Attributes:
        name: its name.
        why: why this one is used.
        label_free: whether it says nothing of the task: it runs without labels, or on some that the model
            itself gave.
        compute: (model output, labels or None, index of the batch) -> scalar.
        labels_are: what it takes the labels for; None without labels, and where only the user knows.
        settings: its options.
        takes_batch: whether it is given the whole batch in place of the labels.
    """

    name: str
    why: str
    label_free: bool
    compute: Callable[[Any, Any, int], Tensor]
    labels_are: LabelsAre | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    takes_batch: bool = False


def choose_loss(
    loss: str | UserLoss,
    labels: Any,
    seed: int,
    settings: Mapping[str, Any] | None = None,
    output: Any = None,
) -> Loss:
    """The loss that was asked for, or the one that fits the labels and the output that are there.

    Args:
        loss: one of `NAMES`, or a callable (output, labels) or (output, batch) -> scalar tensor.
        labels: of the batches, one after the other, or None.
        seed: of the label-free loss's targets.
        settings: its options, as the user wrote them.
        output: what the model returns for the first batch, differentiable; None where nobody knows.

    Raises:
        UsageError: the name or an option is unknown, or the loss needs labels and there are none.
    """
    settings = settings or {}
    if not isinstance(loss, str):
        return _users(loss, labels, settings)
    require_name(loss)
    why, y = "asked for", _scores(output)
    if loss == RETURNED:
        settings_for(loss, settings)
        return returned_loss(why)
    if loss == AUTO and labels is None:
        loss, why = LABEL_FREE, "no labels given"
    elif loss == AUTO:
        loss, why = by_labels(labels, y, settings)
    found = settings_for(loss, settings)
    if loss == LABEL_FREE:
        return Loss(loss, why, label_free=True, compute=partial(_noise_mse, seed))
    if labels is None:
        raise UsageError(
            f"the loss {loss} needs labels",
            hint="pass --labels, put a 'labels' array into the .npz, or leave --loss out",
        )
    known = definition(loss).labels_are
    like = labels if y is None else y
    labels_are = known(like, labels[: len(like)] if isinstance(labels, torch.Tensor) else labels)
    compute = partial(_labelled, loss, found)
    return Loss(loss, why, label_free=False, compute=compute, labels_are=labels_are, settings=found)


def _scores(output: Any) -> Tensor | None:
    """The output that labels are for."""
    tensors = {} if output is None else floating(named_tensors(output))
    return primary(tensors)[1] if tensors else None


def returned_loss(why: str = "the model takes the labels and returns it") -> Loss:
    """The one that a model computes itself."""
    return Loss(RETURNED, why, label_free=False, compute=_returned)


def _returned(output: Any, labels: Any, index: int) -> Tensor:  # noqa: ARG001
    loss = own_loss(output)
    if loss is None:
        raise RunError(
            f"the model returned no loss for batch {index + 1}",
            hint="a single number called loss, or the first of its outputs, is taken for it",
        )
    return loss.reshape(())


def _noise_mse(seed: int, output: Any, labels: Any, index: int) -> Tensor:  # noqa: ARG001
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


def _labelled(
    name: str,
    settings: Mapping[str, Any],
    output: Any,
    labels: Any,
    index: int,  # noqa: ARG001
) -> Tensor:
    if labels is None:
        raise DataError(f"the loss {name} needs labels, and a batch has none")
    key, y = primary(outputs_of(output))
    if name == "nll" and isinstance(output, Logits) and key in output.read:
        name = "cross_entropy"  # nll of the log of their softmax
    if y.dtype in (torch.float16, torch.bfloat16):
        y = y.float()
    try:
        if isinstance(labels, torch.Tensor) and labels.is_floating_point():
            _require_finite(labels)
        return definition(name).compute(y, labels, settings)
    except (RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
        hint = first_line(error)
        if not isinstance(labels, torch.Tensor) and name != "ctc":
            hint = f"{name} takes one array; --loss file.py:function(output, labels) takes anything"
        raise DataError(
            f"the labels {described(labels)} do not fit the model's {key} {described(y)} for {name}",
            hint=hint,
        ) from error


def _require_finite(labels: Tensor) -> None:
    if not bool(torch.isfinite(labels).all()):
        raise ValueError("the labels hold NaN or infinite values")


def outputs_of(output: Any) -> dict[str, Tensor]:
    """The floating-point tensors by name that a loss is taken of.

    Raises:
        RunError: there is none.
    """
    tensors = output if isinstance(output, Logits) else named_tensors(output)
    found = floating(tensors)
    if not found:
        kinds = (
            ", ".join(f"{k} {described(t)}" for k, t in tensors.items()) or type(output).__name__
        )
        raise RunError(
            f"the model returns no floating-point tensor to build a loss on ({kinds})",
            hint="export the network up to its scores, without argmax or decoding",
        )
    return found


def _users(function: UserLoss, labels: Any, settings: Mapping[str, Any]) -> Loss:
    if not callable(function):
        raise UsageError(f"the loss is a {type(function).__name__}, neither a name nor a function")
    name = getattr(function, "__name__", type(function).__name__)
    whole = takes_batch(function)
    return Loss(
        name,
        "given by the user",
        label_free=labels is None and not whole,
        compute=partial(_user, partial(function, **settings) if settings else function, name),
        settings=settings,
        takes_batch=whole,
    )


def takes_batch(loss: Any) -> bool:
    """Whether a user's loss is function(output, batch), told by the name of its second parameter."""
    if isinstance(loss, str) or not callable(loss):
        return False
    try:
        names = list(inspect.signature(loss).parameters)
    except (TypeError, ValueError):  # of an extension, say
        return False
    return names[1:2] == ["batch"]


def _user(
    function: UserLoss,
    name: str,
    output: Any,
    labels: Any,
    index: int,  # noqa: ARG001
) -> Tensor:
    try:
        value = function(output, labels)
    except BnauditError:
        raise
    except Exception as error:  # whatever the user's function raises
        raise UsageError(
            f"the loss {name} failed ({type(error).__name__}: {error})",
            hint="it is called as function(output, labels), or function(output, batch), with the model's "
            "whole output",
        ) from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        raise UsageError(f"the loss {name} returned no scalar tensor ({type(value).__name__})")
    return value.reshape(())
