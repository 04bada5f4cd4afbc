"""Options that say how a model is loaded and called, and what they are turned into."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bnaudit.errors import UsageError
from bnaudit.values import Typed, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Function = TypeVar("Function", bound=Callable[..., Any])


class _PairType(click.ParamType[tuple[str, Typed]]):
    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Typed]:
        """`scale=0.5` -> ("scale", "0.5"); the first = separates."""
        name, separator, text = str(value).partition("=")
        if not separator or not name.strip():
            self.fail(f"{value!r} has no name; write it like scale=0.5", param, ctx)
        return name.strip(), Typed(text)


PAIR = _PairType()

_OPTIONS = (
    click.option(
        "--trust",
        is_flag=True,
        help="Load a torch.export file (.pt2) although it can run code of whoever wrote it.",
    ),
    click.option(
        "--weights",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Weights for a factory's network: a checkpoint, safetensors, TorchScript or ONNX file.",
    ),
    click.option(
        "--arg",
        "kwargs",
        type=PAIR,
        multiple=True,
        help="Argument of a factory: numbers, true, false, none, texts, lists. Repeatable.",
    ),
    click.option(
        "--strict/--no-strict",
        default=True,
        help="Whether the weights have to name every tensor of the network. [default: strict]",
    ),
    click.option(
        "--input",
        "inputs",
        type=PAIR,
        multiple=True,
        help="Value of an argument of the model that is no data (scale=0.5, flag=true). Repeatable.",
    ),
    click.option(
        "--verify",
        is_flag=True,
        help="Compare an ONNX model's outputs as converted with onnxruntime's (or onnx's own).",
    ),
)


def model_options(function: Function) -> Function:
    """Adds the options of this file to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def model_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of `AuditOptions` by name.

    Raises:
        UsageError: a name is given twice, or a value cannot be read.
    """
    return {
        "trust": given["trust"],
        "weights": given["weights"],
        "kwargs": {k: parse(v) for k, v in _once("--arg", given["kwargs"]).items()},
        "strict": given["strict"],
        "inputs": _once("--input", given["inputs"]),
        "verify": given["verify"],
    }


def _once(option: str, pairs: Sequence[tuple[str, Typed]]) -> dict[str, Typed]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{option} is given twice for {name!r}")
    return dict(pairs)
