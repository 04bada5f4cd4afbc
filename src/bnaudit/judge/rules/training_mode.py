"""BN004: the file runs a BatchNorm in training mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule
from bnaudit.judge.statics import (
    affine_untouched,
    like_instance_norm,
    statistics_untouched,
    without,
)
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.report import Report

_FIX = {
    "onnx": "export the network in inference mode: torch.onnx.export(net.eval(), ...), without "
    "training=TrainingMode.TRAINING",
    "torchscript": "call net.eval() before torch.jit.script or torch.jit.trace, and save again",
    "exported": "torch.export.export(net.eval(), ...), and save again",
    "checkpoint": "call .eval() after loading, or save the state_dict instead of the module",
}

_FLAG = (1.0, 0.0)
"""The training flag as it is stored, and as inference needs it."""


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    live = inspection.kind == "module"
    hits = [
        _hit(rule, inspection, bn)
        for bn in inspection.batchnorms
        if (bn.training and not live) or _keeps_no_statistics(bn)
    ]
    yield from findings(
        rule, hits, len(inspection.batchnorms), "normalise with the batch that they are given"
    )


def _keeps_no_statistics(bn: BatchNormStatics) -> bool:
    """Of a file that tells: one without eps stores parts of layers only."""
    return bn.eps is not None and bn.running_mean is None and bn.running_var is None


def _hit(rule: Rule, inspection: Inspection, bn: BatchNormStatics) -> Hit:
    fix = _FIX.get(inspection.kind)
    if bn.of_weights:
        return Hit(
            bn.name,
            "normalises a weight, as weight standardisation does: training mode is right here",
            Severity.INFO,
            *_FLAG,
            fix="none needed",
        )
    if like_instance_norm(inspection, bn):
        return Hit(
            bn.name,
            "runs in training mode, without statistics, gamma or beta of its own and not behind a "
            "convolution: as weight standardisation and InstanceNorm are exported",
            Severity.INFO,
            *_FLAG,
            confidence="suggested by the shape of the graph",
            fix="none if the network standardises its weights or uses InstanceNorm; otherwise "
            "export it after net.eval()",
        )
    if bn.running_var is None or (statistics_untouched(bn) and not affine_untouched(bn)):
        return Hit(
            bn.name,
            "has no statistics of its own and normalises with the batch that it is given, in inference too: "
            "the answer for a row depends on the rows beside it (track_running_stats=False is stored so)",
            Severity.WARNING,
            *_FLAG,
            fix="train with track_running_stats=True, or always run it on large, mixed batches",
        )
    severity = Severity.WARNING if inspection.kind == "checkpoint" else rule.severity
    return Hit(
        bn.name,
        "runs in training mode: it normalises with the batch that it is given and ignores the "
        "running statistics that are stored",
        severity,
        *_FLAG,
        fix=fix,
    )


def _not_applicable(subject: Inspection | Report) -> str | None:
    if not isinstance(subject, Inspection):
        return None
    if any(_keeps_no_statistics(bn) for bn in subject.batchnorms):
        return None
    if subject.kind == "module":
        return "the training flag of a live module is a state of its process"
    return without(subject, "training", "training flag")


RULE = Rule(
    id="BN004",
    name="training-mode",
    severity=Severity.ERROR,
    needs=Needs.FILE,
    summary="Looks for BatchNorm layers that the file runs in training mode, or that keep no statistics.",
    why="In training mode a layer normalises with the statistics of whatever batch it is given: the answer "
    "for one row depends on the rows beside it, a batch of one row fails or is normalised to beta, and the "
    "running statistics that training gathered are not used. Runtimes may refuse such a file altogether. Two "
    "things look similar and are no defect: weight-standardised convolutions, whose weights go through a "
    "batch_norm, and InstanceNorm exported as one; without statistics, gamma and beta of their own they are "
    "mentioned as info only. A pickled module that was left in training mode is a warning, since whoever "
    "loads it may still call eval().",
    fix="call net.eval() before exporting or saving",
    references=(
        "https://github.com/microsoft/onnxruntime/issues/16867",
        "https://github.com/microsoft/onnxruntime/issues/26584",
        "https://github.com/pytorch/pytorch/issues/75252",
        "https://github.com/microsoft/onnxscript/issues/1791",
        "https://github.com/microsoft/onnxscript/issues/1338",
    ),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=lambda: examples.changed("block1.bn", training=True),
    not_applicable=_not_applicable,
)
