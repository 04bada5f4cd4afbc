"""TorchScript files, scripted or traced, whatever training flag is baked in."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.errors import InputError
from bnaudit.load.archive import require_sound_program
from bnaudit.load.batchnorms import defined_batchnorms
from bnaudit.load.model import BatchNormDef, LoadedModel
from bnaudit.load.script_signature import read_signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_FROZEN_NOTE = (
    "frozen by torch.jit.freeze: the layers' names are gone, they are numbered in the order of the "
    "code; whatever BatchNorm followed a convolution directly may have been folded into it"
)


def load_torchscript(path: Path) -> LoadedModel:
    """Loads a file that `torch.jit.save` wrote, on the CPU.

    Args:
        path: the file; its kind has been established by `sniff`.

    Raises:
        InputError: it is damaged, needs operators that this process does not have, or has no
            `forward` that takes tensors.
    """
    require_sound_program(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript's deprecation is not the user's concern
        try:
            module: Any = torch.jit.load(str(path), map_location="cpu")
        except Exception as error:  # the parser of damaged code and pickles fails in many ways
            raise _explain(path, str(error)) from error
    return describe(module, str(path), reload=lambda: load_torchscript(path))


def describe(
    module: Any, subject: str, reload: Callable[[], LoadedModel] | None = None
) -> LoadedModel:
    """What a TorchScript module says of itself, loaded from a file or compiled in this process.

    Args:
        module: the module.
        subject: what errors call it.
        reload: loads it afresh, if it came from a file.

    Raises:
        InputError: it has no `forward`, or one whose arguments cannot be given.
    """
    signature = read_signature(module, subject)
    frozen = is_frozen(module)
    # Without such modules the calls stand in the graph: functional ones, or of a frozen file.
    layers = defined_batchnorms(module) or tuple(
        BatchNormDef(f"batch_norm_{number}", None, "aten::batch_norm in the inlined graph")
        for number, _ in enumerate(module.inlined_graph.findAllNodes("aten::batch_norm"), 1)
    )
    notes = (_FROZEN_NOTE,) if frozen and layers else ()
    return LoadedModel(
        module=module,
        format="torchscript",
        inputs=signature.inputs,
        further=signature.further,
        groups=signature.groups,
        arguments=signature.arguments,
        arrange=signature.arrange,
        batchnorms=layers,
        facts={"frozen": "yes"} if frozen else {},
        notes=notes,
        dtype=_frozen_dtype(module) if frozen else None,
        adapt=None if reload is None else adapt,
        reload=reload,
    )


def is_frozen(module: Any) -> bool:
    """Whether torch.jit.freeze has turned the weights into constants of the code."""
    has_weights = any(True for _ in module.parameters()) or any(True for _ in module.buffers())
    return not has_weights and not hasattr(module, "training")


def _frozen_dtype(module: Any) -> torch.dtype | None:
    """The precision of the first weight among the constants."""
    for graph in _graphs(module):
        for node in graph.findAllNodes("prim::Constant"):
            if node.hasAttribute("value") and node.kindOf("value") == "t":
                tensor: torch.Tensor = node.t("value")
                if tensor.is_floating_point():
                    return tensor.dtype
    return None


def adapt(module: Any, device: torch.device, dtype: torch.dtype | None) -> None:
    """Sets the device of tensors that the code makes, and in a frozen file the dtype of its weights.

    Tracing on a GPU writes that GPU into the code, beside the weights that can be moved.
    """
    for graph in _graphs(module):
        for node in graph.findAllNodes("prim::Constant"):
            kind = node.kindOf("value") if node.hasAttribute("value") else ""
            if kind == "s" and str(node.output().type()) == "Device":
                node.s_("value", str(device))
            elif kind == "t":
                tensor = node.t("value")
                to = dtype if tensor.is_floating_point() else None
                node.t_("value", tensor.to(device=device, dtype=to))


def _graphs(module: Any) -> Iterator[Any]:
    """The graphs of all methods of all submodules."""
    for sub in module.modules():
        for name in sub._c._method_names() if isinstance(sub, torch.jit.ScriptModule) else ():
            yield sub._c._get_method(name).graph


def _explain(path: Path, text: str) -> InputError:
    first = next((line.strip() for line in text.splitlines() if line.strip()), "unknown error")
    if "Unknown builtin op" in text:
        op = text.split("Unknown builtin op:", 1)[-1].split(".", 1)[0].strip()
        return InputError(
            f"{path}: needs the operator {op}, which is not registered in this process",
            hint="operators of torchvision or of own extensions are not part of the file; "
            "export the network without them",
        )
    if "required keyword attribute 'value'" in text or "_fused_bn" in text:
        return InputError(
            f"{path}: was written after torch.jit.optimize_for_inference, and cannot be loaded back",
            hint="save the scripted or traced module before optimising it; BatchNorm is folded "
            "away in the optimised one",
        )
    return InputError(
        f"{path}: cannot be loaded as TorchScript ({first[:160]})",
        hint="damaged or cut off? Written by a much newer PyTorch?",
    )
