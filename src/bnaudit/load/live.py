"""A network that lives in this Python process."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.load.batchnorms import defined_batchnorms
from bnaudit.load.model import InputSpec, LoadedModel

if TYPE_CHECKING:
    from torch import nn


def load_live(module: nn.Module) -> LoadedModel:
    """Wraps a module as it is; it is measured in place and given back unchanged."""
    torch._C._jit_set_profiling_mode(False)
    return LoadedModel(
        module=module,
        format="module",
        inputs=_inputs(module),
        batchnorms=defined_batchnorms(module),
    )


def _inputs(module: nn.Module) -> tuple[InputSpec, ...]:
    """The required positional parameters of `forward`."""
    if isinstance(module, torch.jit.ScriptModule):
        forward: Any = module.forward
        arguments = forward.schema.arguments[1:]
        return tuple(InputSpec(a.name) for a in arguments if not a.has_default_value())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(
        InputSpec(p.name)
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in positional and p.default is inspect.Parameter.empty
    )
