"""A TorchScript file without a run: its modules, constants and code are read as text. No torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.inspection.layers import (
    address,
    counter,
    other_norms,
    own_forms,
    own_notes,
    statics,
    values,
    with_places,
)
from bnaudit.inspection.operators import onnx_name
from bnaudit.inspection.script.calls import (
    BatchNormCall,
    batchnorm_calls,
    feeder,
    is_weighted,
    preceded_by,
    runs_on_batches,
    stored_tensor,
)
from bnaudit.inspection.script.missing import absence, frozen_notes
from bnaudit.inspection.script.program import Program, read_program
from bnaudit.load.pickles.archive import Archive
from bnaudit.load.pickles.checkpoint import explained
from bnaudit.load.pickles.vectors import read_vector
from bnaudit.records.inspection import BatchNormStatics, Inspection
from bnaudit.records.model import TensorInfo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnaudit.inspection.layers import Layer
    from bnaudit.load.pickles.objects import StoredTensor

    Read = Callable[[StoredTensor], tuple[float, ...]]

_NORMS = ("instance_norm", "layer_norm", "group_norm", "rms_norm")


def inspect_torchscript(path: Path) -> Inspection:
    """What a scripted, traced, frozen or mobile file stores of BatchNorm, named as an audit names it.

    Raises:
        InputError: it is damaged, or of a format without `data.pkl`.
    """
    with explained(path, "TorchScript file"), Archive(path) as archive:
        return _inspect(path, archive)


def _inspect(path: Path, archive: Archive) -> Inspection:
    def read(tensor: StoredTensor) -> tuple[float, ...]:
        return read_vector(archive, tensor)

    program = read_program(archive)
    calls = batchnorm_calls(program.trace.calls)
    layers, again = _once([x for x in program.layers if x.is_batchnorm or x.is_own_batchnorm])
    batchnorms = with_places(
        [
            replace(found, places=(*again.get(layer.path, ()), *found.places))
            for layer in layers
            for found in (_layer(layer, calls, program, read),)
        ],
        {x.path or x.kind: at for x in layers if (at := address(x)) is not None},
    )
    arithmetic = [x for x in layers if x.is_own_batchnorm and not _own(x, calls)]
    if not batchnorms:
        batchnorms = tuple(_call(i, call, read) for i, call in enumerate(calls))
    return Inspection(
        path=str(path),
        kind="torchscript",
        facts=_facts(program),
        size=path.stat().st_size,
        parameters=program.parameters,
        inputs=_inputs(program),
        batchnorms=batchnorms,
        other_norms=_other_norms(program),
        weight_layers=sum(map(is_weighted, program.trace.calls)) if program.root else None,
        absence=absence(program, calls, arithmetic),
        notes=_notes(program, layers, calls, arithmetic),
    )


def _once(layers: list[Layer]) -> tuple[list[Layer], dict[str, list[str]]]:
    """The layers without those that have all of their tensors from another, and what else they are called.

    A module that is registered twice stands in the file twice.
    """
    seen: dict[tuple[object, ...], str] = {}
    kept: list[Layer] = []
    again: dict[str, list[str]] = {}
    for layer in layers:
        parts = [layer.tensor(role) for role in ("gamma", "beta", "mean", "var")]
        key = tuple((t.storage, t.offset) if t is not None else None for t in parts)
        first = seen.setdefault(key, layer.path)
        if first == layer.path or not any(key):
            kept.append(layer)
        else:
            again.setdefault(first, []).append(layer.path)
    return kept, again


def _layer(
    layer: Layer, calls: list[BatchNormCall], program: Program, read: Read
) -> BatchNormStatics:
    """A BatchNorm module; its eps and momentum are part of its class, or literals of its call."""
    own = _own(layer, calls)
    origin = f"module {layer.path!r} ({layer.kind})" if layer.path else f"the model ({layer.kind})"
    found = statics(layer, layer.path or layer.kind, origin, read)
    sources = {feeder(c.node) for c in own} if program.trace.complete else set()
    before = {preceded_by(c.node) for c in own} if program.trace.complete else set()
    call = own[0] if own else None
    baked = runs_on_batches(call) if call is not None else None
    return BatchNormStatics(
        name=found.name,
        origin=origin,
        channels=found.channels,
        eps=found.eps if found.eps is not None else call.eps if call else None,
        momentum=found.momentum if "momentum" in layer.values else _momentum(call),
        training=found.training if baked is None else baked,
        batches_tracked=found.batches_tracked,
        dtype=found.dtype,
        gamma=found.gamma,
        beta=found.beta,
        running_mean=found.running_mean,
        running_var=found.running_var,
        feeder=sources.pop() if len(sources) == 1 else None,
        preceded_by=before.pop() if len(before) == 1 else None,
        places=tuple(f"call {n} of its code" for n in range(2, len(own) + 1)),
    )


def _own(layer: Layer, calls: list[BatchNormCall]) -> list[BatchNormCall]:
    """The calls in a module's code, else those with its tensors: a trace knows one name of several."""
    own = [c for c in calls if c.node.owner is not None and c.node.owner.path == layer.path]
    mean = layer.tensor("mean")
    if own or mean is None:
        return own
    same = [(c, stored_tensor(c, "running_mean")) for c in calls]
    return [c for c, t in same if t is not None and t.storage == mean.storage]


def _momentum(call: BatchNormCall | None) -> float | None:
    """0 is what a trace in eval mode writes for momentum=None, the cumulative average."""
    return None if call is None else call.momentum or None


def _call(index: int, call: BatchNormCall, read: Read) -> BatchNormStatics:
    """A call outside BatchNorm modules: a functional one, or one whose module was frozen away."""
    parts = {p: stored_tensor(call, p) for p in ("weight", "bias", "running_mean", "running_var")}
    known = [t for t in parts.values() if t is not None and len(t.shape) == 1]
    return BatchNormStatics(
        name=f"batch_norm_{index + 1}",
        origin=f"call {index + 1} of batch_norm in the code",
        channels=known[0].shape[0] if known else None,
        eps=call.eps,
        momentum=_momentum(call),
        training=runs_on_batches(call),
        batches_tracked=counter(None, read),
        dtype=known[0].dtype if known else None,
        gamma=values(parts["weight"], read),
        beta=values(parts["bias"], read),
        running_mean=values(parts["running_mean"], read),
        running_var=values(parts["running_var"], read),
        feeder=feeder(call.node),
        preceded_by=preceded_by(call.node),
    )


def _facts(program: Program) -> dict[str, str]:
    if program.mobile:
        return {"variant": "mobile"}
    return {"variant": "frozen"} if not program.parameters and program.constants else {}


def _inputs(program: Program) -> tuple[TensorInfo, ...]:
    """The arguments of forward; these files record names and types, but no shapes."""
    forward = program.root.cls.methods.get("forward") if program.root is not None else None
    if forward is None:
        return ()
    args = forward.args.args[1:]
    required = args[: len(args) - len(forward.args.defaults)]
    return tuple(TensorInfo(a.arg, None, None) for a in required)


def _other_norms(program: Program) -> dict[str, int]:
    """By the modules' classes, and by calls outside such modules."""
    found = Counter(other_norms(program.layers))
    inside = {layer.path for layer in program.layers if layer.other_norm is not None}
    for call in program.trace.calls:
        if call.op in _NORMS and (call.owner is None or call.owner.path not in inside):
            found[onnx_name(call.op)] += 1
    return dict(found)


def _notes(
    program: Program, layers: list[Layer], calls: list[BatchNormCall], arithmetic: list[Layer]
) -> tuple[str, ...]:
    own = own_forms((x.path, f"class {x.kind}, in arithmetic of its own") for x in arithmetic)
    notes = own_notes(own)
    if program.code.unread:
        notes.append(f"{len(program.code.unread)} code files could not be parsed and were left out")
    if not program.trace.complete:
        notes.append("the program is too long to be followed: what feeds a layer is not told")
    paths = {layer.path for layer in layers}
    outside = [c for c in calls if c.node.owner is None or c.node.owner.path not in paths]
    if layers and outside:
        notes.append(f"{len(outside)} further calls of batch_norm outside BatchNorm modules")
    return (*notes, *frozen_notes(program, calls))
