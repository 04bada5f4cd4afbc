"""Connectionist temporal classification (Graves et al. 2006): -ln of all paths that spell the label.

The output holds scores of K classes at T times, (N, T, K) or as torch (T, N, K); which axis the rows are is
told by the number of labels. Scores are taken as logits: log-probabilities are their own log-softmax. A row
of the labels (N, S) ends where a negative number or the blank begins; a mapping of targets, input_lengths
and target_lengths says all of it. As torch's: each row over its target's length, then the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812

from bnaudit.data.losses.definition import Definition, LabelsAre

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.data.losses.definition import Settings

KEYS = ("targets", "input_lengths", "target_lengths")


def _ctc(y: Tensor, labels: Any, settings: Settings) -> Tensor:
    given = dict(labels) if isinstance(labels, Mapping) else {"targets": labels}
    if "targets" not in given or set(given) - set(KEYS):
        raise ValueError(f"labels of ctc are (rows, symbols), or a mapping with {', '.join(KEYS)}")
    targets = torch.as_tensor(given["targets"]).to(y.device)
    blank = settings.get("blank", 0)
    lengths = given.get("target_lengths")
    if lengths is None:
        if targets.dim() != 2:
            raise ValueError("targets in one row need target_lengths")
        over = ((targets < 0) | (targets == blank)).long()
        lengths = (over.cumsum(1) == 0).sum(1)
    lengths = torch.as_tensor(lengths).long().reshape(-1)
    if y.dim() != 3:
        raise ValueError("the output has no axes of rows, times and classes")
    rows = len(lengths)
    if rows not in {y.shape[0], y.shape[1]}:
        raise ValueError(f"{rows} labels for an output {list(y.shape)}")
    y = y if y.shape[1] == rows and y.shape[0] != rows else y.transpose(0, 1)
    times = given.get("input_lengths")
    times = [len(y)] * rows if times is None else torch.as_tensor(times).tolist()
    _require(y, targets, blank, list(zip(times, lengths.tolist(), strict=True)), settings)
    # The kernel reads targets behind their lengths' end, but not what they are.
    return F.ctc_loss(
        F.log_softmax(y, 2),
        targets.long().clamp_min(0),
        torch.tensor(times),
        lengths.cpu(),
        blank=blank,
        reduction=settings.get("reduction", "mean"),
        zero_infinity=settings.get("zero_infinity", False),
    )


def _require(
    y: Tensor, targets: Tensor, blank: int, pairs: list[tuple[int, int]], settings: Settings
) -> None:
    """Lengths and symbols that the kernel would read out of bounds with."""
    if not 0 <= blank < y.shape[2]:
        raise ValueError(f"blank is {blank}, but there are {y.shape[2]} classes")
    if targets.numel() and int(targets.max()) >= y.shape[2]:
        raise ValueError(f"symbols run to {int(targets.max())}, but there are {y.shape[2]} classes")
    room = targets.shape[1] if targets.dim() == 2 else None
    for row, (time, length) in enumerate(pairs):
        if not 0 < time <= len(y) or (room is not None and not 0 <= length <= room):
            raise ValueError(f"row {row} has {time} of {len(y)} times and a target of {length}")
        if length > time and not settings.get("zero_infinity"):
            raise ValueError(
                f"row {row} has {length} symbols in {time} times: the loss is infinite "
                "(--loss-option zero_infinity=true leaves such rows out)"
            )


def _sequences(y: Tensor, labels: Any) -> LabelsAre:  # noqa: ARG001
    return "sequences"


CTC = Definition(_ctc, _sequences, frozenset({"Softmax"}))
