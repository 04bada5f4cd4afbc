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

_FIXES: dict[str, str | None] = {
    "inputs-scaled": "divide the inputs of the deployed network by {}, as training had them",
    "inputs-shifted": "subtract {} from the inputs of the deployed network, as training had them",
    "inputs-in-other-range": "give the deployed network the range of training",
    "inputs-inverted": "give the deployed network inputs of the sign of training",
    "inputs-not-standardised": "standardise the inputs of the deployed network with the mean and std of the "
    "training data",
    "inputs-not-normalised": "normalise the inputs of the deployed network as in training (mean and std of "
    "ImageNet{})",
    "inputs-normalised": "leave the normalisation of the inputs out, as in training{}",
    "inputs-normalised-twice": "normalise the inputs once",
    "channels-reversed": "give the channels in the order of training",
    "inputs-in-other-layout": "give the axes in the order of training",
    "other-resolution": "resize the inputs as in training, or recompute the running statistics at this "
    "resolution (bnaudit recalibrate)",
    "initial-statistics": RECOMPUTE,
    "single-row-statistics": RECOMPUTE + "; train with larger batches, or with GroupNorm",
    "edited-layers": None,
    "other-weights": None,
}
"""Supposition -> the remedy (None: recomputed statistics tell); {} is its number."""


def remedy(report: Report, layer: str | None = None) -> str | None:
    """What running statistics that do not fit call for; None where nothing was located.

    Args:
        report: of an audit.
        layer: label of the first layer that drifts, where a finding is about one.
    """
    inputs = prepared(report, layer)
    if inputs is not None:
        return mended(inputs)
    evidence, found = explained(report), located(report)
    if found is None:
        return None
    fix = None if evidence is None else mended(evidence)
    if fix is not None:
        return fix
    if isinstance(found.recomputed, Skipped):
        return RECOMPUTE
    enough = found.deployed - found.recomputed >= _MOST * found.gap
    return RECOMPUTE if enough else _NOT_RECOMPUTED


def prepared(report: Report, layer: str | None) -> Evidence | None:
    """What was done otherwise to the inputs that reach a first layer."""
    return next((e for e in report.preparation if layer in e.layers), None)


def mended(evidence: Evidence) -> str | None:
    """What to do about a supposition; None where recomputed statistics tell."""
    fix = _FIXES[evidence.cause]
    if fix is None:
        return None
    fix = fix.format(evidence.number)
    return fix if evidence.code is None else f"{fix}: {evidence.code}"


def supposed(evidence: Evidence, what: str | None = None) -> str:
    """The supposition in words, with how much it explains.

    Args:
        evidence: the supposition.
        what: of what that is a share; by default what the gap's are.
    """
    if _FIXES[evidence.cause] is None:
        return f"{evidence.sentence} (they make {evidence.explains:.0%} of the gap)"
    if what is None:
        what = "gap" if evidence.cause in OF_INPUTS else "distance of the statistics"
    return f"{evidence.sentence} (explains {evidence.explains:.0%} of the {what})"
