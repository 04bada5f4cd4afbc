"""What a model file says of its BatchNorm layers without being run. No torch, no arrays: plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from bnaudit.records.baseline import Baseline
from bnaudit.records.finding import Finding, RuleNotRun, Severity, Suppressed
from bnaudit.records.model import TensorInfo
from bnaudit.records.values import Count, Limits

KINDS = (
    "onnx",
    "torchscript",
    "exported",
    "checkpoint",
    "safetensors",
    "numpy",
    "pickle",
    "keras",
    "openvino",
    "module",
)

AbsenceCase = Literal[
    "folded",
    "partly-folded",
    "frozen",
    "quantised",
    "other-form",
    "other-normalisation",
    "none",
    "unknown",
]


@dataclass(frozen=True, slots=True)
class Feeder:
    """The layer with weights whose output a BatchNorm normalises.

    Attributes:
        weight: name of its weight.
        operator: "Conv", "ConvTranspose", "Gemm", "MatMul", ...
        bias: whether it adds a bias of its own, or None where the file does not tell.
        sole_reader: whether the BatchNorm alone reads its output, so that an exporter could fold
            the BatchNorm into the weight.
    """

    weight: str
    operator: str
    bias: bool | None
    sole_reader: bool


@dataclass(frozen=True, slots=True)
class BatchNormStatics:
    """One BatchNorm layer as the file stores it.

    Attributes:
        name: the name that an audit of the same file gives it.
        origin: where it stands in the file.
        channels: the number of channels, or None where the file does not tell.
        eps: added to the variance; None where the file does not store it (a state_dict).
        momentum: weight of the new batch in the running statistics (PyTorch's convention: 0.1 by
            default), or None where the file does not store it.
        training: whether it normalises with the statistics of its batch: the stored training flag, and True
            for a layer without running statistics whatever that says; None where unknown.
        batches_tracked: num_batches_tracked, None where it is not stored.
        dtype: numpy's name of the type in which the statistics (or gamma) are stored, or None.
        gamma, beta, running_mean, running_var: per channel, or None where the layer has none or the
            file does not tell.
        scale_absorbed: whether gamma and beta include a Scale layer behind the BatchNorm.
        feeder: the layer in front that has weights, where the file has a graph and there is one.
        preceded_by: the operator whose output the BatchNorm reads ("Conv", "Dropout",
            "BatchNormalization"), "input" for an input of the model, or None where the file has no
            graph.
        of_weights: whether it normalises a weight and no activation: what weight standardisation
            becomes in an export. None where the file does not tell.
        places: where else the same running statistics stand: another name of the module or of its tensors,
            another node or call.
    """

    name: str
    origin: str
    channels: Count | None
    eps: float | None = None
    momentum: float | None = None
    training: bool | None = None
    batches_tracked: int | None = None
    dtype: str | None = None
    gamma: tuple[float, ...] | None = None
    beta: tuple[float, ...] | None = None
    running_mean: tuple[float, ...] | None = None
    running_var: tuple[float, ...] | None = None
    scale_absorbed: bool = False
    feeder: Feeder | None = None
    preceded_by: str | None = None
    of_weights: bool | None = None
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DecomposedNorm:
    """A per-channel a*x + b behind a layer with weights: what is left of a decomposed BatchNorm.

    gamma and sigma cannot be told apart in it: a = gamma/sigma, b = beta - mean*gamma/sigma.

    Attributes:
        name: as its author named it, as far as the file tells.
        origin: where it stands in the file.
        channels: their number, 0 where unknown.
        after: the layer with weights whose output it scales.
    """

    name: str
    origin: str
    channels: Count
    after: str


@dataclass(frozen=True, slots=True)
class Absence:
    """Why BatchNorm layers that one expects are not in the file.

    Attributes:
        case: which of the known reasons applies; "other-form" where a class or arithmetic of the
            network's own normalises with stored statistics, which no batch_norm call runs; "none" where
            nothing suggests that there ever was a BatchNorm, "unknown" where the evidence does not
            decide.
        evidence: what in the file says so, one clause each.
        fix: the exact call, for what wrote this file, that keeps BatchNorm.
    """

    case: AbsenceCase
    evidence: tuple[str, ...]
    fix: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """A model file, read but not run.

    Attributes:
        path: as the user typed it, or the class name of a live module.
        kind: "onnx", "torchscript", "exported", "checkpoint", "safetensors", "numpy", "pickle", "keras",
            "openvino" or "module".
        producer: who wrote the file, None where it does not say.
        facts: opset and the like, in a fixed order.
        size: bytes on disk (all files together), or None for a live module.
        parameters: number of scalar parameters, or None where not counted.
        inputs, outputs: the signature, empty where the file has none.
        weight_layers: number of convolutions and linear layers, or None where the file has no
            graph.
        notes: what the user should know of how the file was read.
        batchnorms: the BatchNorm layers, in the file's order.
        decomposed: per-channel a*x + b behind layers with weights: what is left of frozen or
            decomposed BatchNorms.
        other_norms: name of another normalisation -> how often it occurs.
        absence: set where BatchNorms are missing, wholly ("folded", ...) or partly
            ("partly-folded").
    """

    path: str
    kind: Annotated[str, Limits(among=KINDS)]
    producer: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    size: Count | None = None
    parameters: Count | None = None
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[str, ...] = ()
    weight_layers: Count | None = None
    notes: tuple[str, ...] = ()
    batchnorms: tuple[BatchNormStatics, ...] = ()
    decomposed: tuple[DecomposedNorm, ...] = ()
    other_norms: Mapping[str, int] = field(default_factory=dict)
    absence: Absence | None = None


@dataclass(frozen=True, slots=True)
class InspectionReport:
    """An inspection and what the rules that need no run say of it.

    Attributes:
        inspection: what was read.
        findings: what the rules found, worst first.
        suppressed: findings that the configuration silences.
        rules_not_run: rules that this file gives nothing to judge by, and why.
        fail_on: severity at which findings make `exit_code` 1, None for never.
        allow_no_bn: whether a file without BatchNorm passes.
        baseline: the earlier report that the findings were held against, or None.
    """

    inspection: Inspection
    findings: tuple[Finding, ...] = ()
    suppressed: tuple[Suppressed, ...] = ()
    rules_not_run: tuple[RuleNotRun, ...] = ()
    fail_on: Severity | None = None
    allow_no_bn: bool = False
    baseline: Baseline | None = None

    @property
    def exit_code(self) -> int:
        """0 clean, 1 findings at or above `fail_on`, 3 no BatchNorm."""
        if not self.inspection.batchnorms and not self.allow_no_bn:
            return 3
        return int(any(finding.counts(self.fail_on) for finding in self.findings))
