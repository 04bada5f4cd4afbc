"""The flow of an audit: load -> tap -> measure -> judge. Rendering is the caller's."""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.assembly import full_report, model_info
from bnaudit.errors import RunError, UsageError
from bnaudit.judge import judge
from bnaudit.load import load
from bnaudit.measure.further import collect_first_order, measure_all
from bnaudit.measure.session import open_session, place_model
from bnaudit.options import AuditOptions
from bnaudit.progress import Silent
from bnaudit.records.report import Failure, Report
from bnaudit.tap.guard import untouched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from bnaudit.errors import BnauditError
    from bnaudit.load.model import LoadedModel
    from bnaudit.measure.collect import Collected
    from bnaudit.progress import Progress


@dataclass(slots=True)
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start


def audit(model: str | Path | nn.Module, **options: Any) -> Report:
    """Audits the BatchNorm layers of a model.

    Args:
        model: path of an ONNX or TorchScript file, or a live `torch.nn.Module`, which comes back
            unchanged.
        **options: the fields of `bnaudit.AuditOptions`: data, labels, loss, batches, batch_size,
            input_shapes, device, dtype, seed, mode, verify_gradients,
            verify_second_order, memory, metrics, layers, twins,
            channels, fail_on, allow_no_bn.

    Returns:
        The report; `to_table()` and `to_json()` render it.

    Raises:
        BnauditError: with the message, hint and exit code that the command line would show.
    """
    known = {f.name for f in fields(AuditOptions)}
    for name in options:
        if name not in known:
            close = get_close_matches(name, known, 1)
            raise UsageError(
                f"audit has no option {name!r}" + (f", did you mean {close[0]!r}?" if close else "")
            )
    settings = AuditOptions(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own; what users must know is in the report
        loaded = load(model)
        label = type(model).__name__ if loaded.format == "module" else str(model)
        return audit_loaded(loaded, label, settings, Silent())


def audit_loaded(
    loaded: LoadedModel, label: str, options: AuditOptions, progress: Progress
) -> Report:
    """Measures and judges a loaded model.

    Args:
        loaded: the model.
        label: what the report calls it.
        options: how.
        progress: told of stages and steps.

    Raises:
        UsageError, DataError: options or data do not fit the model.
        RunError: the model cannot be run or measured.
    """
    if not loaded.batchnorms and loaded.format != "module":
        return _judged(_empty_report(loaded, label, options))
    clock = _Clock()
    placed = place_model(loaded, options)
    with _own_autograd(placed.device.type), untouched(placed.module):
        session = open_session(placed, options)
        with clock.stage("first_order"):
            collected = collect_first_order(session, options, progress)
        if not collected.batches:
            return _judged(_nothing_executed(loaded, label, options, collected))
        measured = measure_all(session, collected, options, progress, clock.stage)
    return _judged(full_report(session, measured, label, options, clock.seconds))


@contextmanager
def _own_autograd(device: str) -> Iterator[None]:
    """What the caller has switched on around us is not part of the model."""
    with torch.inference_mode(False), torch.autocast(device, enabled=False):
        yield


def _nothing_executed(
    loaded: LoadedModel, label: str, options: AuditOptions, collected: Collected
) -> Report:
    if loaded.batchnorms:
        raise RunError(
            f"none of the {len(loaded.batchnorms)} BatchNorm layers was executed "
            f"(first: {loaded.batchnorms[0].name})",
            hint="give data that reaches them; compiled or vmapped models have to be audited as "
            "plain modules",
        )
    return _empty_report(loaded, label, options, collected.instance_norms)


def failed_report(
    loaded: LoadedModel, label: str, error: BnauditError, options: AuditOptions
) -> Report:
    """The document of an audit that stopped after the model was loaded."""
    failure = Failure(error.message, error.hint, error.exit_code)
    return replace(_empty_report(loaded, label, options), failure=failure)


def _empty_report(
    loaded: LoadedModel, label: str, options: AuditOptions, instance_norms: int = 0
) -> Report:
    return Report(
        model=model_info(loaded, label, instance_norms=instance_norms),
        run=None,
        layers=(),
        findings=(),
        fail_on=options.fail_on,
        allow_no_bn=options.allow_no_bn,
    )


def _judged(report: Report) -> Report:
    return replace(report, findings=judge(report))
