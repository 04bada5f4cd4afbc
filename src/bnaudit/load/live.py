"""A network that lives in this Python process."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnaudit.errors import InputError
from bnaudit.load.arguments import anything, by_signature, nested
from bnaudit.load.batchnorms import defined_batchnorms
from bnaudit.load.model import Argument, InputSpec, LoadedModel
from bnaudit.tap.exported import graph_calls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_TEXTS = ("str", "Optional[str]", "str | None")
_PLAIN = frozenset({"int", "float", "bool", "str"})
"""Annotations of arguments that no data gives."""


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
    notes: tuple[str, ...] = ()
    if isinstance(getattr(module, "_orig_mod", None), nn.Module):
        module = module._orig_mod  # type: ignore[assignment]  # torch.compile's wrapper
        notes = ("torch.compile's wrapper was taken off: compiled code hides its layers",)
    if isinstance(module, torch.jit.ScriptModule):
        from bnaudit.load.torchscript import describe

        return replace(describe(module, "the model"), format="module", notes=notes)
    parameters = list(inspect.signature(module.forward).parameters.values())
    variable = [p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL]
    named = [p for p in parameters if p.kind not in _VARIABLE]
    inputs = _inputs(named, variable)
    taken = {spec.name for spec in inputs}
    further = [InputSpec(p.name) for p in named if p.name not in taken and not _is_plain(p)]
    positional = [p.name for p in named if p.kind in _POSITIONAL] + variable
    layers = defined_batchnorms(module)
    if not layers and graph_calls(module):  # of an exported program: no BatchNorm modules inside
        from bnaudit.load.exported_graph import batchnorm_calls

        layers = batchnorm_calls(module)
    return LoadedModel(
        module=module,
        format="module",
        inputs=inputs,
        further=tuple(further),
        open_ended=any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters),
        groups={p.name: False for p in named},
        arguments=tuple(_argument(p) for p in named),
        arrange=partial(_arrange, positional),
        batchnorms=layers,
        notes=notes,
    )


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _inputs(named: Sequence[inspect.Parameter], variable: list[str]) -> tuple[InputSpec, ...]:
    """The required arguments, else the first of the optional ones, else the first of `*inputs`.

    A wrapper (DataParallel, torch.compile) passes `*inputs` on.
    """
    tensors = [p for p in named if not _is_plain(p)]
    required = [p.name for p in tensors if p.default is inspect.Parameter.empty]
    if required:
        return tuple(InputSpec(name) for name in required)
    optional = [p.name for p in tensors if p.kind in _POSITIONAL] + variable
    return tuple(InputSpec(name, required=False) for name in optional[:1])


def _annotation(parameter: inspect.Parameter) -> str:
    found = parameter.annotation
    if found is inspect.Parameter.empty:
        return ""
    if isinstance(found, str):
        return found
    return found.__name__ if inspect.isclass(found) else str(found).removeprefix("typing.")


def _is_plain(parameter: inspect.Parameter) -> bool:
    return _annotation(parameter).removesuffix(" | None") in _PLAIN


def _argument(parameter: inspect.Parameter) -> Argument:
    annotation = _annotation(parameter)
    required = _is_plain(parameter) and parameter.default is inspect.Parameter.empty
    return Argument(
        parameter.name, annotation or "any type", required, anything, annotation in _TEXTS
    )


def _arrange(
    positional: Sequence[str], given: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    groups = {name.partition(".")[0] for name in given if "." in name}
    return by_signature(positional, nested(given, groups))
