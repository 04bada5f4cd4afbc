"""The flow of a recalibration: load -> measure -> refuse or write -> verify. Rendering is the caller's."""

from __future__ import annotations

import platform
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.synthetic import is_matched
from bnaudit.data.whole import held, merged, whole_data
from bnaudit.documents import Recalibration
from bnaudit.errors import BnauditError, NoBatchNormError, RunError, UsageError
from bnaudit.inspection import inspect_file
from bnaudit.load import load
from bnaudit.load.reference import factory_reference
from bnaudit.measure.estimate import reach_of
from bnaudit.measure.session import open_session, place_model
from bnaudit.options import AuditOptions, settings_of
from bnaudit.pipeline import loading, own_autograd, read_stored
from bnaudit.progress import Silent
from bnaudit.recalibration import reasons, ways
from bnaudit.recalibration.compared import Comparison, offset
from bnaudit.recalibration.inputs import suspicious_inputs
from bnaudit.recalibration.passes import Passes
from bnaudit.recalibration.store import open_store
from bnaudit.recalibration.store.numbers import is_beyond, rounded
from bnaudit.recalibration.store.placing import beside, require_free
from bnaudit.records.recalibration import LayerChange, Refusal, WrittenFile
from bnaudit.records.values import Estimate, Skipped
from bnaudit.tap.dispatch import one_at_a_time
from bnaudit.tap.guard import untouched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from bnaudit.data.batch import Batches
    from bnaudit.load.model import LoadedModel
    from bnaudit.measure.session import Session
    from bnaudit.progress import Progress
    from bnaudit.recalibration.passes import Layer, Seen, Statistics
    from bnaudit.recalibration.store.base import Store
    from bnaudit.records.inspection import Inspection

DEFAULT_WAY = "front-to-back"

_OUTPUTS_TOLERANCE = 1e-4
"""Of the largest output; the same kernels ran on the same numbers."""


class RefusedError(RunError):
    """New statistics are the wrong remedy here.

    Attributes:
        report: with all reasons.
    """

    def __init__(self, report: Recalibration) -> None:
        message, hint = reasons.explained(report)
        super().__init__(message, hint=hint)
        self.report = report


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be done.

    Attributes:
        output: the file to write, None for none.
        write: whether a live module is written.
        way: one of `bnaudit.records.recalibration.WAYS`.
        force: whether reasons against it are overridden.
        entry: of a checkpoint with several networks, the keys of the one that is meant, dotted.
    """

    output: Path | None = None
    write: bool = False
    way: str = DEFAULT_WAY
    force: bool = False
    entry: str | None = None


def recalibrate(
    model: str | Path | nn.Module,
    *,
    output: str | Path | None = None,
    write: bool = False,
    way: str = DEFAULT_WAY,
    force: bool = False,
    entry: str | None = None,
    **options: Any,
) -> Recalibration:
    """Computes the running statistics of a network's BatchNorm layers again from data.

    Args:
        model: path of an ONNX, TorchScript or torch.export file, `package.module:factory` with `weights`, or
            a live `torch.nn.Module`.
        output: the file to write, in the format of the model; None measures only.
        write: whether the buffers of a live module are written; else it comes back unchanged.
        way: "front-to-back" (each layer sees what the mended ones in front send) or "one-pass".
        force: write although there are reasons against it.
        entry: of a checkpoint with several networks, the keys of the one that is meant, dotted.
        **options: data, map, images, labels, loss, batches, batch_size, layers, device, dtype, seed, trust,
            weights, kwargs, strict and inputs, as of `bnaudit.audit`.

    Returns:
        The report; `to_table()` and `to_json()` render it.

    Raises:
        RefusedError: it was to be written, and new statistics are the wrong remedy; it has the report.
        BnauditError: with the message, hint and exit code that the command line would show.
    """
    settings = settings_of(options, "recalibrate")
    if way not in ("front-to-back", "one-pass"):
        raise UsageError(f"way is {way!r}, neither 'front-to-back' nor 'one-pass'")
    live = not isinstance(model, (str, Path))
    if write and not live:
        raise UsageError(
            "write=True is for live modules", hint="a file is written with output=PATH"
        )
    if output is not None and live:
        raise UsageError(
            "a live module is no file", hint="write=True writes it; torch.save saves it"
        )
    asked = Asked(None if output is None else Path(output), write, way, force, entry)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own; what users must know is in the report
        report = recalibrated(model, settings, asked, Silent())
    if report.refused and (write or output is not None):
        raise RefusedError(report)
    return report


def recalibrated(
    model: str | Path | nn.Module, options: AuditOptions, asked: Asked, progress: Progress
) -> Recalibration:
    """The report; what was asked for is written unless the report is a refusal.

    Raises:
        UsageError, DataError, InputError: options, data or the model do not fit.
        NoBatchNormError: there is none.
        RunError: the model cannot be run, or the written file does not give what was computed.
    """
    if options.data is None and not asked.force:
        raise UsageError(
            "no data to compute statistics of",
            hint="pass --data: a few hundred rows of what the network gets where it is used",
        )
    if is_matched(options.data):
        raise UsageError(
            "matched batches have the statistics that are stored: nothing new can be computed of them",
            hint="pass --data: a few hundred rows of what the network gets where it is used",
        )
    if asked.output is not None:
        require_free(asked.output, _read(model, options))
    loaded = _loaded(model, options, asked)
    label = str(model) if isinstance(model, (str, Path)) else type(model).__name__
    stored = None
    if loaded.format != "module":  # whose flags are not its own, but those of who runs it
        stored, loaded = read_stored(loaded, label)
    with one_at_a_time:
        placed = place_model(loaded, options)
        with own_autograd(placed.device.type), untouched(placed.module):
            session, batches, notes, free = _opened(loaded, placed, held(options))
            work = _Work(model, loaded, session, batches, options, asked, stored, progress, free)
            report, store, new = work.done(label, (*loaded.notes, *notes))
        if report.refused or not new:
            return report
        if asked.write:
            store.write(Path(), "", new)
            return report
        if asked.output is None:
            return report
        with beside(asked.output, {*_read(model, options), *store.sources}) as folder:
            store.write(folder, asked.output.name, new)
            found = work.verified(folder / asked.output.name, new)
        return replace(report, output=str(asked.output), written=found)


def _read(model: object, options: AuditOptions) -> list[Path]:
    """The files that the options name."""
    data = options.data if isinstance(options.data, (list, tuple)) else [options.data]
    named = [model, options.weights, options.labels, *data]
    paths = [Path(n) for n in named if isinstance(n, (str, Path))]
    paths += [Path(str(n).partition("=")[2]) for n in data if isinstance(n, str) and "=" in n]
    return [path for path in paths if path.is_file()]


def _loaded(model: str | Path | nn.Module, options: AuditOptions, asked: Asked) -> LoadedModel:
    loaded = load(model, replace(loading(options), entry=asked.entry))
    if loaded.batchnorms or loaded.format == "module":
        return loaded  # of a module functional calls show when they run
    found = inspect_file(Path(str(model)))
    why = "" if found.absence is None else f": {found.absence.case}"
    hint = "statistics live in BatchNorm layers: there is nothing to compute again"
    if found.absence is not None and found.absence.case not in {"none", "unknown"}:
        hint = f"keep BatchNorm in the file: {found.absence.fix}"
    raise NoBatchNormError(f"{model}: there is no BatchNorm in it{why}", hint=hint)


def _opened(
    loaded: LoadedModel, placed: Any, options: AuditOptions
) -> tuple[Session, Batches, tuple[str, ...], bool]:
    """The session, all of the data, and whether any batch size may run: where rows proved independent."""
    first, exported = replace(options, batches=1), loaded.static_batch
    session = None
    if loaded.lifted and exported is not None and options.batch_size is None:
        try:
            other = exported - 1 if exported > 1 else 2
            session = open_session(placed, replace(first, batch_size=other))
        except UsageError:
            session = None
    bound = None if session is not None else exported
    if session is None:
        session = open_session(placed, first)
        if loaded.lifted and session.batches.info.batch_size != exported:
            bound = None
    notes = tuple(n for n in session.notes if "run at" not in n)
    if options.data is None:
        return session, session.batches, notes, bound is None
    batches, more = whole_data(options, session.placed.loaded, bound)
    return session, batches, (*notes, *more), bound is None


@dataclass(frozen=True, slots=True)
class _Work:
    """One recalibration."""

    model: str | Path | nn.Module
    loaded: LoadedModel
    session: Session
    batches: Batches
    options: AuditOptions
    asked: Asked
    stored: Inspection | None
    progress: Progress
    any_size: bool

    def done(
        self, label: str, notes: tuple[str, ...]
    ) -> tuple[Recalibration, Store, dict[str, Statistics]]:
        """The report, where to write, and what."""
        passes = Passes(self.session, self.batches.items, self.progress)
        passes.begin()
        before = passes.run("running")
        if not passes.layers:
            raise NoBatchNormError(
                f"{label}: no BatchNorm was executed",
                hint="statistics live in BatchNorm layers: there is nothing to compute again",
            )
        batch = passes.run("batch")
        chosen = passes.selected(self.options.layers)
        store = open_store(self.model, self.loaded, self.options, self.asked.entry, passes.layers)
        kept = _kept(passes.layers, store, chosen)
        names = [name for name in chosen if name not in kept]
        if not names:
            raise RunError(
                f"no layer's statistics can be computed again: {chosen[0]}: {kept[chosen[0]]}",
                hint="`bnaudit inspect` says what the file stores",
            )

        def fitted(name: str, found: Statistics) -> Statistics:
            mean, var = (rounded(v, d) for v, d in zip(found, store.dtypes[name], strict=True))
            return mean, var

        count = 1
        if self.asked.way == "one-pass":
            new = ways.one_pass(batch, names, fitted)
            after = passes.run("running", new)
        else:
            large = merged(self.batches.items) if self.any_size else self.batches.items
            first = replace(passes, batches=large).run("own")
            new, after, taken = ways.front_to_back(
                passes, ways.one_pass(first, names, fitted), fitted
            )
            count += taken
        results = _Results(self, passes, before, batch, after, new, kept)
        return results.report(label, store, count, notes), store, new

    def verified(self, path: Path, new: Mapping[str, Statistics]) -> WrittenFile:
        """The written file, loaded again and run on the first batch.

        Raises:
            RunError: it is not what was computed.
        """
        if factory_reference(self.model) is None:
            again = load(path, replace(loading(self.options), entry=self.asked.entry))
        else:
            options = replace(loading(self.options), entry=self.asked.entry, weights=path)
            again = load(self.model, options)
        placed = place_model(again, self.options)
        placed.namer.apart = self.session.placed.namer.apart
        execution = self.session.execution.on(placed.module, placed.device, placed.dtype)
        session = replace(self.session, placed=placed, execution=execution)
        found = Passes(session, self.batches.items[:1], Silent())
        ours = Passes(self.session, self.batches.items[:1], Silent())
        with own_autograd(placed.device.type), untouched(placed.module):
            seen = found.run("running")
        with own_autograd(placed.device.type), untouched(self.session.placed.module):
            wanted = ours.run("running", new)
        apart = max(_distance(found.layers.get(n), s, placed.dtype) for n, s in new.items())
        off = _outputs_apart(seen, wanted)
        if not apart <= _OUTPUTS_TOLERANCE or not off <= _OUTPUTS_TOLERANCE:
            raise RunError(
                "the written file does not give what was computed "
                f"(statistics {apart:.1g}, outputs {off:.1g} off): nothing was written",
                hint="please report it as a bug of bnaudit, with the kind of file",
            )
        return WrittenFile(apart, off, _OUTPUTS_TOLERANCE)


def _kept(layers: Mapping[str, Layer], store: Store, chosen: list[str]) -> dict[str, str]:
    """Layer -> why its statistics stay as they are."""
    kept = {}
    for name, layer in layers.items():
        if name not in chosen:
            kept[name] = "not asked for (--layers)"
        elif layer.stored is None:
            kept[name] = "it keeps no running statistics"
        elif name in store.kept:
            kept[name] = store.kept[name]
    return kept


def _distance(layer: Layer | None, wanted: Statistics, dtype: torch.dtype) -> float:
    if layer is None or layer.stored is None:
        return float("inf")
    sigma = (wanted[1] + layer.eps).sqrt()
    mean, var = (v.to(dtype).double() for v in wanted)
    off = ((layer.stored[0] - mean).abs() / sigma).max()
    return float(torch.maximum(off, ((layer.stored[1] - var).abs() / sigma.square()).max()))


def _outputs_apart(one: Seen, two: Seen) -> float:
    a, b = one.outputs[0], two.outputs[0]
    if a is None or b is None:
        return abs(one.losses[0] - two.losses[0]) / max(abs(two.losses[0]), 1e-12)
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))


@dataclass(frozen=True, slots=True)
class _Results:
    """What the passes showed."""

    work: _Work
    passes: Passes
    before: Seen
    batch: Seen
    after: Seen
    new: Mapping[str, Statistics]
    kept: Mapping[str, str]

    def report(self, label: str, store: Store, count: int, notes: tuple[str, ...]) -> Recalibration:
        """The whole report."""
        work, loss = self.work, self.work.session.execution.loss
        rows = work.batches.sizes
        labelled = work.batches.labels_from is not None
        reach = reach_of(loss.name)
        compared = Comparison(rows, loss.label_free, labelled, self.batch, reach)
        before, after = (compared.performance(seen) for seen in (self.before, self.after))
        batch = compared.performance(self.batch)
        change = compared.change(self.before, self.after)
        report = Recalibration(
            model=label,
            format=store.format,
            output=None,
            way=work.asked.way,
            passes=count,
            device=str(work.session.placed.device),
            dtype=str(work.session.placed.dtype).removeprefix("torch."),
            seed=work.options.seed,
            data=work.batches.info,
            loss=loss.name,
            loss_why=loss.why,
            labels=work.batches.labels_from,
            layers=tuple(self._layer(layer) for layer in self.passes.layers.values()),
            batch=batch,
            before=before,
            after=after,
            change=change,
            accuracy_change=compared.accuracy_change(self.before, self.after),
            recovered=_recovered(before.loss, after.loss, batch.loss),
            refusals=tuple(self._refusals(store)),
            forced=work.asked.force,
            versions={"python": platform.python_version(), "torch": torch.__version__},
            notes=(*notes, *self._idle()),
        )
        worse = reasons.worse(report, label_free=loss.label_free)
        return replace(report, refusals=(*report.refusals, *filter(None, [worse])))

    def _layer(self, layer: Layer) -> LayerChange:
        pools = [seen.layer(layer.name) for seen in (self.before, self.after)]
        new = self.new.get(layer.name, layer.stored)
        nothing = Skipped("it keeps no running statistics")
        before, after = (
            nothing if s is None else offset((pool.mean, pool.unbiased), s, layer.eps)
            for pool, s in zip(pools, (layer.stored, new), strict=True)
        )
        changed = self.new.get(layer.name)
        return LayerChange(
            name=layer.name,
            channels=layer.channels,
            calls=len(layer.calls),
            values=pools[1].count,
            kept=self.kept.get(layer.name),
            before=before,
            after=after,
            apart=nothing if new is None else reasons.apart(self.after, layer, new),
            running_mean=None if changed is None else tuple(changed[0].tolist()),
            running_var=None if changed is None else tuple(changed[1].tolist()),
        )

    def _refusals(self, store: Store) -> list[Refusal]:
        found: list[Refusal | None] = [
            reasons.made_up(self.work.batches.info),
            reasons.not_used(self.work.stored, list(self.new)),
        ]
        if not self.work.batches.info.made_up:
            found.append(suspicious_inputs(self.passes, self.before, self.batch))
        layers = self.passes.layers
        found.append(
            reasons.shared(
                {n: reasons.apart(self.after, layers[n], s) for n, s in self.new.items()}
            )
        )
        raw = ways.one_pass(self.after, list(self.new), lambda _, s: s)
        found += reasons.unusable(raw, self.after)
        for name, statistics in raw.items():
            for values, dtype in zip(statistics, store.dtypes[name], strict=True):
                if bool(values.isfinite().all()) and is_beyond(values, dtype):
                    found.append(
                        Refusal(
                            "range",
                            f"a statistic of {name} is {float(values.abs().max()):.3g}, beyond what {dtype} "
                            "holds",
                            "store the statistics in float32; forced, they are cut off at the largest number",
                        )
                    )
        return [refusal for refusal in found if refusal is not None]

    def _idle(self) -> tuple[str, ...]:
        """Layers that no row went through keep what they have."""
        idle = [d.name for d in self.work.loaded.batchnorms if d.name not in self.passes.layers]
        if not idle:
            return ()
        return (
            f"not executed, and left as they are: {', '.join(idle[:3])}"
            + ", ..." * (len(idle) > 3),
        )


def _recovered(before: Any, after: Any, batch: Any) -> float | Skipped:
    """The share of the gap that is gone, where the gap is clear of its noise."""
    found = [value for value in (before, after, batch) if isinstance(value, Estimate)]
    if len(found) < 3:
        return Skipped("there is no loss to compare")
    was, now, reference = found
    if isinstance(reference.upper, Skipped) or was.mean <= reference.upper:
        return Skipped("the deployed loss is no worse than that with batch statistics")
    return (was.mean - now.mean) / (was.mean - reference.mean)


__all__ = ["Asked", "BnauditError", "RefusedError", "recalibrate", "recalibrated"]
