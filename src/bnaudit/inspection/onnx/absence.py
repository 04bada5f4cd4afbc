"""Why there is no BatchNorm, or fewer than there were, on what evidence, and what to do about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bnaudit.inspection.onnx.facts import QUANTISED, exporter
from bnaudit.inspection.onnx.remedies import DYNAMO, KEEP, KERAS, keep
from bnaudit.inspection.onnx.traces import Trace, plural, some, traces
from bnaudit.records.inspection import Absence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnaudit.inspection.onnx.net import Net
    from bnaudit.records.inspection import DecomposedNorm

_RUNTIME = "com.microsoft"
_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"


def absence(
    net: Net,
    kept: Sequence[str],
    decomposed: Sequence[DecomposedNorm],
    norms: Mapping[str, int],
) -> Absence | None:
    """None where BatchNorm is there and nothing tells of more.

    Args:
        net: the graph.
        kept: names of the BatchNorm layers that it has.
        decomposed: what else in it looks like one.
        norms: other normalisations.
    """
    found = [trace for trace in traces(net) if not set(trace.layers) & set(kept) or not kept]
    clauses = [trace.clause for trace in found]
    if kept:
        clauses += [_decomposed(decomposed)] if decomposed else []
        fix = _fix(net, found) if found else _frozen_fix(net)
        return Absence("partly-folded", tuple(clauses), fix) if clauses else None
    fix = _fix(net, found)
    quantised = [node.op for node in net.reading.nodes if node.op in QUANTISED]
    if quantised:
        nodes = f"{plural(len(quantised), 'quantisation node')} ({some(sorted(set(quantised)))})"
        return Absence(
            "quantised",
            (f"{nodes}: BatchNorm is usually folded before", *clauses),
            f"audit the model from before quantisation; {fix}",
        )
    left = (_decomposed(decomposed),) if decomposed else ()
    if found:
        return Absence("folded", (*clauses, *left), fix)
    if left:
        return Absence("frozen", left, _frozen_fix(net))
    if norms:
        listed = ", ".join(f"{name} ({count})" for name, count in norms.items())
        return Absence(
            "other-normalisation",
            (f"the graph normalises with {listed}", *_never(net)),
            "none needed: bnaudit audits BatchNorm alone (--allow-no-bn makes this exit 0)",
        )
    return _nothing_found(net, fix)


def _fix(net: Net, found: list[Trace]) -> str:
    tool = found[0].tool if found else ""
    return keep(tool, exporter(net.reading), net.reading.model.producer_version)


def _decomposed(decomposed: Sequence[DecomposedNorm]) -> str:
    names = [norm.name for norm in decomposed if norm.after]
    alone = [norm.name for norm in decomposed if not norm.after]
    told = (
        (names, "layer", "with weights followed by a per-channel a*x + b of stored numbers"),
        (alone, "per-channel a*x + b", "of stored numbers with nothing in front to fold into"),
    )
    return "; ".join(f"{plural(len(n), what)} {how}: {some(n)}" for n, what, how in told if n)


def _frozen_fix(net: Net) -> str:
    keras = any(value.name.startswith("keras_tensor") for value in net.reading.graph.inputs)
    if keras or exporter(net.reading) == "tf2onnx":
        return KERAS
    return (
        "if these are frozen layers (FrozenBatchNorm2d), replace them by torch.nn.BatchNorm2d with the "
        f"same weight, bias, running_mean and running_var, then {DYNAMO}"
    )


def _nothing_found(net: Net, fix: str) -> Absence:
    never = _never(net)
    if never:
        return Absence(
            "none",
            never,
            "none if the network has no BatchNorm (--allow-no-bn makes this exit 0); if it was fused in "
            f"Python before the export (fuse_modules, model.fuse()), export it unfused: {fix}",
        )
    biased = [n for n in net.weight_layers if "Conv" in n.op and len(n.inputs) > 2]
    count = plural(len(biased), "convolution")
    who = f"no note of who folded anything (written by {net.reading.model.producer or 'unknown'})"
    own = sorted({n.op for n in net.reading.nodes if n.domain.startswith(_RUNTIME)})
    if own:
        who = f"operators of ONNX Runtime's optimiser ({some(own)}), which folds BatchNorm where it can"
        fix = KEEP["onnxruntime"]
    return Absence(
        "unknown",
        (f"{count} with a bias, which folding leaves, and many networks have anyway", who),
        f"if the network has BatchNorm: {fix}",
    )


def _never(net: Net) -> tuple[str, ...]:
    """What speaks for a network that had no BatchNorm when it was exported."""
    signature = net.reading.model.graph_metadata.get(_SIGNATURE, "")
    targets = re.findall(r"target='([^']*)'", signature)
    if targets and not any("running_" in target for target in targets):
        return (
            f"the exporter listed all {len(targets)} parameters and buffers of the network, and none is "
            "a running statistic",
        )
    convolutions = [n for n in net.weight_layers if "Conv" in n.op]
    if not net.weight_layers:
        return ("the graph has no layer with weights",)
    torchscript = exporter(net.reading) == "torch.onnx TorchScript"
    if not convolutions:  # what else writes files may fold into linear layers too
        return ("the graph has no convolution",) if torchscript else ()
    biased = [n for n in convolutions if len(n.inputs) > 2]
    if not biased:
        count = plural(len(convolutions), "convolution")
        return (f"{count} without a bias, and folding a BatchNorm leaves one",)
    if torchscript:
        own = [
            n for n in biased if n.inputs[1].endswith(".weight") and n.inputs[2].endswith(".bias")
        ]
        if len(own) == len(biased):
            return (
                f"{plural(len(own), 'convolution')} with a bias under the network's own names "
                f"({own[0].inputs[2]}), which the exporter replaces when it folds",
            )
    return ()
