"""The report: everything one audit says, as frozen records that any renderer can map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnaudit.records.values import NOT_REQUESTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnaudit.records.baseline import Baseline
    from bnaudit.records.finding import Finding, RuleNotRun, Severity, Suppressed
    from bnaudit.records.inspection import Inspection
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.twins import Twin
    from bnaudit.records.values import Metric, Skipped
    from bnaudit.records.verification import Verification


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input of the model: name, shape as declared (None where unknown) and numpy dtype."""

    name: str
    shape: tuple[int | str | None, ...] | None
    dtype: str | None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The audited model.

    Attributes:
        path: as the user typed it, or the class name of a live module.
        format: "onnx", "torchscript", "exported" (torch.export) or "module".
        producer: who wrote the file, or None.
        facts: opset and the like, as the loader found them.
        inputs: the signature.
        outputs: names of the outputs; empty where the format has none.
        parameters: number of scalar parameters.
        defined: names of the BatchNorm layers the model defines, in its order.
        not_executed: those of `defined` that no sample batch went through.
        instance_norms: how many InstanceNorm calls were seen (told apart, not audited).
        notes: what the loader changed or noticed.
    """

    path: str
    format: str
    producer: str | None
    facts: Mapping[str, str]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[str, ...]
    parameters: int
    defined: tuple[str, ...]
    not_executed: tuple[str, ...] = ()
    instance_norms: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataInfo:
    """The sample batches: where they came from and how they were cut.

    Attributes:
        source: "file", "tensor" (given from Python), "synthetic", or "example" (the inputs that a
            torch.export file brings along).
        paths: as the user typed them.
        batches: how many were run.
        batch_size: rows in each.
        available: rows in the data, None for synthetic data.
        distribution: what synthetic values were drawn from, None for real data.
        sorted_by_label: whether each batch holds labels of its own.
    """

    source: str
    paths: tuple[str, ...]
    batches: int
    batch_size: int
    available: int | None = None
    distribution: str | None = None
    sorted_by_label: bool = False


@dataclass(frozen=True, slots=True)
class LossInfo:
    """The scalar that was differentiated.

    Attributes:
        name: "cross_entropy", ..., or "noise_mse", the automatic label-free one.
        label_free: whether it needs no labels.
        labels: where the labels came from, None without.
        why: why this loss was used.
        value: the loss over the batches, or why there is none.
        guess: what one constant answer would reach on these labels (all occurring classes alike, or
            their mean), None where that is not defined for the loss.
    """

    name: str
    label_free: bool
    labels: str | None
    why: str
    value: Metric
    guess: float | None = None


@dataclass(frozen=True, slots=True)
class RunInfo:
    """How the audit was run; with the same inputs these settings give the same numbers.

    `inputs` are the values of arguments that are no data, as JSON can hold them.
    """

    mode: str
    device: str
    dtype: str
    seed: int
    metrics: tuple[str, ...]
    data: DataInfo
    loss: LossInfo
    verify_gradients: str | None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    verification: Verification | Skipped = NOT_REQUESTED
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    verify_second_order: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an audit stopped after loading: the same line and hint that stderr shows."""

    message: str
    hint: str | None
    exit_code: int


@dataclass(frozen=True, slots=True)
class Report:
    """One audit. `layers` are in execution order, `findings` worst first.

    Attributes:
        model: what was audited.
        run: how, or None where the audit stopped before anything ran.
        layers: one entry per executed BatchNorm call.
        findings: what the rules found.
        fail_on: severity at which findings make `exit_code` 1, None for never.
        allow_no_bn: whether a model without BatchNorm passes.
        failure: why the audit is incomplete, or None.
        twins: the model against itself with BatchNorm's backward replaced, where asked for.
        gradient_scale: |dL/dz| at the first measured layer over that at the last.
        inspection: what the file stores, where it was read.
        suppressed: findings that the configuration silences.
        rules_not_run: rules that had nothing to judge by, and why.
        baseline: the earlier report that the findings were held against, or None.
        thresholds: rule -> threshold name -> value, where the configuration sets another.
    """

    model: ModelInfo
    run: RunInfo | None
    layers: tuple[LayerReport, ...]
    findings: tuple[Finding, ...]
    fail_on: Severity | None
    allow_no_bn: bool = False
    failure: Failure | None = None
    twins: tuple[Twin, ...] | Skipped = NOT_REQUESTED
    gradient_scale: Metric = NOT_REQUESTED
    inspection: Inspection | None = None
    suppressed: tuple[Suppressed, ...] = ()
    rules_not_run: tuple[RuleNotRun, ...] = ()
    baseline: Baseline | None = None
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

    def to_json(self, *, channels: bool = False) -> str:
        """The report as one strict JSON document of schema `bnaudit.report/1`.

        Args:
            channels: include the per-channel arrays.
        """
        from bnaudit.render.json_v1 import report_to_json

        return report_to_json(self, channels=channels)

    def to_table(
        self,
        *,
        width: int = 100,
        color: bool = False,
        unicode: bool = True,
        verbose: bool = False,
    ) -> str:
        """The report as the text that `bnaudit check` prints.

        Args:
            width: columns to fit into (at least 60).
            color: whether to emit ANSI colour.
            unicode: whether letters and lines beyond ASCII may be used.
            verbose: list what is otherwise counted: suppressed findings, rules that did not run.
        """
        from bnaudit.render.text import report_to_text

        return report_to_text(self, width=width, color=color, unicode=unicode, verbose=verbose)
