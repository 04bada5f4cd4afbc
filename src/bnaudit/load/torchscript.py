"""TorchScript files, scripted or traced, whatever training flag is baked in."""

from __future__ import annotations

import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.errors import InputError
from bnaudit.load.batchnorms import defined_batchnorms
from bnaudit.load.model import BatchNormDef, InputSpec, LoadedModel

if TYPE_CHECKING:
    from pathlib import Path

_COPY_AGAIN = "copy or download it again and compare the size"


def load_torchscript(path: Path) -> LoadedModel:
    """Loads a file that `torch.jit.save` wrote, on the CPU.

    Args:
        path: the file; its kind has been established by `sniff`.

    Raises:
        InputError: it is damaged, needs operators that this process does not have, or has no
            `forward` that takes tensors.
    """
    # Compiled once under the profiling executor, a module would bypass the tap from its second
    # differentiated run on.
    torch._C._jit_set_profiling_mode(False)
    _check_sums(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript's deprecation is not the user's concern
        try:
            module: Any = torch.jit.load(str(path), map_location="cpu")
        except Exception as error:  # the parser of damaged code and pickles fails in many ways
            raise _explain(path, str(error)) from error
    return LoadedModel(
        module=module,
        format="torchscript",
        inputs=_inputs(path, module),
        batchnorms=defined_batchnorms(module) or _inlined_batchnorms(module),
        reload=lambda: load_torchscript(path),
    )


def _check_sums(path: Path) -> None:
    """PyTorch leaves the checksums of its files unread: weights with a wrong bit load without a word."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile fails on damaged files in ways of its own
        raise InputError(f"{path}: a damaged or cut-off file", hint=_COPY_AGAIN) from error
    if damaged is not None:
        raise InputError(
            f"{path}: damaged: the checksum of {damaged} inside it is wrong", hint=_COPY_AGAIN
        )


def _inlined_batchnorms(module: Any) -> tuple[BatchNormDef, ...]:
    """BatchNorm calls of a file without such modules: functional ones, or a frozen graph."""
    nodes = list(module.inlined_graph.findAllNodes("aten::batch_norm"))
    return tuple(
        BatchNormDef(f"batch_norm_{i + 1}", None, "aten::batch_norm in the inlined graph")
        for i in range(len(nodes))
    )


def _inputs(path: Path, module: Any) -> tuple[InputSpec, ...]:
    """The arguments of `forward`; TorchScript files record names and types, but no shapes."""
    try:
        schema = module.forward.schema
    except (AttributeError, RuntimeError) as error:
        raise InputError(
            f"{path}: the TorchScript module has no forward method",
            hint="save the module whose forward runs the network",
        ) from error
    specs: list[InputSpec] = []
    for argument in schema.arguments[1:]:
        if argument.has_default_value():
            continue
        if str(argument.type) not in ("Tensor", "Optional[Tensor]"):
            raise InputError(
                f"{path}: the input {argument.name!r} is of type {argument.type}, not a tensor",
                hint="wrap the model in a module that takes tensors only, and save that",
            )
        specs.append(InputSpec(argument.name))
    return tuple(specs)


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
