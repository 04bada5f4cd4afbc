"""One network in one form: the sweep's time, and what passes it without a rule of its own."""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

import bnaudit
from bench.vision.cells import Way, write
from bnaudit.load import Loading, load
from bnaudit.measure import second_order_sweep
from bnaudit.measure.sweep.run import prepare_tape
from bnaudit.records.curvature import SWEEP, SecondOrder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

    from bnaudit.measure.sweep.plan import Prepared

PROGRAM = "exported program"
WAYS = {
    "scripted": Way("scripted"),
    "traced": Way("traced"),
    "ONNX, TorchScript exporter": Way("torchscript", 17),
    "ONNX, dynamo exporter": Way("dynamo", 18),
}
FORMS = ("live", *WAYS, PROGRAM)


@dataclass(frozen=True, slots=True)
class Form:
    """What one network in one form cost.

    Attributes:
        layers: BatchNorm calls.
        swept: those that went by the sweep.
        forward: processor seconds of an inference forward.
        sweep: those of the sweep, prepared and carried.
        local: operator -> (calls, processor seconds) of what has no rule: autograd on the call alone.
        singly: those of them that no stack passes at once.
        obstacles: why layers were not swept.
    """

    layers: int = 0
    swept: int = 0
    forward: float = float("nan")
    sweep: float = float("nan")
    local: dict[str, tuple[int, float]] = field(default_factory=dict)
    singly: frozenset[str] = frozenset()
    obstacles: tuple[str, ...] = ()


def written_as(form: str, net: nn.Module, x: Tensor, folder: Path) -> Any:
    """The network in a form: itself, or the file."""
    if form == "live":
        return net
    path = folder / f"{FORMS.index(form)}"
    if form != PROGRAM:
        write(WAYS[form], net, x, path)
        return path
    with warnings.catch_warnings(), torch.no_grad(), path.open("wb") as file:
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net, (x,)), file)
    return path


def measured(model: Any, x: Tensor) -> Form:
    """Sweeps a network in some form, and times what has no rule."""
    spent: dict[str, list[float]] = defaultdict(list)
    calls: dict[str, int] = {}
    singly: set[str] = set()

    def timed(prepare: Callable[..., Prepared]) -> Callable[..., Prepared]:
        def call(*given: Any) -> Prepared:
            prepared = prepare(*given)
            calls.clear()
            for step in prepared.tape.steps:
                if step.local:
                    calls[step.name] = calls.get(step.name, 0) + 1
                    singly.update([step.name] * step.singly)
                    step.apply = _timed(step.apply, spent[step.name])
                    step.form = _timed(step.form, spent[step.name])
            return prepared

        return call

    seconds: list[float] = []
    sweep = _timed(second_order_sweep.sweep_layers, seconds)
    with (
        mock.patch.object(second_order_sweep, "sweep_pays", return_value=True),
        mock.patch.object(second_order_sweep, "prepare_tape", timed(prepare_tape)),
        mock.patch("bnaudit.measure.second_order.sweep_layers", sweep),
    ):
        report = bnaudit.audit(
            model,
            data=x,
            batches=1,
            batch_size=len(x),
            metrics=("second_order",),
            layers="*",
            trust=True,
        )
    orders = [layer.second_order for layer in report.layers]
    swept = [o for o in orders if isinstance(o, SecondOrder) and o.method == SWEEP]
    why = {
        str(getattr(getattr(layer.first_order, "forward_mode", None), "reason", ""))
        for layer in report.layers
    }
    module = (
        model if isinstance(model, torch.nn.Module) else load(model, Loading(trust=True)).module
    )
    return Form(
        len(orders),
        len(swept),
        _forward(module, x),
        sum(seconds),
        {name: (count, sum(spent[name])) for name, count in calls.items()},
        frozenset(singly),
        tuple(sorted(why - {""})),
    )


def _timed(call: Any, spent: list[float]) -> Any:
    if call is None:
        return None

    def timed(*given: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return call(*given, **options)
        finally:
            spent.append(time.process_time() - start)

    return timed


def _forward(module: nn.Module, x: Tensor) -> float:
    spent: list[float] = []
    with torch.no_grad():
        for _ in range(6):
            _timed(module, spent)(x)
    return min(spent)
