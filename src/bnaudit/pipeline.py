"""The flow of an audit: load -> tap -> measure -> judge. Rendering is the caller's."""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.assembly import full_report, model_info
from bnaudit.compare.baseline import held_against
from bnaudit.data.synthetic import is_matched
from bnaudit.documents import Report, read_snapshot
from bnaudit.errors import BnauditError, InputError, RunError
from bnaudit.files import is_file
from bnaudit.inspection import inspect_file, inspect_module
from bnaudit.inspection.layers import few
from bnaudit.judge.verdicts import judge
from bnaudit.load import Loading, load
from bnaudit.load.model import InputSpec, LoadedModel
from bnaudit.load.sniff import FileKind, sniff
from bnaudit.matching.run import matched
from bnaudit.measure.conversion import verify_conversion
from bnaudit.measure.further import collect_first_order, measure_all
from bnaudit.measure.session import open_session, place_model
from bnaudit.metrics import DEFAULT
from bnaudit.options import AuditOptions, named
from bnaudit.progress import Silent
from bnaudit.records.inspection import Absence
from bnaudit.records.run import Failure
from bnaudit.records.snapshot import Snapshot
from bnaudit.tap.dispatch import whole_audit
from bnaudit.tap.guard import untouched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn

    from bnaudit.judge.policy import Policy
    from bnaudit.measure.collect import Collected
    from bnaudit.measure.session import Session
    from bnaudit.progress import Progress
    from bnaudit.records.finding import Severity
    from bnaudit.records.inspection import Inspection


_OWN_DEFAULT = frozenset(
    {"kwargs", "inputs", "map", "images", "loss_options", "input_shapes", "policy"}
)
"""Options that are never None: left out they are those of `AuditOptions`."""


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


@named
def audit(  # noqa: PLR0913, D417  # every option, so that editors and `help` show it
    model: str | Path | nn.Module,
    *,
    trust: bool = False,
    weights: str | Path | None = None,
    entry: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
    strict: bool = True,
    inputs: Mapping[str, Any] | None = None,
    data: Any = None,
    map: Mapping[str, str] | None = None,  # noqa: A002  # as the option is called
    images: Mapping[str, Any] | None = None,
    labels: Any = None,
    loss: str | Callable[..., Any] = "auto",
    loss_options: Mapping[str, Any] | None = None,
    loss_output: str | int | None = None,
    batches: int | str | None = None,
    batch_size: int | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    match_steps: int | None = None,
    match_cache: bool = False,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    mode: str = "batch",
    verify: bool = False,
    verify_gradients: int | str = 0,
    verify_second_order: int | str = 0,
    memory: int | str | None = None,
    metrics: str | Sequence[str] = DEFAULT,
    layers: str | None = None,
    twins: str | None = None,
    channels: bool = False,
    fail_on: Severity | str | None = "error",
    allow_no_bn: bool = False,
    policy: Policy | None = None,
    baseline: str | Path | Snapshot | None = None,
) -> Report:
    """Audits the BatchNorm layers of a model.

    All options are keywords, of the meaning that `help(bnaudit.AuditOptions)` and `bnaudit check --help` say.

    Args:
        model: path of an ONNX, TorchScript or torch.export file, `package.module:factory` or
            `file.py:factory`, or a live `torch.nn.Module`, which comes back unchanged.
        trust, weights, entry, kwargs, strict, inputs: how to load it.
        data, map, images, labels, batches, batch_size, input_shapes, match_steps, match_cache: what to run.
        loss, loss_options, loss_output: what to differentiate.
        device, dtype, seed, mode, memory: how.
        metrics, layers, twins, channels, verify, verify_gradients, verify_second_order: what to measure.
        fail_on, allow_no_bn, policy, baseline: how to judge.

    Returns:
        The report; `to_table()`, `to_json()` and `to_html()` render it, `to_frame()` has a row a layer.

    Raises:
        BnauditError: with the message, hint and exit code that the command line would show.
    """
    given = {name: value for name, value in locals().items() if name != "model"}
    return _audit(model, given)


def _audit(model: str | Path | nn.Module, given: Mapping[str, Any]) -> Report:
    left_out = {name for name in _OWN_DEFAULT if given[name] is None}
    settings = AuditOptions(**{name: given[name] for name in given.keys() - left_out})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own; what users must know is in the report
        loaded = load_to_audit(model, settings)
        label = str(model) if isinstance(model, (str, Path)) else type(model).__name__
        return audit_loaded(loaded, label, settings, Silent())


def loading(options: AuditOptions) -> Loading:
    """What the options say of how to load a model."""
    weights = None if options.weights is None else Path(options.weights)
    return Loading(
        options.trust, weights, options.kwargs, options.strict, options.seed, options.entry
    )


def load_to_audit(model: str | Path | nn.Module, options: AuditOptions) -> LoadedModel:
    """The model; where a file cannot be converted and has no BatchNorm, what it says without it.

    That there is nothing to audit is seen in the file, and an operator in the way is no reason to hide it.

    Raises:
        InputError, UsageError: see `bnaudit.load.load`.
    """
    try:
        return load(model, loading(options))
    except InputError as error:
        path = Path(model) if isinstance(model, (str, Path)) else Path()
        if not is_file(path) or sniff(path) not in (FileKind.ONNX, FileKind.TORCHSCRIPT):
            raise
        try:
            found = inspect_file(path)
        except BnauditError:
            raise error from error.__cause__
        if found.batchnorms and (found.absence is None or found.absence.case != "other-form"):
            raise
        return LoadedModel(
            module=torch.nn.Identity(),
            format="onnx" if found.kind == "onnx" else "torchscript",
            inputs=tuple(InputSpec(i.name, i.shape, i.dtype) for i in found.inputs),
            outputs=found.outputs,
            producer=found.producer,
            facts=found.facts,
            notes=(f"not converted, since there is nothing to run for: {error.message}",),
            path=path,
        )


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
    with whole_audit():
        return _audited(loaded, label, options, progress)


def _audited(loaded: LoadedModel, label: str, options: AuditOptions, progress: Progress) -> Report:
    stored, loaded = read_stored(loaded, label)
    if not loaded.batchnorms and loaded.format != "module":
        return _judged(_empty_report(loaded, label, options), stored, options)
    clock = _Clock()
    placed = place_model(loaded, options)
    with own_autograd(placed.device.type), untouched(placed.module):
        session = open_session(placed, options, draw=True, made=_matching(options, progress, clock))
        with clock.stage("first_order"):
            session, collected = collect_first_order(session, options, progress)
        if not collected.batches:
            report = _nothing_executed(loaded, label, options, collected)
            return _judged(report, _with_apart(stored, collected, absent=True), options)
        measured = measure_all(session, collected, options, progress, clock.stage)
        with clock.stage("conversion"):
            verification = verify_conversion(session, options, progress)
    report = full_report(session, measured, label, options, clock.seconds, verification)
    return _judged(report, _with_apart(stored, collected), options)


def _matching(
    options: AuditOptions, progress: Progress, clock: _Clock
) -> Callable[[Session], Session] | None:
    """What matches batches to the running statistics, where that was asked for."""
    if not is_matched(options.data):
        return None

    def made(session: Session) -> Session:
        with clock.stage("matching"):
            return matched(session, options, progress)

    return made


def _with_apart(
    stored: Inspection | None, collected: Collected, *, absent: bool = False
) -> Inspection | None:
    """What the model stores, with what the run has shown of calls that are no layers.

    Args:
        stored: as it was read.
        collected: of the run.
        absent: whether nothing else was executed.
    """
    weights = collected.weights
    folded = [name for name in collected.apart if name not in weights]
    if stored is None or not collected.apart:
        return stored
    layers = tuple(
        replace(bn, of_weights=True) if bn.name in weights else bn for bn in stored.batchnorms
    )
    stored = replace(stored, batchnorms=layers)
    if not absent:
        return stored
    told, fix = [], "none: each row is normalised by itself, as InstanceNorm does"
    if folded:
        told.append(f"batch_norm runs on a batch folded into the channels ({few(folded)})")
    if weights:
        told.append(f"batch_norm runs on weights ({few(weights)}), which standardises them")
        fix = "none: weights are normalised here, activations are not"
    return replace(stored, absence=Absence("other-normalisation", tuple(told), fix))


def read_stored(loaded: LoadedModel, label: str) -> tuple[Inspection | None, LoadedModel]:
    """What the model stores, for the rules that need no run; where it cannot be read, a note says so.

    An audit does not fail for want of it: whatever the reader cannot take, the loader did.

    Args:
        loaded: the model.
        label: its path, of a file.
    """
    try:
        if loaded.format == "module":
            return inspect_module(loaded), loaded
        return inspect_file(Path(label)), loaded
    except Exception as error:  # also a bug of the reader, which must not hide: see the note
        reason = (
            error.message if isinstance(error, BnauditError) else f"{type(error).__name__}: {error}"
        )
        note = f"the stored parameters were not judged: {reason}"
        return None, replace(loaded, notes=(*loaded.notes, note))


@contextmanager
def own_autograd(device: str) -> Iterator[None]:
    """What the caller has switched on around us is not part of the model."""
    with torch.inference_mode(False), torch.autocast(device, enabled=False):
        yield


def _nothing_executed(
    loaded: LoadedModel, label: str, options: AuditOptions, collected: Collected
) -> Report:
    report = _empty_report(loaded, label, options, collected)
    if report.model.defined:
        raise RunError(
            f"none of the {len(report.model.defined)} BatchNorm layers was executed "
            f"(first: {report.model.defined[0]})",
            hint="give data that reaches them; compiled or vmapped models have to be audited as "
            "plain modules",
        )
    return report


def failed_report(
    loaded: LoadedModel, label: str, error: BnauditError, options: AuditOptions
) -> Report:
    """The document of an audit that stopped after the model was loaded.

    What the file stores is judged all the same: a NaN in gamma is often why the model cannot be run.
    """
    failure = Failure(error.message, error.hint, error.exit_code)
    stored, loaded = read_stored(loaded, label)
    report = replace(_empty_report(loaded, label, options), failure=failure)
    return _with_verdicts(replace(report, inspection=stored), options)


def _empty_report(
    loaded: LoadedModel, label: str, options: AuditOptions, collected: Collected | None = None
) -> Report:
    return Report(
        model=model_info(loaded, label, collected),
        run=None,
        layers=(),
        findings=(),
        fail_on=options.fail_on,
        allow_no_bn=options.allow_no_bn,
    )


def _judged(report: Report, stored: Inspection | None, options: AuditOptions) -> Report:
    judged = _with_verdicts(replace(report, inspection=stored), options)
    judged = _with_unmatched(judged, options)
    baseline = options.baseline
    if baseline is None:
        return judged
    earlier = baseline if isinstance(baseline, Snapshot) else read_snapshot(Path(baseline))
    return held_against(judged, earlier)


def _with_verdicts(report: Report, options: AuditOptions) -> Report:
    verdicts = judge(report, options.policy)
    return replace(
        report,
        findings=verdicts.findings,
        suppressed=verdicts.suppressed,
        rules_not_run=verdicts.not_run,
        thresholds=options.policy.thresholds,
    )


def _with_unmatched(report: Report, options: AuditOptions) -> Report:
    """Patterns of the policy that fit no layer are told beside the other notes of the run."""
    if report.run is None:
        return report
    labels = [*report.model.defined, *(layer.label for layer in report.layers)]
    notes = (*report.run.notes, *options.policy.unmatched(labels))
    return replace(report, run=replace(report.run, notes=notes))
