"""A torch.export file (.pt2) without a run, and without loading it: that could execute code from it."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from bnaudit.inspection.absent import reparameterised, unpaired
from bnaudit.inspection.layers import few, own_forms, own_notes
from bnaudit.inspection.operators import onnx_name
from bnaudit.inspection.program.graph import Graph, read_graph
from bnaudit.inspection.program.layers import (
    ARITHMETIC,
    is_batchnorm,
    is_weighted,
    program_batchnorms,
)
from bnaudit.load.pickles.archive import Archive
from bnaudit.load.pickles.checkpoint import explained
from bnaudit.load.pickles.vectors import read_vector
from bnaudit.load.weights.exported import DTYPES, model_names, read_json, stored_weights
from bnaudit.records.inspection import Absence, Inspection
from bnaudit.records.model import TensorInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bnaudit.load.pickles.objects import StoredTensor
    from bnaudit.records.inspection import BatchNormStatics

_NORMS = ("layer_norm", "group_norm", "instance_norm", "rms_norm")
_SYMBOL = re.compile(r"Symbol\('(\w+)'[^)]*\)|Integer\((-?\d+)\)")
_KEEP = (
    "if the network has BatchNorm: torch.export.export(net.eval(), (x,)) before anything fuses it"
)


def inspect_exported(path: Path) -> Inspection:
    """What an exported program stores of BatchNorm.

    Its graph is JSON and its weights are bytes; the pickles in it (sample inputs, custom objects)
    are not opened.

    Raises:
        InputError: it is damaged, or of an older format without `models/*.json`.
    """
    with explained(path, "torch.export file"), Archive(path) as archive:
        return _inspect(path, archive)


def _inspect(path: Path, archive: Archive) -> Inspection:
    models = model_names(archive)
    program = read_json(archive, f"models/{models[0]}.json")
    graph = read_graph(program)
    tensors, parameters = stored_weights(archive, models[0])

    def read(tensor: StoredTensor) -> tuple[float, ...]:
        return read_vector(archive, tensor)

    batchnorms = program_batchnorms(graph, tensors, read)
    version = program.get("torch_version") if isinstance(program, dict) else None
    producer = f"pytorch {version[:40]}" if isinstance(version, str) else None
    return Inspection(
        path=str(path),
        kind="exported",
        producer=producer,
        facts=_facts(program),
        size=path.stat().st_size,
        parameters=sum(tensors[name].numel for name in parameters),
        inputs=tuple(_input(name, graph.values.get(name)) for name in graph.inputs),
        outputs=tuple(graph.outputs),
        batchnorms=batchnorms,
        other_norms=_other_norms(graph),
        weight_layers=sum(map(is_weighted, graph.operators)),
        absence=_absence(graph, batchnorms, tensors),
        notes=(*own_notes(own_forms(_own(batchnorms))), *_notes(models, tensors.values())),
    )


def _facts(program: Any) -> dict[str, str]:
    version = program.get("schema_version") if isinstance(program, dict) else None
    if not isinstance(version, dict):
        return {}
    return {"schema": f"{version.get('major')}.{version.get('minor')}"}


def _input(name: str, value: Any) -> TensorInfo:
    """An input as the graph describes it: sizes are numbers or the names of symbols."""
    if not isinstance(value, dict) or not isinstance(value.get("sizes"), list):
        return TensorInfo(name, None, None)
    code = value.get("dtype")
    return TensorInfo(
        name, tuple(map(_size, value["sizes"])), DTYPES.get(code) if type(code) is int else None
    )


def _size(value: Any) -> int | str | None:
    if not isinstance(value, dict):
        return None
    if type(value.get("as_int")) is int:
        return int(value["as_int"])
    symbol = value.get("as_expr")
    if not isinstance(symbol, dict):
        return None
    # sympy's srepr: "Mul(Integer(2), Symbol('s77', positive=True, integer=True))"
    plain = _SYMBOL.sub(lambda found: found[1] or found[2], str(symbol.get("expr_str")))
    return plain[:40]


def _other_norms(graph: Graph) -> dict[str, int]:
    plain = (op.op.removeprefix("native_") for op in graph.operators if op.space == "aten")
    return dict(Counter(onnx_name(op) for op in plain if op in _NORMS))


def _own(batchnorms: tuple[BatchNormStatics, ...]) -> list[tuple[str, str]]:
    return [(b.name, b.origin) for b in batchnorms if b.origin.endswith(ARITHMETIC)]


def _absence(
    graph: Graph, batchnorms: tuple[BatchNormStatics, ...], tensors: Mapping[str, StoredTensor]
) -> Absence | None:
    """Why no BatchNorm is called: the modules around the nodes are still named."""
    if batchnorms:
        own = _own(batchnorms)
        return own_forms(own) if len(own) == len(batchnorms) else None
    quantised = [o.op for o in graph.operators if o.space.startswith(("quantized", "torchao"))]
    if quantised:
        return Absence(
            "quantised",
            (f"{len(quantised)} quantisation operators ({few(sorted(set(quantised)))})",),
            "audit the program before quantisation, which folds BatchNorm into the weights",
        )
    classes = [
        path
        for operator in graph.operators
        for path, kind in operator.stack
        if "BatchNorm" in kind and not is_batchnorm(operator)
    ]
    read = {graph.source(name) for operator in graph.operators for name in operator.reads}
    left = [b for b in graph.buffers if b.endswith("running_mean") and b not in read]
    if classes or left:
        why = [f"{few(list(dict.fromkeys(classes)))}: a BatchNorm without its call"] * bool(classes)
        why += [f"buffers {few(left)} that nothing reads"] * bool(left)
        return Absence("folded", tuple(why), _KEEP)
    paths = [path for operator in graph.operators for path, _ in operator.stack]
    told = unpaired(tensors) or reparameterised([*graph.parameters, *paths])
    if told is not None:
        return told
    norms = _other_norms(graph)
    if norms:
        kinds = ", ".join(f"{count} {kind}" for kind, count in norms.items())
        return Absence("other-normalisation", (kinds,), "none: another normalisation is in use")
    layers = [o for o in graph.operators if is_weighted(o) and o.op.startswith(("conv", "_conv"))]
    biased = bool(layers) and all(o.tensor("bias") for o in layers)
    what = f"no normalisation, and each of the {len(layers)} convolutions has a bias"
    return Absence(
        "unknown" if biased else "none",
        (what if biased else "no normalisation among its operators",),
        _KEEP,
    )


def _notes(models: list[str], tensors: Iterable[StoredTensor]) -> tuple[str, ...]:
    notes = []
    if len(models) > 1:
        notes.append(f"one of {len(models)} models was read: {models[0]}")
    closed = sum(t.storage is None for t in tensors)
    if closed:
        notes.append(
            f"{closed} tensors are stored as pickles or in unknown types and were not read"
        )
    return tuple(notes)
