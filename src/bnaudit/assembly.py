"""The report of an audit, put together from what was loaded and measured."""

from __future__ import annotations

import platform
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.labels import guess
from bnaudit.documents import Report
from bnaudit.inspection.layers import few
from bnaudit.measure.assemble import assemble_layers
from bnaudit.measure.collect import Collected
from bnaudit.measure.spread import metric
from bnaudit.measure.statistics import gradient_scale
from bnaudit.metrics import METRICS
from bnaudit.records.layer import FirstOrder
from bnaudit.records.model import ModelInfo, TensorInfo
from bnaudit.records.run import LossInfo, RunInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnaudit.load.model import LoadedModel
    from bnaudit.measure.further import Key, Measured
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.values import Skipped
    from bnaudit.records.verification import Verification


def model_info(loaded: LoadedModel, label: str, collected: Collected | None = None) -> ModelInfo:
    """What the report says of the model.

    Args:
        loaded: the model.
        label: what the report calls it.
        collected: the first-order pass, where there was one.
    """
    collected = collected or Collected()
    executed, weights = collected.executed, collected.weights
    defined = [d.name for d in loaded.batchnorms if d.name not in collected.apart]
    # Functional calls are found when they run: they count as defined by the code that called them.
    defined += [name for name in dict.fromkeys(executed) if name not in set(defined)]
    notes = loaded.notes
    if weights:
        notes = (*notes, f"no layers, but weights: batch_norm standardises {few(weights)}")
    if collected.undecided:
        notes = (
            *notes,
            f"one row does not tell an instance norm from a BatchNorm without statistics: "
            f"{few(collected.undecided)} may be either, and --batch-size 2 tells",
        )
    return ModelInfo(
        path=label,
        format=loaded.format,
        producer=loaded.producer,
        facts=dict(loaded.facts),
        inputs=tuple(TensorInfo(s.name, s.shape, s.dtype) for s in loaded.inputs),
        outputs=loaded.outputs,
        parameters=sum(p.numel() for p in loaded.module.parameters()),
        defined=tuple(defined),
        not_executed=tuple(n for n in defined if n not in set(executed)),
        instance_norms=collected.instance_norms,
        notes=notes,
    )


def full_report(
    session: Session,
    measured: Measured,
    label: str,
    options: AuditOptions,
    seconds: Mapping[str, float],
    verification: Verification | Skipped,
) -> Report:
    """The report without findings."""
    loaded, collected = session.placed.loaded, measured.collected
    origins = {d.name: d.origin for d in loaded.batchnorms}
    layers = assemble_layers(
        collected.batches, options.mode, origins, measured.differences, channels=options.channels
    )
    return Report(
        model=model_info(loaded, label, collected),
        run=_run_info(session, collected, options, seconds, verification),
        layers=tuple(_with_further(layer, measured.layers) for layer in layers),
        findings=(),
        fail_on=options.fail_on,
        allow_no_bn=options.allow_no_bn,
        gradient_scale=gradient_scale(collected.batches),
        **measured.network,
    )


def _with_further(layer: LayerReport, further: Mapping[str, Mapping[Key, Any]]) -> LayerReport:
    """A metric's name is the name of the field that holds it; forward mode belongs to the first order."""
    key = (layer.name, layer.call)
    found = {name: results[key] for name, results in further.items()}
    forward_mode = found.pop("forward_mode", None)
    if forward_mode is not None and isinstance(layer.first_order, FirstOrder):
        found["first_order"] = replace(layer.first_order, forward_mode=forward_mode)
    return replace(layer, **found)


def _plain(value: Any) -> Any:
    """A value as strict JSON can hold it."""
    if isinstance(value, torch.Tensor):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value if isinstance(value, float) and isfinite(value) else str(value)


def _run_info(
    session: Session,
    collected: Collected,
    options: AuditOptions,
    seconds: Mapping[str, float],
    verification: Verification | Skipped,
) -> RunInfo:
    loss = session.execution.loss
    values = torch.tensor(collected.losses, dtype=torch.float64)
    return RunInfo(
        mode=options.mode,
        device=str(session.placed.device),
        dtype=str(session.placed.dtype).removeprefix("torch."),
        seed=options.seed,
        metrics=tuple(name for name in METRICS if name in ("first_order", *options.metrics)),
        data=session.batches.info,
        loss=LossInfo(
            name=loss.name,
            label_free=loss.label_free,
            labels=session.batches.labels_from,
            why="; ".join(filter(None, (loss.why, session.execution.head.why()))),
            value=metric(values, "the model was not differentiated"),
            guess=guess(
                loss,
                [batch.labels for batch in session.batches.items],
                session.execution.head.shape,
            ),
            labels_are=loss.labels_are,
            options=_plain(dict(loss.settings)),
        ),
        verify_gradients=_asked(options.verify_gradients),
        verify_second_order=_asked(options.verify_second_order),
        inputs={name: _plain(value) for name, value in session.placed.loaded.values.items()},
        verification=verification,
        versions={"python": platform.python_version(), "torch": torch.__version__},
        notes=session.notes,
        seconds=dict(seconds),
    )


def _asked(count: int) -> str | None:
    """A number of layers as the user wrote it."""
    return {0: None, -1: "all"}.get(count, str(count))
