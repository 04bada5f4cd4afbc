"""What the columns mean, for somebody who has not read the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from bnaudit.records.twins import Twin
    from bnaudit.summary.audit import Statistics


def legend_lines(columns: Collection[str], statistics: Statistics) -> list[str]:
    """A short line for each group of columns that is shown."""
    lines = (
        _gain(columns, statistics),
        _ratio(columns),
        _removed(columns),
        _curvature(columns),
        _others(columns),
    )
    return [line for line in lines if line]


def weight_legend(columns: Collection[str]) -> list[str]:
    """The same for the table of feeding weights."""
    bound = "bound: the most the minimax theorem allows, λ|g|"
    if "spectral_norm" in columns:
        bound += " (λ: spectral norm of the feeder's input)"
    if "bound_without" in columns:
        bound += "; no BN: without BatchNorm"
    if "bound_centred" in columns:
        bound += "; centred: with the input's mean removed"
    if "tightness" in columns:
        bound += "; tight: largest share a channel uses"
    ratio = "ratio: these gradients with / without BatchNorm's backward"
    if "projection" in columns:
        ratio += "; Π_w: energy after projection / before"
    return [bound, ratio]


def twin_legend(twins: Sequence[Twin]) -> str:
    """What the twins are that were used."""
    kinds = {twin.kind for twin in twins}
    parts = [text for kind, text in _TWINS.items() if kind in kinds]
    text = "twins: same values forward, other gradients backward"
    if parts:
        text += f" ({'; '.join(parts)})"
    return f"{text}; above ×1 BatchNorm makes the gradients smaller"


_TWINS = {
    "frozen": "frozen: scaled by γ/σ, nothing projected out",
    "identity": "identity: passed on as they are",
}


def _gain(columns: Collection[str], statistics: Statistics) -> str:
    if "gain" not in columns:
        return ""
    text = f"|γ|/σ scales a channel's gradient ({statistics} σ): median"
    if "spread" in columns:
        text += ", ├●┤ min to max (log, ┊ at 1)"
    if "fraction_le_1" in columns:
        text += ", share ≤1"
    return text


def _ratio(columns: Collection[str]) -> str:
    text = "|g|/|G|: gradient norm at the layer's input / output,"
    if "predicted" in columns:
        text += " by theory (arXiv 1805.11604) and"
    text += " by autograd"
    if "measured_iqr" in columns:
        text += ", ± half the interquartile range"
    if "finite_difference" in columns:
        text += "; fd error: theory against differences of the loss"
    if "residual" in columns:
        text += "; residual: largest disagreement in a channel"
    return text


def _removed(columns: Collection[str]) -> str:
    if "removed_xhat" in columns:
        return "removed by: share of gradient energy projected out, along its mean and along xhat"
    return "removed: share of gradient energy projected out" if "removed" in columns else ""


def _curvature(columns: Collection[str]) -> str:
    parts = []
    if "rayleigh" in columns:
        parts.append("ρ = g'Hg/|g|²: curvature of the loss along g")
    if "correction" in columns:
        parts.append("own: share that is BatchNorm's own")
    if "bound" in columns:
        parts.append("bound: the paper's bound on it holds (often not)")
    if "bound_channels" in columns:
        parts.append("in ch: in how many channels")
    return "; ".join(parts)


def _others(columns: Collection[str]) -> str:
    parts = []
    if "leak" in columns:
        parts.append("leak: share of eps in the variance of the median channel")
    if "mean_drift" in columns or "variance_drift" in columns:
        parts.append("drift: batches against running statistics, largest channel")
    return "; ".join(parts)
