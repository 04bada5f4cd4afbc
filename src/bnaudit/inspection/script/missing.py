"""Why a TorchScript file has no BatchNorm, or fewer than its network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.inspection.absent import absent_by_classes, layer_tensors, reparameterised, unpaired
from bnaudit.inspection.layers import other_norms, own_forms
from bnaudit.inspection.script.calls import feeder, has_bias, is_weighted
from bnaudit.records.inspection import Absence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.inspection.layers import Layer
    from bnaudit.inspection.script.calls import BatchNormCall
    from bnaudit.inspection.script.program import Program

_KEEP = (
    "if the network has BatchNorm, save torch.jit.script(net.eval()) without torch.jit.freeze or "
    "optimize_for_inference"
)


def absence(
    program: Program, calls: Sequence[BatchNormCall], arithmetic: Sequence[Layer]
) -> Absence | None:
    """The reason, or None where nothing seems to be missing.

    Args:
        program: the file.
        calls: of batch_norm in it.
        arithmetic: its layers that have the tensors of a BatchNorm and no such call.
    """
    weighted = [node for node in program.trace.calls if is_weighted(node)]
    frozen = not program.parameters and bool(program.constants)
    missing = not calls and not any(layer.is_batchnorm for layer in program.layers)
    told: Absence | None = None
    if missing and arithmetic:
        told = own_forms((x.path, f"class {x.kind}, in arithmetic of its own") for x in arithmetic)
    elif missing:
        paths = (layer.path for layer in program.layers)
        told = unpaired(layer_tensors(program.layers)) or reparameterised(paths)
    if told is not None:
        return told
    if "_fused_bn" in program.code.text_marks:
        evidence = (
            "its code names weights ..._fused_bn, as torch.jit.optimize_for_inference does",
        )
        return Absence("frozen" if missing else "partly-folded", evidence, _KEEP)
    if not missing:
        return None
    if "ops.quantized." in program.code.text_marks:
        evidence = ("its code calls quantized operators",)
        told = Absence("quantised", evidence, "audit the network before quantisation")
    elif frozen and weighted:
        # torch.jit.freeze makes constants of all parameters, and by default folds BatchNorm.
        evidence = (
            f"no parameters: {len(program.constants)} tensors are constants of its code, as "
            "torch.jit.freeze leaves them",
        )
        told = Absence("frozen", evidence, _KEEP)
    elif weighted and all(map(has_bias, weighted)) and not other_norms(program.layers):
        told = Absence(
            "unknown" if any("conv" in node.op for node in weighted) else "none",
            (f"no normalisation, and each of the {len(weighted)} layers with weights has a bias",),
            _KEEP,
        )
    if told is not None:
        return told
    found = absent_by_classes(program.layers, other_norms(program.layers))
    return replace(found, fix=_KEEP) if found.case == "none" else found


def frozen_notes(program: Program, calls: Sequence[BatchNormCall]) -> tuple[str, ...]:
    """What cannot be decided of a frozen file with some BatchNorm left."""
    if program.parameters or not program.constants or not calls:
        return ()
    feeders = [(call, feeder(call.node)) for call in calls]
    foldable = any(f is not None and f.sole_reader and not c.training for c, f in feeders)
    fed = {f.weight for _, f in feeders if f is not None}
    biased = [n for n in program.trace.calls if is_weighted(n) and has_bias(n) and "conv" in n.op]
    folded = [n for n in biased if n.args[1].name not in fed]
    if not folded or foldable:  # freeze folds every BatchNorm behind a layer of its own, or none
        return ()
    return (
        "frozen: whether the biases of the convolutions that go into no BatchNorm "
        f"({len(folded)}) come from folded ones cannot be told",
    )
