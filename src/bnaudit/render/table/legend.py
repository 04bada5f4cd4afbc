"""What the columns mean, for somebody who has not read the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from bnaudit.render.summary import Statistics


def legend_lines(columns: Collection[str], statistics: Statistics) -> list[str]:
    """A short line for each group of columns that is shown."""
    lines = (_gain(columns, statistics), _ratio(columns), _removed(columns), _leak(columns))
    return [line for line in lines if line]


def _gain(columns: Collection[str], statistics: Statistics) -> str:
    if "gain" not in columns:
        return ""
    text = f"|γ|/σ scales a channel's gradient ({statistics} σ): median"
    if "spread" in columns:
        text += ", ├●┤ min to max (log axis, ┊ at 1)"
    if "fraction_le_1" in columns:
        text += ", share ≤ 1"
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
    if "removed_xhat" not in columns:
        return ""
    return "removed by: share of the gradient energy projected out, along its mean and along xhat"


def _leak(columns: Collection[str]) -> str:
    return "leak: share of eps in the variance of the median channel" if "leak" in columns else ""
