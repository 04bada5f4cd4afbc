"""Checkpoints that are run: the network's code with each one's weights, or files that are networks."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bnaudit.errors import InputError, RunError, UsageError
from bnaudit.records.values import Skipped, Spread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bnaudit.options import AuditOptions
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.training import LayerState, Number

_WHOLE = ("onnx", "torchscript")
"""Kinds of files that can be run without code."""


@dataclass(slots=True)
class Measuring:
    """How checkpoints are run.

    Attributes:
        code: of the network; None where the files are networks.
        options: of the audits.
        versions: of the libraries that were at work.
        notes: what the audits say of the data and the loss.
    """

    code: str | None
    options: AuditOptions
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def of(
        self, path: Path, kind: str, states: tuple[LayerState, ...]
    ) -> tuple[tuple[LayerState, ...], Number, str | None]:
        """The states with what was measured, the loss, and why nothing was measured, if so.

        Args:
            path: the file.
            kind: of `bnaudit.records.inspection.KINDS`.
            states: as stored.

        Raises:
            UsageError: it is weights alone, and there is no code; or an option has no meaning.
            DataError: the data does not fit the network.
        """
        options = replace(self.options, metrics=("first_order", "statistics"), allow_no_bn=True)
        model = str(path)
        if self.code is not None:
            model, options = self.code, replace(options, weights=path)
        elif kind not in _WHOLE:
            raise UsageError(
                f"{path}: weights alone cannot be run", hint="--code names the network's code"
            )
        from bnaudit.pipeline import audit_loaded, load_to_audit
        from bnaudit.progress import Silent

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the libraries' own
                report = audit_loaded(load_to_audit(model, options), model, options, Silent())
        except (InputError, RunError) as error:
            reason = f"not measured: {error.message}"
            return states, Skipped(reason), reason
        loss: Number = Skipped("nothing ran")
        if report.run is not None:
            loss = _middle(report, "run.loss.value")
            self.versions = report.run.versions
            told = f"measured with {report.run.data.source} data, loss {report.run.loss.name}"
            if told not in self.notes:
                self.notes.append(told)
        known = {layer.label: layer for layer in report.layers}
        found = tuple(_measured(s, known[s.name]) if s.name in known else s for s in states)
        return found, loss, None


def _measured(state: LayerState, layer: LayerReport) -> LayerState:
    mean, xhat = (_middle(layer, f"first_order.removed_{part}") for part in ("mean", "xhat"))
    dead = _at(layer, "statistics.dead_gradient")
    return replace(
        state,
        batch_gain=_middle(layer, "gain_batch.median"),
        batch_leak=_middle(layer, "leak.median"),
        measured=_middle(layer, "first_order.measured"),
        predicted=_middle(layer, "first_order.predicted"),
        removed=mean + xhat if isinstance(mean, float) and isinstance(xhat, float) else mean,
        dead_gradient=dead if isinstance(dead, Skipped) else len(dead),
    )


def _at(record: Any, path: str) -> Any:
    """What a dotted path leads to, or the first reason on the way why there is nothing."""
    for step in path.split("."):
        record = getattr(record, step)
        if isinstance(record, Skipped):
            break
    return record


def _middle(record: Any, path: str) -> Number:
    found = _at(record, path)
    return float(found.median) if isinstance(found, Spread) else Skipped(found.reason)
