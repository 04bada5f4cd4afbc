"""Labels drawn from what a model takes for likely, and what has to be seen in its output for that.

What counts as a recognised output, the first that holds:

1. the graph ends in a softmax or log-softmax over axis 1, or the values (their exp) sum to 1 along it:
   (log-)probabilities of classes;
2. it ends in a sigmoid, has not the shape of an input, as a reconstruction has, and decides: the mean
   entropy of its values is at most 0.6 of that of their mean. Each value is the probability of a 1. Positions
   and shares are all over [0, 1]: uniform ones have 1/(2 ln 2) = 0.72, trained classifiers at most 0.45;
3. it ends in a linear layer or convolution (a mean or an upsampling may follow), and its K values look like
   logits. The gradient of a cross-entropy sums to 0 over the classes, so training never moves the sum of the
   logits: with weight decay it dies out, without it stays as it began, while their differences grow. With
   r = Var(sum_k y_k) / sum_k Var(y_k), over rows (and pixels), independent numbers have r = 1 and numbers
   that move together more. And the softmax of logits tells classes apart: I = H(mean p) - mean H(p), over
   ln K. Measured: 23 classifiers in eight ways of training r <= 0.18, and I >= 0.55; regressions of
   3 to 10 numbers (measured features, boxes, whitened coordinates, at scales of 1 to 100) and an embedding
   r >= 0.75; a regression to one-hot targets I = 0.03; untrained networks r >= 0.70. Two numbers need
   r <= 0.1: they may well be opposites by themselves.

Several outputs, none of them called logits or the like, are not recognised: which one labels are for is
for the user to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from bnaudit.data.head import final_activation, final_node, sums_to_one
from bnaudit.data.outputs import PREFERRED, floating, named_tensors, primary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from bnaudit.data.losses.definition import LabelsAre

Scale = Literal["probabilities", "log", "logits"]

_SHARE, _SHARE_OF_TWO = 0.3, 0.1
"""Most of r that logits have; between 0.18 and 0.70."""

_TOLD_APART = 0.2
"""Least of I over ln K; between 0.03 and 0.55."""

_DECIDED = 0.4
"""Least of 1 - mean H(p) / H(mean p) of binary labels; between 0.28 and 0.55."""

_ENOUGH = 64
"""Rows (or pixels) that r is estimated of where there are as many: independent numbers give 1 to a sixth."""

_LEAST, _MOST = 16, 1 << 16

_LINEAR = (
    *("Addmm", "Mm", "Bmm", "Baddbmm", "Add", "Linear", "Mean", "Sum", "Slice", "Constant"),
    *("Convolution", "ConvolutionOverrideable", "MkldnnConvolution"),
    *("AvgPool2D", "AdaptiveAvgPool2D", "AdaptiveAvgPool1D", "MeanDim", "SumDim"),
    *("UpsampleBilinear2D", "UpsampleNearest2D", "UpsampleTrilinear3D"),
)
"""Last operators that leave a value free to be any number."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What an output is.

    Attributes:
        loss: whose labels are drawn.
        labels_are: "classes" or "binary".
        scale: in which its probabilities are given.
        of: what they are drawn from, in words.
        why: how it was seen, in words.
    """

    loss: str
    labels_are: LabelsAre
    scale: Scale
    of: str
    why: str


def recognised(
    output: Any, inputs: Sequence[Tensor], loss: str, more: Callable[[], Iterable[Any]]
) -> Recognised | str:
    """What a model's output is, or why it is not recognised.

    Args:
        output: of the first batch, differentiable.
        inputs: of the first batch.
        loss: "auto", or the one that the user named: it says what an output is that shows nothing.
        more: gives the outputs of further batches, where one has too few rows.
    """
    tensors = floating(named_tensors(output))
    if not tensors:
        return "it returns no floating-point tensor"
    key, y = primary(tensors)
    several = len([t for t in tensors.values() if t.dim()]) > 1
    if several and key.rpartition(".")[2] not in PREFERRED:
        return f"it has {len(tensors)} outputs (--loss-output names the one that labels are for)"
    if not bool(torch.isfinite(y).all()):
        return "its output is not finite with running statistics"
    return _unnamed(y, inputs, more) if loss == "auto" else _named(y, loss)


def _unnamed(
    y: Tensor, inputs: Sequence[Tensor], more: Callable[[], Iterable[Any]]
) -> Recognised | str:
    seen = _seen(y) if y.dim() > 1 and y.shape[1] > 1 else None
    if seen is not None:
        return _because(_named(y, "nll" if _is_log(y) else "cross_entropy"), seen)
    if final_activation(y) != "Sigmoid":
        return _bare(y, more)
    if any(t.shape == y.shape for t in inputs):
        return "its output has its input's shape, and may be a reconstruction (--loss bce if not)"
    p = _rows(y)
    doubt = _binary_entropy(p.mean(0))
    if not (doubt > 0 and 1 - _binary_entropy(p) / doubt >= _DECIDED):
        return (
            "its output ends in a sigmoid, but decides little (--loss bce, if it is a probability)"
        )
    return _because(_named(y, "bce"), "the output ends in a sigmoid, near 0 and 1")


def _seen(y: Tensor) -> str | None:
    """What shows that these are probabilities of classes, or their logarithms."""
    ends = final_activation(y, axis=1)
    if ends in {"Softmax", "LogSoftmax"}:
        return f"the output ends in a {'log-' * (ends == 'LogSoftmax')}softmax"
    rows = _rows(y)
    if sums_to_one(rows) or sums_to_one(rows.exp()):
        return "the output sums to 1 over the classes"
    return None


def _bare(y: Tensor, more: Callable[[], Iterable[Any]]) -> Recognised | str:
    if y.dim() < 2 or y.shape[1] < 2:
        return "one number a row may be anything (--loss bce, if it is a logit)"
    last = final_node(y)[0]
    if last not in _LINEAR:
        return (
            f"its output ends in {last or 'no operator'}, as logits do not (--loss says what it is)"
        )
    return _logits(y, more)


def _because(found: Recognised | str, seen: str) -> Recognised | str:
    return found if isinstance(found, str) else replace(found, why=f"no labels given; {seen}")


def _is_log(y: Tensor) -> bool:
    return final_activation(y, axis=1) == "LogSoftmax" or sums_to_one(_rows(y).exp())


def _named(y: Tensor, loss: str) -> Recognised | str:
    """What the output is where the loss is known."""
    why = "asked for; no labels given"
    classes = y.dim() > 1 and y.shape[1] > 1
    if loss == "bce" or (loss == "focal" and not classes):
        return Recognised(
            loss,
            "binary",
            "probabilities" if final_activation(y) == "Sigmoid" else "logits",
            "sigmoid",
            why,
        )
    if not classes:
        return "there are no classes along axis 1 of its output (--loss bce is for single scores)"
    ends = final_activation(y, axis=1)
    scale: Scale = "log" if _is_log(y) else "logits"
    if ends == "Softmax" or sums_to_one(_rows(y)):
        scale = "probabilities"
    return Recognised(loss, "classes", scale, "softmax", why)


def _logits(y: Tensor, more: Callable[[], Iterable[Any]]) -> Recognised | str:
    parts = [_rows(y)]
    if len(parts[0]) < _ENOUGH:
        for output in more():
            parts.append(_rows(primary(floating(named_tensors(output)))[1]))
            if sum(map(len, parts)) >= _ENOUGH:
                break
    rows = torch.cat(parts)
    count = rows.shape[1]
    what = f"the {count} values of its output may be any numbers"
    ask = "(--loss cross_entropy, if they are logits)"
    if len(rows) < _LEAST:
        return f"{what}, and {len(rows)} rows are too few to tell {ask}"
    spread = float(rows.var(0).sum())
    share = float(rows.sum(1).var()) / spread if spread > 0 else math.inf
    p = rows.softmax(1)
    apart = (_entropy(p.mean(0, keepdim=True)) - _entropy(p)) / math.log(min(count, len(rows)))
    limit = _SHARE_OF_TWO if count == 2 else _SHARE
    if not (share <= limit and apart >= _TOLD_APART):
        return f"{what} {ask}"
    why = (
        f"no labels given; assumed that the output is logits of {count} classes: their sum varies "
        f"{share:.2g} times as much as that of independent numbers, as cross-entropy leaves it; "
        "--loss noise_mse if it is not"
    )
    return Recognised("cross_entropy", "classes", "logits", "softmax", why)


def _rows(y: Tensor) -> Tensor:
    """(rows or pixels, classes); of very many pixels some, evenly spread."""
    y = y.detach()
    if y.dim() < 2:
        return y.double().cpu().reshape(-1, 1)
    y = y.reshape(*y.shape[:2], -1)
    step = -(-y.shape[0] * y.shape[2] // _MOST)
    return y[..., ::step].double().cpu().movedim(1, -1).reshape(-1, y.shape[1])


def _binary_entropy(p: Tensor) -> float:
    return float(-(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).mean())


def _entropy(p: Tensor) -> float:
    return float(-torch.xlogy(p, p).sum(1).mean())


def drawn(y: Tensor, found: Recognised, seed: int, first: int) -> Tensor:
    """Labels of one batch: class indices (N, ...), or 0.0 and 1.0 of the output's shape.

    A row has a generator of its own, so that it is given the same label in whatever batch it stands, and on
    whatever device.

    Args:
        y: the output (N, K, ...), or of any shape under "binary".
        found: what it is.
        seed: of the draw.
        first: number of the first row, over all batches.
    """
    return torch.stack([_row(y[i], found, seed, first + i) for i in range(len(y))])


def _row(y: Tensor, found: Recognised, seed: int, number: int) -> Tensor:
    y = y.detach().double().cpu()
    if found.labels_are == "binary":
        p = y.sigmoid() if found.scale == "logits" else y
        return (_uniform(y.shape, seed, number) < p).float()
    p = y.clamp_min(0) if found.scale == "probabilities" else y.softmax(0)  # of log p it is p
    up_to = p.cumsum(0)
    u = _uniform((1, *y.shape[1:]), seed, number)
    return (up_to <= u * up_to[-1:]).sum(0).clamp_max(y.shape[0] - 1)


def _uniform(shape: Sequence[int], seed: int, row: int) -> Tensor:
    generator = torch.Generator().manual_seed((seed * 1_000_003 + row) % 2**63)
    return torch.rand(tuple(shape), generator=generator, dtype=torch.float64)
