"""The arguments of a TorchScript module's `forward`, sorted by who gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from bnaudit.errors import InputError
from bnaudit.load.arguments import by_signature, nested
from bnaudit.load.model import Argument, InputSpec
from bnaudit.load.script_types import (
    convert,
    convertible,
    is_tensor,
    is_tuple,
    takes_text,
    tensors_in,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True)
class _Sorted:
    inputs: list[InputSpec] = field(default_factory=list)
    further: list[InputSpec] = field(default_factory=list)
    groups: dict[str, bool] = field(default_factory=dict)
    tuples: list[str] = field(default_factory=list)
    arguments: list[Argument] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ScriptSignature:
    """See the fields of the same names of `LoadedModel`; `tuples` are groups that take no list."""

    inputs: tuple[InputSpec, ...]
    further: tuple[InputSpec, ...]
    groups: Mapping[str, bool]
    tuples: tuple[str, ...]
    arguments: tuple[Argument, ...]
    positional: tuple[str, ...]

    def arrange(self, given: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Inputs and values by name into a call."""
        whole = nested(given, self.groups)
        for name in self.tuples:
            if isinstance(whole.get(name), list):
                whole[name] = tuple(whole[name])
        return by_signature(self.positional, whole)


def read_signature(module: Any, subject: str) -> ScriptSignature:
    """The arguments of `forward`; TorchScript records names and types, but no shapes.

    Args:
        module: the scripted or traced module.
        subject: what errors call it.

    Raises:
        InputError: there is no forward method, or a required argument can be given in no way.
    """
    try:
        arguments = list(module.forward.schema.arguments)[1:]
    except (AttributeError, RuntimeError) as error:
        raise InputError(
            f"{subject}: the TorchScript module has no forward method",
            hint="save the module whose forward runs the network",
        ) from error
    found = _Sorted()
    for argument in arguments:
        name, type_, optional = str(argument.name), argument.type, argument.has_default_value()
        count = tensors_in(type_)
        if is_tensor(type_):
            (found.further if optional else found.inputs).append(InputSpec(name))
        elif count is not None:
            found.groups[name] = not optional and count == 0
            if is_tuple(type_):
                found.tuples.append(name)
            if not optional:
                found.inputs += [InputSpec(f"{name}.{i}") for i in range(count)]
        written = str(type_).replace("__torch__.", "")
        if convertible(type_):
            required = not optional and not is_tensor(type_) and count is None
            to_type = partial(convert, type_=type_)
            found.arguments.append(Argument(name, written, required, to_type, takes_text(type_)))
        elif not optional and count is None:
            raise InputError(
                f"{subject}: the input {name!r} is of type {written}, which can be given neither as data "
                "nor with --input",
                hint="wrap the model in a module that takes tensors, numbers and texts, and save that",
            )
    names = tuple(str(a.name) for a in arguments)
    return ScriptSignature(
        tuple(found.inputs),
        tuple(found.further),
        found.groups,
        tuple(found.tuples),
        tuple(found.arguments),
        names,
    )
