"""The inputs of an exported program: tensors and constants in the leaves of nested arguments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree

from bnaudit.load.model import Argument, InputSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class ExportedSignature:
    """See the fields of the same names of `LoadedModel`.

    Attributes:
        leaves: in order, the name of an input, or the constant that the program was exported with.
        spec: how the leaves are nested.
    """

    inputs: tuple[InputSpec, ...]
    arguments: tuple[Argument, ...]
    example: Mapping[str, Tensor] | None
    static_batch: int | None
    leaves: tuple[tuple[str, Any], ...]
    spec: Any

    def arrange(self, given: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Leaves by name into nested arguments."""
        values = [given.get(name, constant) for name, constant in self.leaves]
        args, kwargs = _pytree.tree_unflatten(values, self.spec)
        return list(args), dict(kwargs)


def read_signature(program: Any) -> ExportedSignature:
    """The user's inputs, without the parameters that the graph takes as inputs too."""
    spec = program.call_spec.in_spec
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    own = len(program.graph_signature.user_inputs)
    names = list(values)[len(values) - own :]
    saved = _pytree.tree_leaves(program.example_inputs)
    # What stands for each leaf where nothing is given: what the program was exported with.
    defaults = saved if len(saved) == len(names) else [values[name] for name in names]
    fixed = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in defaults]
    leaves = tuple(zip(names, fixed, strict=True))
    tensors = {name: values[name] for name in names if isinstance(values[name], torch.Tensor)}
    inputs = tuple(
        InputSpec(
            n,
            tuple(d if isinstance(d, int) else str(d) for d in t.shape),
            str(t.dtype).removeprefix("torch."),
        )
        for n, t in tensors.items()
    )
    constants = tuple(_fixed(name, values[name]) for name in names if name not in tensors)
    example = _example(program, names, tensors)
    first = next((spec.shape[0] for spec in inputs if spec.shape), None)
    batch = first if isinstance(first, int) else None
    return ExportedSignature(inputs, constants, example, batch, leaves, spec)


def _fixed(name: str, value: Any) -> Argument:
    """An argument that is part of the program: it cannot be anything else, unless it is a free size."""
    if isinstance(value, torch.SymInt):
        return Argument(name, "int", False, _whole)
    return Argument(name, f"{value!r}, as exported", False, partial(_as_exported, wanted=value))


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r}")
    return value


def _as_exported(value: Any, wanted: Any) -> Any:
    if value != wanted or type(value) is not type(wanted):
        raise ValueError(f"{value!r}")
    return value


def _example(
    program: Any, names: list[str], tensors: Mapping[str, Tensor]
) -> Mapping[str, Tensor] | None:
    """The inputs that the program was exported with, on the CPU; None where the file has none."""
    if program.example_inputs is None:
        return None
    leaves = _pytree.tree_leaves(program.example_inputs)
    if len(leaves) != len(names):
        return None
    found = {n: v for n, v in zip(names, leaves, strict=True) if isinstance(v, torch.Tensor)}
    if found.keys() != tensors.keys() or any(t.is_meta for t in found.values()):
        return None
    return {name: t.detach().cpu() for name, t in found.items()}
