"""The flow: read, normalise, convert."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bnaudit.errors import BnauditError, InputError
from bnaudit.load.model import BatchNormDef, LoadedModel
from bnaudit.load.onnx.assemble import assemble
from bnaudit.load.onnx.checks import check_batchnorms
from bnaudit.load.onnx.converters import quantisers
from bnaudit.load.onnx.evaluate import content_of
from bnaudit.load.onnx.facts import facts, input_specs, producer
from bnaudit.load.onnx.fold import fold, fold_literals
from bnaudit.load.onnx.functions import all_nodes
from bnaudit.load.onnx.legacy import flatten_positions, raise_to_six
from bnaudit.load.onnx.lift import lift, pin, static_batch
from bnaudit.load.onnx.names import layer_names, layers_by_use
from bnaudit.load.onnx.opset import BASE, raise_opset
from bnaudit.load.onnx.precision import widen
from bnaudit.load.onnx.prepare import drop_training, prepare
from bnaudit.load.onnx.read import read_model
from bnaudit.load.onnx.scale import absorb_scales

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft
    from bnaudit.load.onnx.origin import Origin


def load(path: Path, *, lifting: bool = True) -> LoadedModel:
    """See `bnaudit.load.onnx.load_onnx`.

    Args:
        path: the file.
        lifting: whether a fixed batch size is to be lifted.
    """
    try:
        return _load(path, lifting=lifting)
    except BnauditError:
        raise
    except Exception as error:
        # protobuf only checks the wire format: a damaged file can break any assumption from here on
        reason = (str(error).splitlines() or [""])[0][:120]
        raise InputError(
            f"{path}: the graph is not valid ONNX ({type(error).__name__}: {reason})",
            hint="run onnx.checker.check_model on it; if that passes, report it as a bug of bnaudit",
        ) from error


def _load(path: Path, *, lifting: bool) -> LoadedModel:
    model = read_model(path)
    described, writer = facts(model), producer(model)
    draft, origins = prepare(path, model)
    del model  # and with it a second copy of the weights
    inputs = input_specs(draft.inputs)
    outputs = tuple(value.name for value in draft.outputs)
    keys = [key for key, origin in origins.items() if origin.op == "BatchNormalization"]
    makers = {name: node for node in all_nodes(draft.nodes) for name in node.output}
    first_use = layers_by_use([origins[key] for key in keys], partial(content_of, makers))
    layers = [key for key, first in zip(keys, first_use, strict=True) if origins[key] is first]
    by_layer = dict(zip(layers, layer_names([origins[key] for key in layers]), strict=True))
    by_origin = {id(origins[key]): name for key, name in by_layer.items()}
    names = {key: by_origin[id(first)] for key, first in zip(keys, first_use, strict=True)}
    widen(draft)
    lifted = normalise(draft, lifting=lifting)
    channels: dict[str, int] = {}
    _finish(names, channels, draft)
    module, paths, holders = assemble(draft, origins, partial(_settle_body, names, channels))
    told = Counter(n.op_type for n in all_nodes(draft.nodes) if n.domain in quantisers.DOMAINS)
    if told:
        draft.notes.append(quantisers.NOTE.format(sum(told.values()), ", ".join(sorted(told))))
    return LoadedModel(
        module=module,
        format="onnx",
        inputs=inputs,
        outputs=outputs,
        batchnorms=tuple(
            BatchNormDef(
                name, channels.get(key), f"node {origins[key].name!r} (BatchNormalization)"
            )
            for key, name in by_layer.items()
        ),
        labels={
            **holders,
            **_weight_owners(draft, origins, paths),
            **{paths[key]: name for key, name in names.items() if key in paths},
        },
        producer=writer,
        facts={**described, "batchnorm_nodes": str(len(keys))},
        notes=tuple(draft.notes),
        static_batch=lifted.batch,
        lifted=lifted.free,
        unlifted=partial(load, path, lifting=False) if lifted.rewritten else None,
        reload=partial(load, path, lifting=lifting),
    )


def _weight_owners(
    draft: Draft, origins: Mapping[str, Origin], paths: Mapping[str, str]
) -> dict[str, str]:
    """Submodule path -> the module that the author's weight name points to, else the node's name."""
    owners: dict[str, str] = {}
    for node in draft.nodes:
        path = paths.get(node.name)
        if path is None or len(node.input) < 2 or node.input[1] not in draft.constants:
            continue
        origin = origins.get(node.name)
        # A weight that was computed leaves the bias to tell the layer.
        owner = _prefix(draft, node, 1, "weight") or _prefix(draft, node, 2, "bias")
        if owner or (origin is not None and origin.name):
            owners[path] = owner or (origin.name if origin is not None else "")
    return owners


def _prefix(draft: Draft, node: NodeProto, index: int, own: str) -> str:
    """'layer1.0.conv1' where an input holds the initializer 'layer1.0.conv1.weight'."""
    name = node.input[index] if index < len(node.input) else ""
    source = draft.sources.get(name)
    prefix, _, last = (source.name if source else name).rpartition(".")
    return prefix if last == own else ""


def _settle_body(names: Mapping[str, str], channels: dict[str, int], draft: Draft) -> None:
    """What is done to the whole graph, done to the body of an If, Loop or Scan."""
    drop_training(draft)
    normalise(draft, lifting=False)
    _finish(names, channels, draft)


def _finish(names: Mapping[str, str], channels: dict[str, int], draft: Draft) -> None:
    """Checks the layers, notes how many channels they have, and completes them."""
    check_batchnorms(draft, names)
    for node in draft.nodes:
        if node.op_type == "BatchNormalization" and node.input[1] in draft.constants:
            channels[node.name] = draft.constants[node.input[1]].size
    absorb_scales(draft)


class Lifted(NamedTuple):
    """What became of the batch size that a file was exported with.

    Attributes:
        batch: the size, None where the file leaves it open.
        free: whether others may run.
        rewritten: whether anything had to be changed for that but the declared shapes.
    """

    batch: int | None
    free: bool = False
    rewritten: bool = False


def normalise(draft: Draft, *, lifting: bool) -> Lifted:
    """Brings the graph into the form that converters take.

    Args:
        draft: the graph; it is changed.
        lifting: whether its batch size is to be lifted; not that of a part of another graph, whose
            batch axis is not known.
    """
    raise_to_six(draft)
    fold_literals(draft)
    flatten_positions(draft)
    batch, uniform = static_batch(draft)
    free = lifting and uniform and batch is not None
    # Shapes of values are constants of the one graph, and computed in the other.
    rewritten = any(node.op_type in {"Shape", "Size"} for node in all_nodes(draft.nodes))
    if free and batch is not None:
        rewritten |= lift(draft, batch)
    fold(draft)
    if 0 < draft.opset < BASE:
        if free and batch is not None:
            pin(draft, batch)
        raise_opset(draft)
    if free and batch is not None:
        rewritten |= lift(draft, batch)  # shapes that only became constant since
    fold(draft)
    return Lifted(batch, free, free and rewritten)
