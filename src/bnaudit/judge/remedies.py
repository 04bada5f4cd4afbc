"""What to do about running statistics that do not fit: one remedy a report, whichever rule speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.deployment import OF_INPUTS
from bnaudit.records.values import Skipped
from bnaudit.summary.deployment import explained, located

if TYPE_CHECKING:
    from bnaudit.records.deployment import Evidence
    from bnaudit.records.report import Report

RECOMPUTE = (
    "compute the running statistics again with these weights, on data as in training (bnaudit recalibrate, "
    "or torch.optim.swa_utils.update_bn), and check how the checkpoint was put together"
)
INPUT = (
    "feed the audit (and the deployed model) what training fed it: the same range, mean and std, "
    "channel order and crop; if this is the data of training, the statistics are stale: recompute them"
)
SEPARATE = (
    "give each place where the layer is used a BatchNorm of its own (its convolution may stay shared), and "
    "train again; recomputed statistics would be another average that fits neither"
)
_NOT_RECOMPUTED = (
    "recomputed statistics do not reach what those of each batch do: look for a layer that serves several "
    "kinds of data, and for data unlike that of training"
)

_MOST = 0.8
"""Of the gap, that recomputed statistics have to take off to be the remedy."""

_CAUSES: dict[str, tuple[str, str | None]] = {
    "inputs-scaled": (
        "these inputs are {} times those of training",
        "divide the inputs of the deployed network by {}, as training had them",
    ),
    "inputs-shifted": (
        "{} was added to the inputs of training",
        "subtract {} from the inputs of the deployed network, as training had them",
    ),
    "inputs-not-standardised": (
        "the inputs of training had mean 0 and variance 1 in every channel",
        "standardise the inputs of the deployed network with the mean and std of the training data",
    ),
    "inputs-not-normalised": (
        "the mean and std of ImageNet are missing on these inputs{}",
        "normalise the inputs of the deployed network as in training (mean and std of ImageNet{})",
    ),
    "inputs-normalised-twice": (
        "mean and std were taken off these inputs twice",
        "normalise the inputs once",
    ),
    "channels-reversed": (
        "the channels of these inputs are in the other order (RGB, BGR)",
        "give the channels in the order of training",
    ),
    "other-resolution": (
        "these inputs have {} times the resolution of training",
        "resize the inputs as in training, or recompute the running statistics at this resolution "
        "(bnaudit recalibrate)",
    ),
    "initial-statistics": (
        "{} of the running statistics is still the mean 0 and variance 1 that they began with: too few "
        "batches, or a momentum that is too small",
        RECOMPUTE,
    ),
    "single-row-statistics": (
        "the running statistics are those of batches of a single row, which do not see how rows differ",
        RECOMPUTE + "; train with larger batches, or with GroupNorm",
    ),
    "edited-layers": (
        "the statistics of {} fit nothing that arrives there while all others fit: changed after training "
        "(an edit, a conversion, a merge)",
        None,
    ),
    "other-weights": (
        "the statistics of {} do not fit, behind the inputs no worse than elsewhere: of other weights (an "
        "average, a soup, further training), or of inputs of another kind",
        None,
    ),
}
"""Supposition -> how it reads, and the remedy (None: recomputed statistics tell); {} is its number."""


def remedy(report: Report) -> str | None:
    """What the gap between running and batch statistics calls for; None where it was not located."""
    evidence, found = explained(report), located(report)
    if found is None:
        return None
    own = None if evidence is None else _CAUSES[evidence.cause][1]
    if evidence is not None and own is not None:
        return own.format(_number(evidence))
    if isinstance(found.recomputed, Skipped):
        return RECOMPUTE
    enough = found.deployed - found.recomputed >= _MOST * found.gap
    return RECOMPUTE if enough else _NOT_RECOMPUTED


def supposed(evidence: Evidence) -> str:
    """The supposition in words, with how much it explains."""
    sentence = _CAUSES[evidence.cause][0].format(_number(evidence))
    if _CAUSES[evidence.cause][1] is None:
        return f"{sentence} (they make {evidence.explains:.0%} of the gap)"
    of = "gap" if evidence.cause in OF_INPUTS else "distance of the statistics"
    return f"{sentence} (explains {evidence.explains:.0%} of the {of})"


def _number(evidence: Evidence) -> str:
    if evidence.cause in ("edited-layers", "other-weights"):
        return f"{evidence.value:.0f} layer{'' if evidence.value == 1 else 's'}"
    if evidence.cause == "initial-statistics":
        return f"{evidence.value:.0%}"
    if evidence.cause == "inputs-not-normalised":
        return "" if evidence.value is None else f", after a division by {evidence.value:.0f}"
    return "" if evidence.value is None else f"{evidence.value:.3g}"
