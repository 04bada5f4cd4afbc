"""BN001: there is no BatchNorm in the model. The commonest reason is that the exporter folded it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import Absence, AbsenceCase, Inspection
    from bnaudit.records.report import Report

_KEEP = "torch.onnx.export(net.eval(), (x,), path, dynamo=True, optimize=False)"

_HEADLINES: dict[AbsenceCase, str] = {
    "folded": "no BatchNorm is left: it was folded into the weights",
    "frozen": "no BatchNorm is left: what stands in its place is a*x + b with fixed numbers (frozen, "
    "or taken apart)",
    "quantised": "no BatchNorm is left: the model is quantised",
    "other-form": "no BatchNorm is run: what normalises with stored statistics is a class or arithmetic of "
    "the network's own",
    "other-normalisation": "there is no BatchNorm: the network has another normalisation",
    "none": "there is no BatchNorm, and nothing in the file tells of one",
    "unknown": "no BatchNorm is left, and the file does not tell whether there was one",
}


_FROZEN_SCRIPT = (
    "no BatchNorm is left: the file is frozen, which folds it into the weights if there was one"
)


def _found(
    rule: Rule, absence: Absence, kind: str, others: str = "", *, allowed: bool = False
) -> Finding:
    headline = _HEADLINES.get(absence.case, _HEADLINES["unknown"])
    if absence.case == "frozen" and kind == "torchscript":
        headline = _FROZEN_SCRIPT
    evidence = f" Evidence: {'; '.join(absence.evidence)}." if absence.evidence else ""
    return rule.finding(
        f"{headline}.{evidence}{others}",
        fix=absence.fix,
        severity=Severity.INFO if allowed else rule.severity,
        observed=0.0,
        threshold=1.0,
        confidence=_CONFIDENCE.get(absence.case, "read from the file"),
    )


_CONFIDENCE: dict[AbsenceCase, str] = {
    "unknown": "the file has no evidence either way",
    "none": "nothing in the file speaks against it",
}


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    if inspection.batchnorms:
        return
    yield _found(rule, inspection.absence or _unexplained(inspection.kind), inspection.kind)


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    model = report.model
    if report.layers or report.failure is not None or model.defined:
        return
    absence = report.inspection.absence if report.inspection else None
    others = (
        f" It has {model.instance_norms} InstanceNorm calls, which are another normalisation."
        if model.instance_norms and (absence is None or absence.case != "other-normalisation")
        else ""
    )
    absence = absence or _unexplained(model.format)
    yield _found(rule, absence, model.format, others, allowed=report.allow_no_bn)


def _unexplained(kind: str) -> Absence:
    """What can be said where nothing was read that tells more."""
    from bnaudit.records.inspection import Absence

    return Absence("unknown", (), _FIXES.get(kind, _FIXES["onnx"]))


_FIXES = {
    "onnx": "if the network has BatchNorm, audit the file from before it was optimised; from PyTorch "
    f"export it with {_KEEP}",
    "torchscript": "if the network has BatchNorm, save torch.jit.script(net.eval()) without "
    "torch.jit.freeze or optimize_for_inference",
    "exported": "if the network has BatchNorm, save torch.export.export(net.eval(), (x,)) as it is, or with "
    "run_decompositions() and no table of its own",
    "module": "none if the network has no BatchNorm; if it was fused (torch.ao, fuse_modules), audit it "
    "before",
}


RULE = Rule(
    id="BN001",
    name="no-batchnorm",
    severity=Severity.ERROR,
    needs=Needs.FILE,
    summary="Reports a model in which no BatchNorm is left, with the reason that its file gives evidence of.",
    why="A file without BatchNorm says nothing about the network that was trained: exporters fold "
    "BatchNorm into the weights by default, and an audit of such a file would be silently empty.",
    fix=f"export with BatchNorm kept: {_KEEP}",
    references=(
        "https://github.com/pytorch/pytorch/issues/49226",
        "https://github.com/ultralytics/ultralytics/issues/20252",
    ),
    inspect=_inspect,
    check=_check,
    healthy=examples.inspection,
    sick=examples.folded,
)
