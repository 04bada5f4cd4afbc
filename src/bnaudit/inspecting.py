"""The flow of an inspection: read -> judge. Rendering is the caller's; torch is not needed."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from bnaudit.documents import InspectionReport
from bnaudit.errors import UsageError
from bnaudit.inspection import inspect_file
from bnaudit.judge.policy import DEFAULT_POLICY
from bnaudit.judge.verdicts import judge_inspection
from bnaudit.records.finding import Severity
from bnaudit.summary.gain import eps_notes

if TYPE_CHECKING:
    from bnaudit.judge.policy import Policy
    from bnaudit.records.inspection import Inspection

_SHOWN = 6
_NO_BATCHNORM = "BN001"


def inspect(
    path: str | Path,
    *,
    layers: str | None = None,
    entry: str | None = None,
    policy: Policy = DEFAULT_POLICY,
    fail_on: Severity | None = Severity.ERROR,
    allow_no_bn: bool = False,
) -> InspectionReport:
    """What a model file says of its BatchNorm layers, without running it.

    Args:
        path: an ONNX file, a TorchScript or torch.export archive, a checkpoint or safetensors file.
        layers: shell-style pattern of the layers to report on; None for all.
        entry: of a checkpoint with several networks, the keys of the one to read, dotted; None for all.
        policy: which rules, how strictly.
        fail_on: severity at which findings make `exit_code` 1, None for never.
        allow_no_bn: whether a file without BatchNorm passes.

    Returns:
        The report; `to_table()` and `to_json()` render it.

    Raises:
        InputError: the file cannot be read.
        UsageError: the pattern matches no layer, or the file has no entries.
    """
    read = _selected(inspect_file(Path(path), entry), layers)
    read = replace(read, notes=(*read.notes, *eps_notes(read.batchnorms)))
    verdicts = judge_inspection(read, policy)
    findings = verdicts.findings
    if allow_no_bn:
        findings = tuple(
            replace(f, severity=Severity.INFO) if f.rule == _NO_BATCHNORM else f for f in findings
        )
    return InspectionReport(
        inspection=read,
        findings=tuple(sorted(findings, key=lambda f: -f.severity)),
        suppressed=verdicts.suppressed,
        rules_not_run=verdicts.not_run,
        fail_on=fail_on,
        allow_no_bn=allow_no_bn,
    )


def _selected(inspection: Inspection, pattern: str | None) -> Inspection:
    """The inspection of the layers that a pattern names; of a file without any, as it is."""
    if pattern is None or not inspection.batchnorms:
        return inspection
    chosen = tuple(b for b in inspection.batchnorms if fnmatchcase(b.name, pattern))
    if not chosen:
        names = [b.name for b in inspection.batchnorms]
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        raise UsageError(
            f"--layers {pattern!r} matches none of the {len(names)} layers",
            hint=f"the layers are: {shown}",
        )
    return replace(inspection, batchnorms=chosen)
