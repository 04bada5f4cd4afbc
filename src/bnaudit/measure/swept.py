"""What a sweep measured of each layer, and the slopes by which it is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from bnaudit.records.layer import ForwardMode
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from bnaudit.measure.curvature_rows import Rows, Totals
    from bnaudit.measure.moments import Moments
    from bnaudit.measure.probe import LayerRecord
    from bnaudit.measure.theory import FirstOrderChannels

Key = tuple[str, int]

_SLOPE = {torch.float64: 1e-6, torch.float32: 2e-2}


@dataclass(slots=True)
class Swept:
    """What the sweep measured.

    Attributes:
        rows: by call, of full products or their totals alone; absent where the layer was not swept.
        forward_modes: by call, where it was.
        obstacles: why not, where it was not.
    """

    rows: dict[Key, Rows | Totals | Skipped] = field(default_factory=dict)
    forward_modes: dict[Key, ForwardMode | Skipped] = field(default_factory=dict)
    obstacles: dict[Key, str] = field(default_factory=dict)

    def skip(self, key: Key, reason: Skipped) -> None:
        """Neither order of this layer has a number."""
        self.rows[key] = self.forward_modes[key] = reason
        self.obstacles.pop(key, None)

    def refuse(self, key: Key, reason: str) -> None:
        """What was found of this layer is not to be trusted: it goes another way."""
        self.rows.pop(key, None)
        self.obstacles[key] = reason


def moments_of(record: LayerRecord) -> Moments:
    """Of a layer that is swept, which has them."""
    if record.moments is None:
        raise AssertionError("layers without moments are not swept")
    return record.moments


def judge_slopes(
    key: Key,
    record: LayerRecord,
    channels: FirstOrderChannels,
    along_g: float,
    along_big_g: float | None,
    swept: Swept,
) -> None:
    """Compares the loss's slopes along g and G with the squared norms that backward found.

    Args:
        key: of the layer.
        record: what was recorded of it.
        channels: its first order.
        along_g: the slope along g, carried forwards.
        along_big_g: along G, where it was carried.
        swept: takes the verdict.
    """
    g_sq, big_g_sq = float(channels.grad_in_sq.sum()), float(channels.grad_out_sq.sum())
    if g_sq == 0:
        swept.skip(key, Skipped("the gradient at this layer is zero"))
        return
    swept.forward_modes[key] = _forward_mode(
        along_g, big_g_sq, float((channels.predicted_sq.sum() / big_g_sq).sqrt())
    )
    off = abs(along_g / g_sq - 1)
    if along_big_g is not None:
        off = max(off, abs(along_big_g / big_g_sq - 1))
    if not off <= _SLOPE[record.dtype]:
        swept.refuse(key, f"the loss's slope in forward mode is off by {off:.1e}")


def _forward_mode(along_g: float, big_g_sq: float, predicted: float) -> ForwardMode | Skipped:
    if not along_g > 0:
        return Skipped(f"the loss's slope along its own gradient is {along_g:.1e} in forward mode")
    measured = (along_g / big_g_sq) ** 0.5
    error = abs(measured - predicted) / predicted if predicted else float("inf")
    return ForwardMode(measured, predicted, error)
