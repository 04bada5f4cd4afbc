"""Why a report gives a measured rule nothing to judge by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.report import Report

if TYPE_CHECKING:
    from bnaudit.records.inspection import Inspection

_NO_RUN = "needs a run of the model (bnaudit check)"


def no_statistics(subject: Inspection | Report) -> str | None:
    """The channels were not looked at."""
    if not isinstance(subject, Report) or subject.run is None:
        return _NO_RUN
    return None if "statistics" in subject.run.metrics else "needs the metric 'statistics'"


def no_interval(subject: Inspection | Report) -> str | None:
    """There is no spread over batches, so nothing can clear a threshold."""
    reason = no_statistics(subject)
    if reason is None and isinstance(subject, Report) and subject.run is not None:
        if subject.run.data.batches < 2:
            return "one batch has no spread over batches (pass --batches 2 or more)"
        if not any(layer.tracks_running_stats for layer in subject.layers):
            return "no layer keeps running statistics"
    return reason


def no_labelled_gradient(subject: Inspection | Report) -> str | None:
    """The run normalised with running statistics, or its loss has nothing to do with the task."""
    if not isinstance(subject, Report) or subject.run is None:
        return _NO_RUN
    if subject.run.mode != "batch":
        return "running statistics project nothing out (--mode batch)"
    if subject.run.loss.label_free:
        return "a loss without labels says nothing about it (pass --labels)"
    return None
