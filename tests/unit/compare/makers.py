"""Findings and snapshots in a few words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bnaudit.records.finding import Finding, Severity
from bnaudit.records.snapshot import LayerSnapshot, Snapshot


def finding(rule: str = "BN201", layer: str | None = "a", **changes: Any) -> Finding:
    plain = Finding(rule, "a-rule", Severity.WARNING, layer, f"the fact of {rule}", "mend it")
    return replace(plain, **changes)


def layers(*labels: str, channels: int = 8) -> tuple[LayerSnapshot, ...]:
    return tuple(LayerSnapshot(label, "BatchNorm2d", channels) for label in labels)


def snapshot(*findings: Finding, **changes: Any) -> Snapshot:
    plain = Snapshot(
        path="old.json",
        kind="audit",
        model="model.onnx",
        tool="1.0",
        settings={"dtype": "float32", "mode": "batch"},
        layers=layers("a", "b", "c"),
        findings=findings,
    )
    return replace(plain, **changes)
