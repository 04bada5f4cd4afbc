"""BN001: there is no BatchNorm in the model. The commonest reason is that the exporter folded it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge import examples_report
from bnaudit.judge.rule import Needs, Rule
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report

_KEEP_DYNAMO = "torch.onnx.export(net.eval(), (x,), path, optimize=False)"
_KEEP_TORCHSCRIPT = (
    "torch.onnx.export(net.eval(), (x,), path, dynamo=False, "
    "training=torch.onnx.TrainingMode.PRESERVE)"
)


def _explanation(report: Report) -> tuple[str, str]:
    model = report.model
    others = (
        f" It has {model.instance_norms} InstanceNorm calls, which are another normalisation."
        if model.instance_norms
        else ""
    )
    if model.format == "onnx":
        return _onnx(model.facts.get("exporter", ""), model.producer, others)
    if model.facts.get("frozen"):
        return (
            "no BatchNorm call is left in this TorchScript file: it was frozen (torch.jit.freeze), which "
            f"folds BatchNorm into the convolutions and keeps weights as constants.{others}",
            "if the network has BatchNorm, save torch.jit.script(net.eval()) before freezing it, or "
            "freeze it with optimize_numerics=False",
        )
    if model.format == "exported":
        return (
            f"no BatchNorm call is left in this torch.export file: the network has none, or it was "
            f"folded or decomposed into plain arithmetic before it was saved.{others}",
            "if the network has BatchNorm, save torch.export.export(net.eval(), (x,)) as it is, or with "
            "run_decompositions() and no table of its own",
        )
    if model.format == "torchscript":
        return (
            "no BatchNorm call is left in this TorchScript file: the network has none, or "
            f"torch.jit.freeze folded it into the convolutions.{others}",
            "if the network has BatchNorm, save torch.jit.script(net.eval()) without torch.jit.freeze "
            "or optimize_for_inference",
        )
    return (
        f"no BatchNorm was called in this model.{others}",
        "none if the network has no BatchNorm; if it was fused (torch.ao, fuse_modules), audit it before",
    )


def _onnx(exporter: str, producer: str | None, others: str) -> tuple[str, str]:
    if exporter.startswith("torch.onnx"):
        call = _KEEP_DYNAMO if "dynamo" in exporter else _KEEP_TORCHSCRIPT
        return (
            "no BatchNormalization node is left in this ONNX file: the network has none, or the export "
            f"folded it into the weights, as PyTorch's exporter does by default.{others}",
            f"if the network has BatchNorm, export it with {call}",
        )
    return (
        f"no BatchNormalization node is left in this ONNX file (written by {producer or 'unknown'}): "
        f"the network has none, or an optimiser folded it into the weights.{others}",
        f"if the network has BatchNorm, audit the file before optimisation; from PyTorch: {_KEEP_DYNAMO}",
    )


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    if report.layers or report.failure is not None or report.model.defined:
        return
    message, fix = _explanation(report)
    yield rule.finding(
        message,
        fix=fix,
        severity=Severity.INFO if report.allow_no_bn else rule.severity,
        observed=0.0,
        threshold=1.0,
        confidence="counted in the model and while it ran",
    )


RULE = Rule(
    id="BN001",
    name="no-batchnorm",
    severity=Severity.ERROR,
    needs=Needs.RUN,
    summary="Reports a model in which no BatchNorm is left.",
    why="A file without BatchNorm says nothing about the network that was trained: exporters fold "
    "BatchNorm into the weights by default, and an audit of such a file would be silently empty.",
    fix=f"export with BatchNorm kept: {_KEEP_DYNAMO}",
    references=(
        "https://github.com/pytorch/pytorch/issues/49226",
        "https://github.com/pytorch/pytorch/issues/93343",
    ),
    check=_check,
    healthy=examples_report.report,
    sick=examples_report.without_batchnorm,
)
