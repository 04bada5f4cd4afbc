"""Many models audited one by one: a row for each, and the table over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from bnaudit.records.baseline import Baseline
from bnaudit.records.finding import Finding, Severity
from bnaudit.records.report import Report
from bnaudit.records.values import Count, Finite, Limits

Outcome = Literal[
    "clean",
    "findings",
    "nothing-to-audit",
    "failed",
    "unreadable",
    "timeout",
    "memory",
    "crashed",
    "killed",
    "bug",
]
"""How one model's audit ended."""

ENDED: tuple[Outcome, ...] = ("timeout", "memory", "crashed", "killed")
"""Those where the process of the model was ended, or ended itself, and left no report."""


@dataclass(frozen=True, slots=True)
class FileRead:
    """A file that an audit read.

    Attributes:
        path: as it was opened.
        size: bytes.
        modified: its modification time, nanoseconds since 1970.
        sha256: of its content; empty where it changed while it was read.
    """

    path: str
    size: Count
    modified: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FleetLayer:
    """One BatchNorm call in a few numbers, each the median over the batches; null where there is none.

    Attributes:
        layer: its label.
        kind: BatchNorm1d and the like.
        channels: the number of channels.
        m: values per channel in a batch.
        gain: median over the channels of |gamma|/sigma.
        gain_min: the smallest.
        gain_max: the largest.
        predicted: |g|/|G| from the closed form.
        measured: |g|/|G| with g from autograd.
        projection: share of the gradient energy that survives the projection.
        curvature: Rayleigh quotient of the Hessian along the gradient.
        mean_drift: largest drift of the batch means against the running ones.
        variance_drift: the same of the variances.
        errors: findings of severity error at this layer.
        warnings: findings of severity warning at this layer.
    """

    layer: str
    kind: str
    channels: Count
    m: Count
    gain: float | None
    gain_min: float | None
    gain_max: float | None
    predicted: float | None
    measured: float | None
    projection: float | None
    curvature: float | None
    mean_drift: float | None
    variance_drift: float | None
    errors: Count
    warnings: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRow:
    """One model of a fleet: how its audit ended, in a few numbers. One line of the results.

    Attributes:
        entry: which entry of the fleet it is: a digest of the model's name and of its own options.
        model: as the list or the command line names it.
        options: its own options, where they differ from those of the command.
        settings: digest of all options and of bnaudit's version.
        files: what was read; with `settings` it tells whether the row still holds.
        outcome: clean: nothing above severity info. findings: at least one warning or error.
            nothing-to-audit: no BatchNorm. failed: it loads, but cannot be run or measured.
            unreadable: it cannot be loaded, or its options have no meaning. timeout, memory: it took
            more than it may. crashed: its process ended by itself. killed: something else ended it.
            bug: of bnaudit.
        exit_code: what `bnaudit check` would have exited with; 4 where the process was ended.
        reason: why there is no verdict, one line; null where there is one.
        hint: its remedy.
        attempts: how often it was tried.
        started: when the last attempt began, UTC.
        seconds: that the last attempt took.
        processor: seconds of processors that it took; null where unknown.
        peak_memory: most bytes of memory that its process took, libraries included; null where unknown.
        worker: the machine and process that it ran on.
        timeout: seconds that it had, null without a limit.
        max_memory: bytes that it had, null without a limit.
        format: how the model is stored; null where it was not loaded.
        parameters: number of scalar parameters; null where it was not loaded.
        report: the whole report, which is not written.
        findings: the worst; `summary` counts all.
        layers: a few numbers of each.
        baseline: counts against an earlier report, null without.
    """

    entry: str
    model: str
    options: Mapping[str, Any]
    settings: str
    files: tuple[FileRead, ...] = ()
    outcome: Outcome
    exit_code: int
    reason: str | None = None
    hint: str | None = None
    attempts: Annotated[int, Limits(minimum=1)] = 1
    started: str
    seconds: Finite
    processor: float | None = None
    peak_memory: Count | None = None
    worker: str
    timeout: Count | None = None
    max_memory: Count | None = None
    format: str | None = None
    parameters: Count | None = None
    report: Report | None = None
    findings: tuple[Finding, ...] = ()
    layers: tuple[FleetLayer, ...] = ()
    baseline: Baseline | None = None


@dataclass(frozen=True, slots=True)
class FleetModel:
    """One model in the table over all.

    Attributes:
        model: as the list or the command line names it.
        entry: which entry it is.
        outcome: how its audit ended; see the rows.
        exit_code: what `bnaudit check` would have exited with.
        layers: BatchNorm calls.
        errors: findings of severity error.
        warnings: findings of severity warning.
        worst: the worst finding, or why there is no verdict; null where there is neither.
        seconds: that it took.
    """

    model: str
    entry: str
    outcome: Outcome
    exit_code: int
    layers: Count
    errors: Count
    warnings: Count
    worst: str | None
    seconds: Finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All models that have a row, worst first.

    Attributes:
        results: the file with the rows.
        entries: models of the fleet; null where only the rows are known.
        done: those that have a row.
        skipped: those of them that had it before this run.
        outcomes: how many ended in which way, ways that occurred alone.
        errors: findings of severity error, over all models.
        warnings: findings of severity warning, over all models.
        spent: seconds of all audits, one after the other.
        longest: seconds of the longest.
        fail_on: severity from which findings fail, null for never.
        exit_code: the highest of the models'.
        models: worst first.
        more: models that the table leaves out.
        notes: what was left out or noticed, one sentence each.
        rows: reads the rows again, the last of each entry.
    """

    results: str
    entries: Count | None
    done: Count
    skipped: Count
    outcomes: Mapping[str, int]
    errors: Count
    warnings: Count
    spent: Finite
    longest: Finite
    fail_on: Severity | None
    exit_code: int
    models: tuple[FleetModel, ...]
    more: Count = 0
    notes: tuple[str, ...] = ()
    rows: Iterable[FleetRow] = field(default=(), repr=False, compare=False)
