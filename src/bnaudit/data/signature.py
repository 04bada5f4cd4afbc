"""Matching arrays to the model's inputs, strictly: a silent mismatch is a wrong number later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.errors import DataError
from bnaudit.load.model import InputSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from bnaudit.load.model import LoadedModel

_MORE = 6

LABELS = ("labels", "label", "targets", "target", "y")
"""What labels are called, taken without being asked where no input of the model has the name."""


def describe(spec: InputSpec) -> str:
    """`input float32 [N, 3, 224, 224]`, with ? for what the file does not say."""
    if spec.shape is None:
        return f"{spec.name} ({spec.dtype})" if spec.dtype else spec.name
    dims = ", ".join("?" if d is None else str(d) for d in spec.shape)
    return f"{spec.name} {spec.dtype or '?'} [{dims}]"


def wanted(model: LoadedModel) -> str:
    """The hint of every data error: all that the model takes."""
    parts = [describe(s) for s in model.inputs]
    more = [s.name for s in model.further]
    text = "the model takes: " + ("; ".join(parts) or "nothing that it needs")
    if more:
        text += f"; and if given: {', '.join(more[:_MORE])}" + (", ..." if more[_MORE:] else "")
    needed = [f"{g}.0, {g}.1, ... or {g}.KEY" for g, required in model.groups.items() if required]
    return text + ("; several tensors named " + ", ".join(needed) if needed else "")


def labels_key(arrays: Iterable[str], model: LoadedModel) -> str | None:
    """The array that is the labels by its name, if there is one."""
    inputs = {s.name for s in model.inputs}
    taken = inputs | {s.name for s in model.further if s.name != LABELS[0]}
    return next((n for n in LABELS if n in arrays and n not in taken), None)


def named(
    arrays: dict[str, Tensor], model: LoadedModel, key: str | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The arrays by input name: the only array belongs to the only input, whatever either is called.

    A scripted nn.Sequential calls its input `input`, an exporter `onnx::Conv_0`, and nobody chose it.

    Args:
        arrays: by the names that they came with.
        model: what takes them.
        key: of the labels among them.

    Returns:
        The arrays, and a note where one was given another name.
    """
    inputs = [s.name for s in model.inputs]
    strange = [n for n in arrays if n != key and n not in model.values and not model.accepts(n)]
    several = len(inputs) != 1 or len(strange) != 1 or inputs[0] in arrays
    if several or any(s.dtype is None for s in model.further) or any(model.groups.values()):
        return arrays, ()
    note = f"the array {strange[0]!r} was taken for {inputs[0]!r}, the model's only input"
    return {inputs[0] if n == strange[0] else n: a for n, a in arrays.items()}, (note,)


def match(
    arrays: Mapping[str, Tensor], model: LoadedModel, *, source: str, ignore: Sequence[str] = ()
) -> dict[str, Tensor]:
    """The arrays in input order, checked for name, rank, dtype and static dimensions.

    Args:
        arrays: name -> array.
        model: gives the inputs, and whether its exported batch size binds.
        source: named in errors.
        ignore: names that may stand beside the inputs (the labels).

    Raises:
        DataError: names the first mismatch; the hint lists what the model takes.
    """
    hint = wanted(model)
    _require(arrays, model, source, hint)
    unknown = [n for n in arrays if n not in ignore and not model.accepts(n)]
    if unknown and unknown[0] in model.values:
        raise DataError(
            f"{source}: array {unknown[0]!r} is set with --input as well", hint="leave one out"
        )
    if unknown:
        raise DataError(f"{source}: array {unknown[0]!r} is not an input of the model", hint=hint)
    specs = {s.name: s for s in (*model.inputs, *model.further)}
    order = [n for n in specs if n in arrays] + [n for n in arrays if n not in specs]
    inputs = {s.name for s in model.inputs}  # one of them may be the labels as well
    return {
        name: _checked(arrays[name], specs.get(name) or InputSpec(name), model, f"{source}: {name}")
        for name in order
        if name in inputs or name not in ignore
    }


def _require(arrays: Mapping[str, Tensor], model: LoadedModel, source: str, hint: str) -> None:
    """Every input that the model cannot do without is there, itself or as `name.member`."""
    groups = {name.partition(".")[0] for name in arrays if "." in name}
    required = [s.name for s in model.inputs if s.required]
    required += [name for name, needed in model.groups.items() if needed]
    has = ", ".join(arrays) or "nothing"
    for name in required:
        grouped = name in groups and name in model.groups
        if name not in arrays and name not in model.values and not grouped:
            raise DataError(
                f"{source}: no array {name!r} (it has: {has})",
                hint=f"{hint}; rename the array, or give it in a file of its own: --data {name}=PATH",
            )
    if model.inputs and not required and not any(model.accepts(n) for n in arrays):
        raise DataError(f"{source}: holds no input of the model (it has: {has})", hint=hint)


def _checked(array: Tensor, spec: InputSpec, model: LoadedModel, subject: str) -> Tensor:
    hint = wanted(model)
    if spec.dtype is not None:
        array = _cast(array, spec.dtype, subject, hint)
    if spec.shape is not None:
        have = list(array.shape)
        if len(have) != len(spec.shape):
            raise DataError(
                f"{subject}: has {len(have)} dimensions {have}, but the model takes {len(spec.shape)}",
                hint=hint,
            )
        # The rows, axis 0, are cut to the batch size later.
        for axis, declared in enumerate(spec.shape):
            if axis > 0 and isinstance(declared, int) and have[axis] != declared:
                raise DataError(
                    f"{subject}: dimension {axis} is {have[axis]} in {have}, "
                    f"but the model takes {declared}",
                    hint=hint,
                )
    if array.is_floating_point() and not bool(torch.isfinite(array).all()):
        raise DataError(
            f"{subject}: holds NaN or infinite values",
            hint="clean the samples: gradients need finite inputs",
        )
    return array


def _cast(array: Tensor, dtype: str, subject: str, hint: str) -> Tensor:
    target = getattr(torch, dtype, None)
    if not isinstance(target, torch.dtype):
        raise DataError(
            f"{subject}: the model takes {dtype}, which PyTorch does not have", hint=hint
        )
    if family(array.dtype) == family(target):
        # Floating arrays keep their precision: the run casts them to its own dtype.
        if target.is_floating_point:
            return array
        cast = array.to(target)
        if torch.equal(cast.to(torch.int64), array.to(torch.int64)):
            return cast
        raise DataError(f"{subject}: holds values that do not fit into {dtype}", hint=hint)
    have = str(array.dtype).removeprefix("torch.")
    if target.is_floating_point and family(array.dtype) == "integer":
        hint = f"convert it as in training (scale, normalise); {hint}"
    raise DataError(f"{subject}: is {have}, but the model takes {dtype}", hint=hint)


def family(dtype: torch.dtype) -> str:
    """What a dtype may not silently be turned out of: "floating", "integer", "bool", "complex"."""
    if dtype == torch.bool:
        return "bool"
    if dtype.is_complex:
        return "complex"
    return "floating" if dtype.is_floating_point else "integer"
