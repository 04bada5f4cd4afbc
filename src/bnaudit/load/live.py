"""A network that lives in this Python process."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from bnaudit.errors import InputError
from bnaudit.load.batchnorms import defined_batchnorms
from bnaudit.load.model import InputSpec, LoadedModel


def load_live(module: nn.Module) -> LoadedModel:
    """Wraps a module as it is; it is measured in place and given back unchanged.

    Raises:
        InputError: it is no module, or has no forward method.
    """
    if not isinstance(module, nn.Module):
        raise InputError(
            f"the model is a {type(module).__name__}, neither a path nor a torch.nn.Module",
            hint="of an exported program pass program.module(); wrap a function in a module",
        )
    torch._C._jit_set_profiling_mode(False)
    notes: tuple[str, ...] = ()
    if isinstance(getattr(module, "_orig_mod", None), nn.Module):
        module = module._orig_mod  # type: ignore[assignment]  # torch.compile's wrapper
        notes = ("torch.compile's wrapper was taken off: compiled code hides its layers",)
    return LoadedModel(
        module=module,
        format="module",
        inputs=_inputs(module),
        batchnorms=defined_batchnorms(module),
        notes=notes,
    )


def _inputs(module: nn.Module) -> tuple[InputSpec, ...]:
    """The required positional parameters of `forward`, else the first of its optional ones."""
    names = _parameters(module)
    required = [name for name, optional in names if not optional]
    return tuple(InputSpec(name) for name in required or [name for name, _ in names[:1]])


def _parameters(module: nn.Module) -> list[tuple[str, bool]]:
    """Name of each positional parameter, and whether it may be left out.

    `*inputs` counts as one that may: a wrapper (DataParallel, torch.compile) passes it on.
    """
    if isinstance(module, torch.jit.ScriptModule):
        try:
            forward: Any = module.forward
            return [(a.name, a.has_default_value()) for a in forward.schema.arguments[1:]]
        except (AttributeError, RuntimeError) as error:
            raise InputError(
                "the TorchScript module has no forward method",
                hint="pass the module whose forward runs the network",
            ) from error
    variable = inspect.Parameter.VAR_POSITIONAL
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        variable,
    )
    return [
        (p.name, p.kind == variable or p.default is not inspect.Parameter.empty)
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in positional
    ]
