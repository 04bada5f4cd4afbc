"""The flow of a landscape: load -> walk -> conclude. Rendering is the caller's."""

from __future__ import annotations

import platform
import time
import warnings
from dataclasses import dataclass, replace
from math import exp, hypot, isfinite, log, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.documents import Landscape
from bnaudit.errors import NoBatchNormError, RunError, UsageError
from bnaudit.inspection import inspect_file
from bnaudit.load import load
from bnaudit.measure.collect import Selection, collect
from bnaudit.measure.landscape import layers_of, scales_of, walk
from bnaudit.measure.session import open_session, place_model
from bnaudit.measure.spread import metric
from bnaudit.options import AuditOptions, settings_of
from bnaudit.pipeline import loading, own_autograd
from bnaudit.progress import Silent
from bnaudit.records.landscape import (
    FORMS,
    NETWORKS,
    Agreement,
    Comparison,
    Group,
    GroupWalk,
    Point,
    Walk,
)
from bnaudit.records.values import Skipped, Spread
from bnaudit.tap.dispatch import whole_audit
from bnaudit.tap.guard import untouched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import nn

    from bnaudit.measure.landscape import Found, Layer, Trail
    from bnaudit.measure.session import Session
    from bnaudit.progress import Progress
    from bnaudit.records.values import Metric

DEFAULT_RANGE = (1e-3, 1.0)
DEFAULT_STEPS = 10
DEFAULT_BATCHES = 4

_OFF = "neither loss nor gradient is finite at any step"


@dataclass(frozen=True, slots=True)
class Asked:
    """Which steps are walked.

    Attributes:
        eta: smallest and largest step of the raw walk.
        relative: smallest and largest size of the relative walk's steps.
        steps: how many, evenly in their logarithm.
        forms: of `bnaudit.records.landscape.FORMS`.
    """

    eta: tuple[float, float] = DEFAULT_RANGE
    relative: tuple[float, float] = DEFAULT_RANGE
    steps: int = DEFAULT_STEPS
    forms: tuple[str, ...] = FORMS

    def __post_init__(self) -> None:
        for name in ("eta", "relative"):
            low, high = getattr(self, name)
            if not (0 < low <= high and isfinite(high)):
                raise UsageError(
                    f"the steps of {name} run from {low:g} to {high:g}",
                    hint="two positive numbers, the smaller first: --eta 0.001:1",
                )
        if self.steps < 1:
            raise UsageError(f"{self.steps} steps", hint="one or more")
        if not self.forms or not set(self.forms) <= set(FORMS):
            raise UsageError(f"the form is {self.forms!r}", hint=f"of {', '.join(FORMS)}")

    def sizes(self) -> dict[str, list[float]]:
        """By form its steps; a single one is the largest."""
        ranges = {"raw": self.eta, "relative": self.relative}
        return {form: _between(*ranges[form], self.steps) for form in self.forms}


def _between(low: float, high: float, count: int) -> list[float]:
    if count == 1 or low == high:
        return [high]
    inner = [exp(log(low) + (log(high) - log(low)) * i / (count - 1)) for i in range(1, count - 1)]
    return [low, *inner, high]


def landscape(
    model: str | Path | nn.Module,
    *,
    eta: tuple[float, float] = DEFAULT_RANGE,
    relative: tuple[float, float] = DEFAULT_RANGE,
    steps: int = DEFAULT_STEPS,
    form: str = "both",
    **options: Any,
) -> Landscape:
    """The loss and its gradient along the gradient step, with BatchNorm and with its statistics frozen.

    Args:
        model: path of an ONNX, TorchScript or torch.export file, `package.module:factory` with `weights`, or
            a live `torch.nn.Module`, which comes back unchanged; of these the parameters that require a
            gradient are moved.
        eta: smallest and largest step of the paper's walk, w - eta g.
        relative: smallest and largest size of a step relative to the weights of each layer.
        steps: how many steps, evenly in their logarithm.
        form: "raw", "relative", or "both".
        **options: data, labels, loss, batches, batch_size, input_shapes, device, dtype, seed, trust, weights,
            entry, kwargs, strict and inputs, as of `bnaudit.audit`.

    Returns:
        The record; `to_table()` and `to_json()` render it.

    Raises:
        BnauditError: with the message, hint and exit code that the command line would show.
    """
    settings = settings_of(options, "landscape")
    asked = Asked(eta, relative, steps, FORMS if form == "both" else (form,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own; what users must know is in the report
        return surveyed(model, settings, asked, Silent())


def surveyed(
    model: str | Path | nn.Module, options: AuditOptions, asked: Asked, progress: Progress
) -> Landscape:
    """The landscape of a model.

    Raises:
        UsageError, DataError, InputError: options, data or the model do not fit.
        NoBatchNormError: there is none.
        RunError: the model cannot be run, differentiated or moved.
    """
    loaded = load(model, loading(options))
    label = str(model) if isinstance(model, (str, Path)) else type(model).__name__
    if not loaded.batchnorms and loaded.format != "module":
        found = inspect_file(Path(str(model)))
        why = "" if found.absence is None else f": {found.absence.case}"
        hint = "there is no BatchNorm whose statistics could be frozen"
        if found.absence is not None and found.absence.case not in {"none", "unknown"}:
            hint = f"keep BatchNorm in the file: {found.absence.fix}"
        raise NoBatchNormError(f"{label}: there is no BatchNorm in it{why}", hint=hint)
    with whole_audit():
        placed = place_model(loaded, options)
        wanted = _trainable(placed.module, live=loaded.format == "module")
        with own_autograd(placed.device.type), untouched(placed.module):
            session = open_session(placed, options)
            if options.batches is None:
                session = _fewer(session)
            parameters = _movable(session, wanted)
            _require_batchnorm(session, label)
            with untouched(
                session.placed.module
            ):  # another one where the file's own batch size is kept
                start = time.perf_counter()
                walked = walk(session, parameters, asked.sizes(), progress)
                seconds = time.perf_counter() - start
            return _Conclusion(session, parameters, walked, asked).record(label, options, seconds)


def _fewer(session: Session) -> Session:
    """The first few batches: each costs a gradient for every step, network and form."""
    batches = session.batches
    items = batches.items[:DEFAULT_BATCHES]
    info = replace(batches.info, batches=len(items))
    return replace(session, batches=replace(batches, items=items, info=info, further=()))


def _trainable(module: nn.Module, *, live: bool) -> set[str]:
    """Names of what training would move: of a file, whose flags say nothing, all of its numbers.

    Raises:
        RunError: there is nothing.
    """
    every = dict(module.named_parameters())
    if not every:
        raise RunError(
            "the model has no parameters: its weights are constants of the file, which cannot be moved",
            hint="give the network as it was before it was frozen, or its code with --weights",
        )
    floating = {name: p for name, p in every.items() if p.is_floating_point()}
    if not floating:
        kinds = sorted({str(p.dtype).removeprefix("torch.") for p in every.values()})
        raise RunError(
            f"none of the {len(every)} parameters is a floating-point number ({', '.join(kinds)})",
            hint="a quantised network has no gradient step: give the one that it was made from",
        )
    wanted = {name for name, p in floating.items() if p.requires_grad or not live}
    if not wanted:
        raise RunError(
            f"no parameter of the model is trainable: all {len(every)} have requires_grad=False",
            hint="call requires_grad_(True) on what training moves",
        )
    return wanted


def _movable(session: Session, wanted: set[str]) -> dict[str, nn.Parameter]:
    """The parameters by name.

    Raises:
        RunError: one of them holds values that are not finite.
    """
    name = session.placed.loaded.parameter_name
    found = {
        name(path): p for path, p in session.placed.module.named_parameters() if path in wanted
    }
    for known, p in found.items():
        odd = p.numel() - int(torch.isfinite(p.detach()).sum())
        if odd:
            raise RunError(
                f"{known} has {odd} of {p.numel()} values that are not finite: there is no loss around them",
                hint="take a checkpoint from before the first NaN or infinity (`bnaudit inspect` lists them)",
            )
    return found


def _require_batchnorm(session: Session, label: str) -> None:
    """Also finds out which calls are no layers, and where the loss is taken."""
    placed = session.placed
    first = session.batches.items[:1]
    collected = collect(session.execution, placed.namer, first, "batch", Selection(), Silent())
    if collected.batches:
        return
    defined = placed.loaded.batchnorms
    if defined:
        raise RunError(
            f"none of the {len(defined)} BatchNorm layers was executed (first: {defined[0].name})",
            hint="give data that reaches them",
        )
    raise NoBatchNormError(
        f"{label}: no BatchNorm was executed",
        hint="there is no BatchNorm whose statistics could be frozen",
    )


@dataclass(frozen=True, slots=True)
class _Conclusion:
    """Per-batch walks into a record."""

    session: Session
    parameters: Mapping[str, nn.Parameter]
    found: Found
    asked: Asked

    def record(self, label: str, options: AuditOptions, seconds: float) -> Landscape:
        """The whole record."""
        session, found = self.session, self.found
        placed, loss = session.placed, session.execution.loss
        layers, sizes = layers_of(self.parameters), self.asked.sizes()
        still = [layer.name for layer in layers if layer.size == 0]
        every = {form: {n: self._trails(form, n) for n in NETWORKS} for form in sizes}
        return Landscape(
            model=label,
            format=placed.loaded.format,
            device=str(placed.device),
            dtype=str(placed.dtype).removeprefix("torch."),
            seed=options.seed,
            data=session.batches.info,
            loss=loss.name,
            loss_why="; ".join(filter(None, (loss.why, session.execution.head.why()))),
            labels=session.batches.labels_from,
            layers=found.calls,
            moved=sum(p.numel() for p in self.parameters.values()),
            gradients=found.gradients,
            agreement=Agreement(
                max(found.loss_apart),
                max(found.outputs_apart),
                # Half of the digits: what depth makes of the rounding of two ways to the same values.
                torch.finfo(placed.dtype).eps ** 0.5,
            ),
            walks=tuple(
                _walk(trails, layers, steps)
                for form, steps in sizes.items()
                for trails in every[form].values()
            ),
            comparisons=tuple(
                _comparison(form, every[form], layers, steps) for form, steps in sizes.items()
            ),
            groups=tuple(self._group(place, layers, every) for place in range(len(layers))),
            seconds=seconds,
            versions={"python": platform.python_version(), "torch": torch.__version__},
            notes=(*placed.loaded.notes, *session.notes, *self._notes(still)),
        )

    def _trails(self, form: str, network: str) -> list[Trail]:
        return [t for t in self.found.trails if (t.form, t.network) == (form, network)]

    def _notes(self, still: list[str]) -> Iterable[str]:
        if still and "relative" in self.asked.forms:
            more = f" and {len(still) - 3} more" if len(still) > 3 else ""
            yield (
                f"weights of 0 have no relative size and stay in the relative walk: "
                f"{', '.join(still[:3])}{more}"
            )
        if self.session.placed.dtype in (torch.bfloat16, torch.float16):
            yield "steps below the rounding of the weights are lost: --dtype float32 takes them"

    def _group(
        self, place: int, layers: Sequence[Layer], every: Mapping[str, Mapping[str, list[Trail]]]
    ) -> Group:
        layer, found = layers[place], self.found
        owned = [self.parameters[name] for name in layer.names]
        feeds = next((found.feeds[id(p)] for p in owned if id(p) in found.feeds), None)
        own = any(id(p) in found.own for p in owned)
        return Group(
            name=layer.name,
            role="batchnorm" if own else "other" if feeds is None else "weights",
            feeds=feeds,
            parameters=layer.names,
            values=sum(p.numel() for p in owned),
            weight_norm=layer.size,
            radial=_metric([radial[place] for radial in found.radial], "no gradient arrives"),
            walks=tuple(
                _group_walk(trails, layers, place, self.asked.sizes()[form])
                for form, networks in every.items()
                for trails in networks.values()
            ),
        )


def _metric(values: Iterable[float | None], reason: str) -> Metric:
    known = [float("nan") if value is None else value for value in values]
    return metric(torch.tensor(known, dtype=torch.float64), reason)


def _spread(values: Iterable[float]) -> Spread:
    found = _metric(values, "")
    assert isinstance(found, Spread)  # noqa: S101  # the loss at the weights is finite
    return found


def _units(trail: Trail, layers: Sequence[Layer]) -> list[float]:
    """By layer, what its gradient counts in the norm of the walk."""
    return [1.0 if trail.form == "raw" else layer.size for layer in layers]


def _size(trail: Trail, layers: Sequence[Layer], norms: Sequence[float]) -> float:
    return hypot(*(u * n for u, n in zip(_units(trail, layers), norms, strict=True)))


def _changes(trail: Trail, layers: Sequence[Layer]) -> list[float | None]:
    """By step."""
    return [None if c is None else _size(trail, layers, c) for c in trail.changes]


def _smooth(trail: Trail, layers: Sequence[Layer], steps: Sequence[float]) -> list[float | None]:
    """By step the change over the distance."""
    unit = _size(trail, layers, trail.norms) if trail.form == "raw" else 1.0
    changes = zip(_changes(trail, layers), steps, strict=True)
    return [None if c is None or not unit else c / (step * unit) for c, step in changes]


def _variation(trail: Trail, kept: Sequence[bool]) -> float | None:
    losses = [x for x, keep in zip(trail.losses, kept, strict=True) if keep and x is not None]
    return max(trail.loss, *losses) - min(trail.loss, *losses) if losses else None


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _walk(trails: Sequence[Trail], layers: Sequence[Layer], steps: Sequence[float]) -> Walk:
    changes = [_changes(trail, layers) for trail in trails]
    smooth = [_smooth(trail, layers, steps) for trail in trails]
    points = []
    for place, step in enumerate(steps):
        failed = sum(t.losses[place] is None or t.changes[place] is None for t in trails)
        why = f"not finite in {failed} of {len(trails)} batches"
        points.append(
            Point(
                step,
                _metric((t.losses[place] for t in trails), why),
                _metric((c[place] for c in changes), why),
                _metric((s[place] for s in smooth), why),
                failed,
            )
        )
    whole = [True] * len(steps)
    return Walk(
        network=trails[0].network,
        form=trails[0].form,
        grad_norm=_spread(_size(t, layers, t.norms) for t in trails),
        loss=_spread(t.loss for t in trails),
        variation=_metric((_variation(t, whole) for t in trails), _OFF),
        change=_metric(map(_largest, changes), _OFF),
        beta=_metric(map(_largest, smooth), _OFF),
        points=tuple(points),
    )


def _comparison(
    form: str,
    networks: Mapping[str, Sequence[Trail]],
    layers: Sequence[Layer],
    steps: Sequence[float],
) -> Comparison:
    """Of what both networks have: a walk that ends early would look smooth."""
    pairs = list(zip(networks["batchnorm"], networks["frozen"], strict=True))
    kept = [
        [
            None not in (a.losses[i], a.changes[i], b.losses[i], b.changes[i])
            for i in range(len(steps))
        ]
        for a, b in pairs
    ]

    def ratio(of: Callable[[Trail, Sequence[bool]], float | None], why: str) -> Metric:
        values = []
        for (a, b), keep in zip(pairs, kept, strict=True):
            with_bn, frozen = of(a, keep), of(b, keep)
            values.append(frozen / with_bn if with_bn and frozen is not None else None)
        return _metric(values, why)

    def beta(trail: Trail, keep: Sequence[bool]) -> float | None:
        found = zip(_smooth(trail, layers, steps), keep, strict=True)
        return _largest(value for value, kept in found if kept)

    def change(trail: Trail, keep: Sequence[bool]) -> float | None:
        found = zip(_changes(trail, layers), keep, strict=True)
        largest = _largest(value for value, kept in found if kept)
        size = _size(trail, layers, trail.norms)
        return largest / size if largest is not None and size else None

    why = "at no step both are finite, or nothing changes with BatchNorm"
    return Comparison(
        form=form,
        beta=ratio(beta, why),
        variation=ratio(_variation, why),
        change=ratio(change, why),
        incomparable=sum(not all(keep[i] for keep in kept) for i in range(len(steps))),
    )


def _group_walk(
    trails: Sequence[Trail], layers: Sequence[Layer], place: int, steps: Sequence[float]
) -> GroupWalk:
    """A layer's change over the distance that itself has moved, scale |g_l| a unit of the step."""
    betas, changes = [], []
    for trail in trails:
        unit = _units(trail, layers)[place]
        own = [None if c is None else unit * c[place] for c in trail.changes]
        moved = scales_of(trail.form, layers, trail.norms)[place] * trail.norms[place]
        moved = moved if trail.form == "raw" else moved / unit if unit else 0.0
        over = zip(own, steps, strict=True)
        betas.append(_largest(c / (s * moved) for c, s in over if c is not None) if moved else None)
        changes.append(own)
    middle = [_metric((own[i] for own in changes), "") for i in range(len(steps))]
    return GroupWalk(
        network=trails[0].network,
        form=trails[0].form,
        grad_norm=_spread(_units(t, layers)[place] * t.norms[place] for t in trails),
        change=tuple(nan if isinstance(m, Skipped) else m.median for m in middle),
        beta=_metric(betas, "the layer does not move: no gradient arrives, or its weights are 0"),
    )
