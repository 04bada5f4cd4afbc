"""Writes each case to a file, audits it, and compares what was found with what was put in."""

from __future__ import annotations

import copy
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

import bnaudit
from bench.defects import files, gradients, inputs, statistics
from bench.defects.cases import subject
from bench.defects.harmless import CHANGES
from bnaudit.judge.rules import RULES
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.defects.cases import Defect, Harmless, Subject
    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report

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
        report: what the audit said.
        cost: points of accuracy, as deployed and on the true labels, that the defect costs; None for
            a network that does not classify, and where the defect put another network in its place.
    """

    family: str
    defect: Defect
    format: str
    report: Report
    cost: float | None

    @property
    def right(self) -> tuple[Finding, ...]:
        """Findings of an expected rule."""
        return tuple(f for f in self.report.findings if f.name in self.defect.rules)

    @property
    def others(self) -> tuple[Finding, ...]:
        """Further warnings and errors."""
        known = {*self.defect.rules, "worse-as-deployed"}  # what it costs is no other finding
        kept = (f for f in self.report.findings if f.name not in known)
        return tuple(f for f in kept if f.severity > Severity.INFO)

    @property
    def found(self) -> bool:
        """Whether any expected rule fired."""
        return bool(self.right)

    @property
    def placed(self) -> bool:
        """Whether one of its findings is at a right layer."""
        return any(f.layer in self.defect.layers for f in self.right)

    @property
    def costly(self) -> bool:
        """Whether it costs so much that an exit code of 0 would be wrong."""
        return self.cost is not None and self.cost >= COSTLY

    @property
    def failed(self) -> bool:
        """Whether the command line would end with an exit code other than 0."""
        return any(f.severity is Severity.ERROR for f in self.report.findings)


COSTLY = 0.05
"""Points of accuracy from which a defect must not pass."""


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
            before, case = subject(defect.net), subject(defect.net)
            with torch.no_grad():
                defect.change(case)
            report = audited(case, kind)
            yield Outcome(family, defect, kind, report, _cost(before, case))


def _cost(before: Subject, after: Subject) -> float | None:
    """By how much accuracy falls: the deployed network on the data that it is given, true labels."""
    if before.labels.is_floating_point() or not same_network(before.net, after.net):
        return None
    net = copy.deepcopy(after.net).eval().float()
    with torch.no_grad():
        was, now = (
            float((n(x.float()).argmax(1) == before.labels[: len(x)]).double().mean())
            for n, x in ((before.net, before.x), (net, after.x))
        )
    return was - now


def same_network(one: nn.Module, other: nn.Module) -> bool:
    """Whether a change left a network's layers with weights in place."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    counts = [sum(isinstance(m, kinds) for m in net.modules()) for net in (one, other)]
    return counts[0] == counts[1]


def alarms(changes: Iterable[Harmless] = CHANGES) -> Iterator[Alarm]:
    """Audits healthy models; any warning or error is a false alarm."""
    for change in changes:
        for net in change.nets:
            for kind in change.formats:
                case = subject(net)
                with torch.no_grad():
                    change.change(case)
                found = (f for f in audited(case, kind).findings if f.severity > Severity.INFO)
                kept = tuple(f for f in found if f.name not in _EXPECTED)
                yield Alarm(change, net, kind, kept)


def audited(case: Subject, kind: str) -> Report:
    """The audit of the case as a file of this format, or as the live "module"."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / ("model.onnx" if kind == "onnx" else "model.pt")
        if kind != "module":
            write(case, kind, path)
        options = {
            "data": case.x,
            "labels": case.labels,
            "batch_size": 32,
            "metrics": ("first_order", "statistics", "deployment"),
            **case.options,
        }
        return bnaudit.audit(case.net if kind == "module" else path, **options)


def contradictions(report: Report) -> list[str]:
    """Pairs of statements of one report that cannot both be true."""
    findings, order = report.findings, [layer.label for layer in report.layers]
    told = []
    for one in findings:
        for other in findings:
            if one is other:
                continue
            here = one.layer is not None and one.layer == other.layer
            shared = not one.channels or not other.channels or {*one.channels} & {*other.channels}
            excused = "none needed" in one.fix and other.severity > Severity.INFO
            if here and shared and excused:
                told.append(f"{one.rule} needs nothing, {other.rule}: {other.message}")
            agree = "agree with theirs" in one.message and one.layer in order
            drift = other.rule in DRIFT and other.layer in order
            if agree and drift and order.index(other.layer or "") <= order.index(one.layer or ""):
                told.append(f"{one.rule} {one.message}, {other.rule} {other.message}")
    return told


DRIFT = ("BN201", "BN202")


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
