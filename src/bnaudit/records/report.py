"""The report: everything one audit says, as frozen records that any renderer can map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field

from bnaudit.records.baseline import Baseline
from bnaudit.records.deployment import Deployment, Evidence
from bnaudit.records.finding import Finding, RuleNotRun, Severity, Suppressed
from bnaudit.records.inspection import Inspection
from bnaudit.records.layer import LayerReport
from bnaudit.records.model import ModelInfo
from bnaudit.records.run import Failure, RunInfo
from bnaudit.records.twins import Twin, Upstream
from bnaudit.records.values import NOT_REQUESTED, Metric, Skipped


@dataclass(frozen=True, slots=True)
class Report:
    """One audit.

    Attributes:
        model: what was audited.
        run: how it was run, None where it stopped before anything ran. The same settings give the
            same numbers.
        layers: an entry for each executed BatchNorm call, in execution order.
        twins: an entry for each replacement, None where twins were not measured.
        upstream: what BatchNorm does, end to end, to the gradients of the weights in front of it.
        deployment: the network with running statistics, as deployed, beside batch statistics.
        preparation: what was done otherwise to the inputs than in training, by the first layers' drift.
        findings: what the rules found, worst first.
        suppressed: findings that the configuration silences.
        rules_not_run: rules that had nothing to judge by, and why.
        baseline: the earlier report that the findings were held against, None without.
        failure: why the audit is incomplete, None where it is not.
        fail_on: severity at which findings make `exit_code` 1, None for never.
        allow_no_bn: whether a model without BatchNorm passes.
        gradient_scale: |dL/dz| at the first measured layer over that at the last.
        inspection: what the file stores, where it was read.
        thresholds: rule -> threshold name -> value, where the configuration sets another.
    """

    model: ModelInfo
    run: RunInfo | None
    layers: tuple[LayerReport, ...]
    _: KW_ONLY
    twins: tuple[Twin, ...] | Skipped = NOT_REQUESTED
    upstream: Upstream | Skipped = NOT_REQUESTED
    deployment: Deployment | Skipped = NOT_REQUESTED
    preparation: tuple[Evidence, ...] = ()
    findings: tuple[Finding, ...]
    suppressed: tuple[Suppressed, ...] = ()
    rules_not_run: tuple[RuleNotRun, ...] = ()
    baseline: Baseline | None = None
    failure: Failure | None = None
    fail_on: Severity | None = None
    allow_no_bn: bool = False
    gradient_scale: Metric = NOT_REQUESTED
    inspection: Inspection | None = None
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 clean, 1 findings at or above `fail_on`, 3 no BatchNorm, 4 nothing could be measured."""
        if self.failure is not None:
            return self.failure.exit_code
        if not self.layers and not self.allow_no_bn:
            return 3
        if self.layers and not any(layer.measured for layer in self.layers):
            return 4  # a verdict that rests on no measurement would be a silently empty audit
        return int(any(finding.counts(self.fail_on) for finding in self.findings))
