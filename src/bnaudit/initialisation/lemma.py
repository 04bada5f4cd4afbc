"""The better-initialisation lemma in float64.

Source: Santurkar, Tsipras, Ilyas, Madry, "How Does Batch Normalization Help Optimization?", NeurIPS
2018, arXiv 1805.11604, Lemma 4.5.

Before a BatchNorm W and kW, k > 0, are the same function (up to eps), so a network trained to W might
as well have been trained to any point of the ray of W. With k = <W0,W>/|W|^2, the point nearest to
the start W0,

    |W0 - W|^2 - |W0 - kW|^2 = |W|^2 - 2 k|W|^2 + k^2|W|^2 = (k - 1)^2 |W|^2   (<W0,W> = k|W|^2)
    |W0 - kW| = |W0| sin(theta)

For k <= 0 the identity still holds, but -W is another function: there is no gain to speak of, and the
ray comes no nearer to W0 than its open end at 0. The same holds for each output row by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnaudit.records.initialisation import Alignment, Range, Rows, Value
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bnaudit.load.weights.model import Layout

    Array = NDArray[np.float64]

_BEHIND = Skipped("k <= 0: kW is not on the ray of W")


@dataclass(frozen=True, slots=True)
class _Lemma:
    """Per row, shape (rows,); NaN where a quantity has no value."""

    k: Array
    cosine: Array
    start_norm: Array
    trained_norm: Array
    distance: Array
    gain: Array
    ray_distance: Array


def _evaluate(start: Array, trained: Array) -> _Lemma:
    """Row by row.

    Args:
        start: (rows, values).
        trained: (rows, values).
    """
    dot = np.einsum("ij,ij->i", start, trained)
    start_norm, norm = np.linalg.norm(start, axis=1), np.linalg.norm(trained, axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # Not by the square of the norm, a rounded root: the k of equal rows is 1 to the last bit.
        k = np.where(norm > 0, dot / np.einsum("ij,ij->i", trained, trained), np.nan)
        cosine = np.clip(dot / start_norm / norm, -1, 1)
        gain = np.where(k > 0, ((k - 1) * norm) ** 2, np.nan)
        # Not |W0| sin(arccos(c)): that loses half of the digits at small angles.
        beside = np.linalg.norm(start - np.nan_to_num(k)[:, None] * trained, axis=1)
    ray_distance = np.where(k > 0, beside, np.where(np.isnan(k), np.nan, start_norm))
    distance = np.linalg.norm(start - trained, axis=1)
    return _Lemma(k, cosine, start_norm, norm, distance, gain, ray_distance)


def not_finite(start: Array, trained: Array) -> Skipped | None:
    """Why a weight cannot be compared, if it cannot."""
    for which, values in (("start", start), ("trained", trained)):
        bad = int(values.size - np.isfinite(values).sum())
        if bad:
            return Skipped(f"{bad} of {values.size} values of the {which} weight are not finite")
    return Skipped("the weight has no values") if start.size == 0 else None


def alignment(start: Array, trained: Array) -> Alignment | Skipped:
    """The lemma for a whole weight.

    Args:
        start: W0, any shape.
        trained: W, the same shape.
    """
    reason = not_finite(start, trained)
    if reason is not None:
        return reason
    found = _evaluate(start.reshape(1, -1), trained.reshape(1, -1))
    norm, start_norm = float(found.trained_norm[0]), float(found.start_norm[0])
    distance, k = float(found.distance[0]), float(found.k[0])
    zero = Skipped("the trained weight is zero")
    flat = zero if norm == 0 else Skipped("the start weight is zero")
    has_k, positive = norm > 0, norm > 0 and k > 0
    gain: Value = float(found.gain[0]) if positive else (_BEHIND if has_k else zero)
    equal = Skipped("start and trained weight are equal")
    share: Value = gain
    if not isinstance(gain, Skipped):
        share = gain / distance**2 if distance > 0 else equal
    return Alignment(
        k=k if has_k else zero,
        cosine=float(found.cosine[0]) if has_k and start_norm > 0 else flat,
        start_norm=start_norm,
        trained_norm=norm,
        distance=distance,
        gain=gain,
        gain_share=share,
        ray_distance=float(found.ray_distance[0]) if has_k else zero,
    )


def rows_of(weight: Array, layout: Layout) -> Array:
    """(output channels, values each).

    A transposed convolution stores (inputs, outputs of a group, ...), its inputs group by group.
    """
    if layout.axis == 0:
        return weight.reshape(weight.shape[0], -1)
    inputs, outputs = weight.shape[:2]
    grouped = weight.reshape(layout.groups, inputs // layout.groups, outputs, -1)
    return grouped.transpose(0, 2, 1, 3).reshape(layout.groups * outputs, -1)


def row_alignments(start: Array, trained: Array, layout: Layout) -> Rows | Skipped:
    """The lemma row by row.

    Args:
        start: W0, at least 2-D.
        trained: W, the same shape.
        layout: which axis the rows are.
    """
    reason = not_finite(start, trained)
    if reason is not None:
        return reason
    found = _evaluate(rows_of(start, layout), rows_of(trained, layout))
    has_k = ~np.isnan(found.k)
    used = int(has_k.sum())
    zero, behind = Skipped("every trained row is zero"), Skipped("no row has k > 0")
    positive = found.k[has_k] > 0

    def share(mask: Array) -> Value:
        return float(mask.mean()) if used else zero

    return Rows(
        axis=layout.axis,
        groups=layout.groups,
        axis_from=layout.source,
        count=found.k.size,
        used=used,
        positive=share(positive.astype(np.float64)),
        gaining=share((found.gain[has_k] > 0).astype(np.float64)),
        gain_total=float(np.nansum(found.gain)) if positive.any() else behind,
        k=_range(found.k, zero),
        cosine=_range(found.cosine, Skipped("every row of one of the two is zero")),
        start_norm=_range(found.start_norm, zero),
        trained_norm=_range(found.trained_norm, zero),
        gain=_range(found.gain, behind),
        ray_distance=_range(found.ray_distance, zero),
    )


def _range(values: Array, reason: Skipped) -> Range | Skipped:
    kept = values[np.isfinite(values)]
    if not kept.size:
        return reason
    return Range(float(kept.min()), float(np.median(kept)), float(kept.max()))
