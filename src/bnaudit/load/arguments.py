"""Arguments of a model that are no sample data: numbers, switches, texts, lists, by name (`--input`)."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.errors import UsageError
from bnaudit.load.model import Argument
from bnaudit.values import Typed, parse

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from bnaudit.load.model import InputSpec, LoadedModel


def anything(value: Any) -> Any:
    """The conversion of an argument without a declared type."""
    return value


def number_tensor(value: Any, dtype: str | None = None) -> Any:
    """Numbers or lists of numbers for an argument that takes a tensor.

    Raises:
        ValueError: they are none.
    """
    try:
        return torch.tensor(value, dtype=None if dtype is None else getattr(torch, dtype))
    except (TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{value!r} is no tensor") from error


def by_signature(
    positional: Sequence[str], given: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments by position up to the first that is left out, by name from there on."""
    by_name, by_position = dict(given), []
    for name in positional:
        if name not in by_name:
            break
        by_position.append(by_name.pop(name))
    return by_position, by_name


def nested(given: Mapping[str, Any], groups: Collection[str]) -> dict[str, Any]:
    """`batch.image` and `batch.mask` into one mapping `batch`; `xs.0` and `xs.1` into a list."""
    whole: dict[str, Any] = {}
    members: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        group, _, member = name.partition(".")
        if member and group in groups:
            members.setdefault(group, {})[member] = value
        else:
            whole[name] = value
    return whole | {group: _list_or_mapping(values) for group, values in members.items()}


def _list_or_mapping(members: dict[str, Any]) -> Any:
    values = nested(members, {name.partition(".")[0] for name in members})
    numbered = [str(i) for i in range(len(values))]
    return [values[n] for n in numbered] if set(values) == set(numbered) else values


def with_values(model: LoadedModel, values: Mapping[str, Any]) -> LoadedModel:
    """The model with arguments set; inputs that are set need no data any more.

    Args:
        model: the loaded model.
        values: by name of the argument; `Typed` texts are read as YAML where no text is wanted.

    Raises:
        UsageError: there is no such argument, the value does not fit it, or a required one that is
            no tensor is missing.
    """
    known = {a.name: a for a in model.arguments}
    for spec in (*model.inputs, *model.further):
        known.setdefault(spec.name, _of_input(spec))
    bound: dict[str, Any] = {}
    for name, value in values.items():
        argument = known.get(name)
        if argument is None and model.open_ended:
            argument = Argument(name, "any", False, anything)
        if argument is None:
            close = get_close_matches(name, known, 1)
            raise UsageError(
                f"--input {name}: the model has no such argument"
                + (f", did you mean {close[0]!r}?" if close else ""),
                hint="it has: " + ", ".join(f"{a.name} ({a.type})" for a in known.values()),
            )
        bound[name] = _converted(argument, value)
    needed = [a for a in model.arguments if a.required and a.name not in bound]
    for argument in needed:
        if not any(s.name == argument.name for s in model.inputs):
            raise UsageError(
                f"the model needs a value for its argument {argument.name!r} ({argument.type})",
                hint=f"give it with --input {argument.name}=VALUE",
            )
    return replace(
        model,
        inputs=tuple(s for s in model.inputs if s.name not in bound),
        further=tuple(s for s in model.further if s.name not in bound),
        values={**model.values, **bound},
    )


def _of_input(spec: InputSpec) -> Argument:
    def convert(value: Any) -> Any:
        tensor = number_tensor(value, spec.dtype)
        declared = spec.shape if spec.shape is not None else tuple(tensor.shape)
        fits = len(tensor.shape) == len(declared) and all(
            not isinstance(d, int) or d == h for h, d in zip(tensor.shape, declared, strict=True)
        )
        if not fits:
            raise ValueError(f"of shape {list(tensor.shape)}")
        return tensor

    shape = (
        ""
        if spec.shape is None
        else f" [{', '.join('?' if d is None else str(d) for d in spec.shape)}]"
    )
    return Argument(spec.name, f"{spec.dtype or 'any'} tensor{shape}", False, convert)


def _converted(argument: Argument, value: Any) -> Any:
    if isinstance(value, Typed):
        value = str(value) if argument.text else parse(value)
    try:
        return argument.convert(value)
    except ValueError as error:
        raise UsageError(
            f"--input {argument.name}={value}: the argument takes {argument.type}",
            hint="write numbers, true, false, none, texts, and lists like [1, 2]",
        ) from error
