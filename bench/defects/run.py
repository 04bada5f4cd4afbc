"""Writes each case to a file, audits it, and compares what was found with what was put in."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import bnaudit
from bench.defects import files, gradients, inputs, statistics
from bench.defects.cases import subject
from bench.defects.harmless import CHANGES
from bnaudit.judge.rules import RULES
from bnaudit.records.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.defects.cases import Defect, Harmless, Subject

FAMILIES: dict[str, tuple[Defect, ...]] = {
    "running statistics": statistics.DEFECTS,
    "inputs": inputs.DEFECTS,
    "gradients": gradients.DEFECTS,
    "stored values": files.DEFECTS,
}
LIMITS = inputs.LIMITS
KNOWN = {rule.name for rule in RULES}
_EXPECTED = {"few-values"}  # of batches of 8: true, and not what these cases are about


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the audit said of a defect in one format.

    Attributes:
        family: of the defect.
        defect: what was put in.
        format: of the file.
        right: findings of an expected rule.
        others: further warnings and errors.
    """

    family: str
    defect: Defect
    format: str
    right: tuple[Finding, ...]
    others: tuple[Finding, ...]

    @property
    def found(self) -> bool:
        """Whether any expected rule fired."""
        return bool(self.right)

    @property
    def placed(self) -> bool:
        """Whether one of its findings is at a right layer."""
        return any(f.layer in self.defect.layers for f in self.right)


@dataclass(frozen=True, slots=True)
class Alarm:
    """What the audit said of a healthy model in one format."""

    change: Harmless
    net: str
    format: str
    findings: tuple[Finding, ...]


def measurable(defect: Defect) -> bool:
    """Whether any of the rules that can find it is there."""
    return bool(KNOWN & set(defect.rules))


def outcomes(chosen: Iterable[tuple[str, Defect]] | None = None) -> Iterator[Outcome]:
    """Audits defects, all by default."""
    every = [(family, d) for family, defects in FAMILIES.items() for d in defects]
    for family, defect in every if chosen is None else chosen:
        for kind in defect.formats:
            case = subject(defect.net)
            with torch.no_grad():
                defect.change(case)
            findings = audited(case, kind)
            right = tuple(f for f in findings if f.name in defect.rules)
            others = tuple(f for f in findings if f not in right and f.severity > Severity.INFO)
            yield Outcome(family, defect, kind, right, others)


def alarms(changes: Iterable[Harmless] = CHANGES) -> Iterator[Alarm]:
    """Audits healthy models; any warning or error is a false alarm."""
    for change in changes:
        for net in change.nets:
            for kind in change.formats:
                case = subject(net)
                with torch.no_grad():
                    change.change(case)
                found = (f for f in audited(case, kind) if f.severity > Severity.INFO)
                kept = tuple(f for f in found if f.name not in _EXPECTED)
                yield Alarm(change, net, kind, kept)


def audited(case: Subject, kind: str) -> tuple[Finding, ...]:
    """The findings for the case as a file of this format."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / ("model.onnx" if kind == "onnx" else "model.pt")
        write(case, kind, path)
        options = {
            "data": case.x,
            "labels": case.labels,
            "batch_size": 32,
            "metrics": ("first_order", "statistics"),
            **case.options,
        }
        return bnaudit.audit(path, **options).findings


def write(case: Subject, kind: str, path: Path) -> None:
    """The case as an ONNX or TorchScript file, BatchNorm kept."""
    sample = case.x[:4]
    if kind == "torchscript":
        torch.jit.save(torch.jit.trace(case.net, sample, check_trace=False), path)
        return
    if case.dynamo:
        torch.onnx.export(
            case.net,
            (sample,),
            path,
            dynamo=True,
            optimize=False,
            external_data=False,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        return
    mode = torch.onnx.TrainingMode
    torch.onnx.export(
        case.net,
        (sample,),
        path,
        dynamo=False,
        training=mode.TRAINING if case.training else mode.PRESERVE,
        do_constant_folding=False,
        opset_version=case.opset,
        input_names=["x"],
        output_names=["out"],
        dynamic_axes={"x": {0: "batch"}, "out": {0: "batch"}},
    )
