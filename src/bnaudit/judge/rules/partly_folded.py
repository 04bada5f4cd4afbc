"""BN003: some BatchNorm layers are left and others were folded: the audit sees a part of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import Inspection


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    absence = inspection.absence
    left = len(inspection.batchnorms)
    if absence is None or absence.case != "partly-folded" or not left:
        return
    layers, verb = ("layer", "is") if left == 1 else ("layers", "are")
    yield rule.finding(
        f"{left} BatchNorm {layers} {verb} left, others are gone, and only what is left is audited. "
        f"Evidence: {'; '.join(absence.evidence)}.",
        fix=absence.fix,
        observed=float(left),
        threshold=0.0,
    )


RULE = Rule(
    id="BN003",
    name="partly-folded",
    severity=Severity.WARNING,
    needs=Needs.FILE,
    summary="Reports a model in which some BatchNorm layers were folded and others kept.",
    why="Exporters fold a BatchNorm only where it directly follows a convolution (some: a linear layer), so "
    "that networks with both orders keep some. What was folded cannot be audited any more, and the layers "
    "that are left are a selection: those behind a sum, a pooling or an activation.",
    fix="export with BatchNorm kept: torch.onnx.export(net.eval(), (x,), path, dynamo=True, "
    "optimize=False)",
    references=("https://github.com/pytorch/pytorch/issues/93343",),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=examples.partly_folded,
)
