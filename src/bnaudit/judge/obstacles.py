"""Why a report gives a measured rule nothing to judge by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.finding import NEEDS_RUN
from bnaudit.records.report import Report

if TYPE_CHECKING:
    from bnaudit.records.inspection import Inspection


def no_statistics(subject: Inspection | Report) -> str | None:
    """The channels were not looked at."""
    if not isinstance(subject, Report) or subject.run is None:
        return NEEDS_RUN
    return None if "statistics" in subject.run.metrics else "needs the metric 'statistics'"


def no_interval(subject: Inspection | Report) -> str | None:
    """There is no spread over rows, so nothing can clear a threshold."""
    reason = no_statistics(subject)
    if reason is None and isinstance(subject, Report) and subject.run is not None:
        if not any(layer.tracks_running_stats for layer in subject.layers):
            return "no layer keeps running statistics"
        if subject.run.data.batches * subject.run.data.batch_size < LEAST_ROWS:
            return (
                f"fewer than {LEAST_ROWS} rows have no spread to tell drift from (give more rows)"
            )
    return reason


def unlike_training(report: Report) -> str | None:
    """Why the statistics of these batches are not such as training normalised with, or None.

    Layers behind the first then get other inputs than in training, whatever is stored for them.
    """
    few = few_rows(report)
    if few is not None or report.run is None or report.run.mode != "batch":
        return few
    if report.run.data.sorted_by_label:
        return (
            "each batch holds labels of its own and normalises otherwise than training did "
            "(shuffle the rows, or --mode running)"
        )
    return one_class(report)


def one_class(report: Report) -> str | None:
    """All labels are the same: such rows are no sample of what training saw, at any layer."""
    loss = None if report.run is None else report.run.loss
    known = loss is not None and loss.guess is None and loss.labels and not loss.label_free
    if loss is None or not known or loss.labels_are != "classes":
        return None
    return "rows of one class are unlike those of training (mix classes)"


def few_rows(report: Report) -> str | None:
    """A batch of a few rows is normalised by what these rows have in common, or None."""
    run = report.run
    if run is None or run.mode != "batch" or run.data.batch_size >= LEAST_ROWS:
        return None
    rows = f"{run.data.batch_size} row{'s' if run.data.batch_size > 1 else ''}"
    return (
        f"a batch of {rows} normalises otherwise than training did (--batch-size {LEAST_ROWS} or more, "
        "or --mode running)"
    )


LEAST_ROWS = 4
"""With 4 rows a batch no layer of the eight networks of docs/defects.md drifts and no projection is small;
with 3 one does, with 1 half of them do."""


def no_labelled_gradient(subject: Inspection | Report) -> str | None:
    """The run normalised with running statistics, or its loss has nothing to do with the task."""
    if not isinstance(subject, Report) or subject.run is None:
        return NEEDS_RUN
    if subject.run.mode != "batch":
        return "running statistics project nothing out (--mode batch)"
    if subject.run.loss.label_free:
        return "a loss without labels says nothing about it (pass --labels)"
    # Labels of one class are what it looks for.
    return None if subject.run.loss.guess is None else unlike_training(subject)
