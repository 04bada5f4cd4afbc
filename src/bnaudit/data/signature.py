"""Matching arrays to the model's inputs, strictly: a silent mismatch is a wrong number later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from bnaudit.data.rows import Rows
from bnaudit.errors import DataError
from bnaudit.load.model import InputSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from bnaudit.load.model import LoadedModel

_MORE = 6

LABELS = ("labels", "label", "label_ids", "targets", "target", "y", "cls")
"""What labels are called, taken without being asked where no input of the model has the name: by people,
Hugging Face's trainer and WebDataset."""


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


Arrays = Mapping[str, Rows]
"""By the names that they came with."""


def named(
    arrays: Arrays, model: LoadedModel, key: str | None, given: Mapping[str, str]
) -> tuple[dict[str, Rows], tuple[str, ...]]:
    """The arrays by input name: the only array belongs to the only input, whatever either is called.

    A scripted nn.Sequential calls its input `input`, an exporter `onnx::Conv_0`, and nobody chose it.

    Args:
        arrays: by the names that they came with.
        model: what takes them.
        key: of the labels among them.
        given: input -> array, as `--map` says it; what it does not name is then left out.

    Returns:
        The arrays, and a note where one was given another name or left out.

    Raises:
        DataError: the mapping names what is not there.
    """
    if given:
        return _mapped(arrays, model, key, given)
    inputs = [s.name for s in model.inputs]
    strange = [n for n in arrays if n != key and n not in model.values and not model.accepts(n)]
    several = len(inputs) != 1 or len(strange) != 1 or inputs[0] in arrays
    if several or any(s.dtype is None for s in model.further) or any(model.groups.values()):
        return dict(arrays), ()
    note = f"the array {strange[0]!r} was taken for {inputs[0]!r}, the model's only input"
    return {inputs[0] if n == strange[0] else n: a for n, a in arrays.items()}, (note,)


def _mapped(
    arrays: Arrays, model: LoadedModel, key: str | None, given: Mapping[str, str]
) -> tuple[dict[str, Rows], tuple[str, ...]]:
    for name, array in given.items():
        if not model.accepts(name):
            raise DataError(f"--map {name}={array}: no input {name!r}", hint=wanted(model))
        if array not in arrays:
            has = ", ".join(map(str, arrays)) or "nothing"
            raise DataError(
                f"--map {name}={array}: no array {array!r} in the data (it has: {has})",
                hint="write --map INPUT=KEY, with a key of the data",
            )
    found = {name: arrays[array] for name, array in given.items()}
    left = []
    for name, rows in arrays.items():
        if name in found or name in given.values():
            continue
        if name == key or model.accepts(name):
            found[name] = rows
        else:
            left.append(name)
    if key is not None:  # labels may be an input as well
        found[key] = arrays[key]
    return found, (f"left out, as --map does not name them: {', '.join(left)}",) if left else ()


def match(
    arrays: Arrays, model: LoadedModel, *, source: str, ignore: Sequence[str] = ()
) -> dict[str, Rows]:
    """The arrays in input order, checked for name, rank, dtype and static dimensions.

    Their values are checked as they are read.

    Args:
        arrays: name -> array.
        model: gives the inputs, and whether its exported batch size binds.
        source: named in errors.
        ignore: names that may stand beside the inputs (the labels).

    Raises:
        DataError: names the first mismatch; the hint lists what the model takes.
    """
    hint = wanted(model)
    unknown = [n for n in arrays if n not in ignore and not model.accepts(n)]
    _require(arrays, model, source, hint, unknown)
    if unknown and unknown[0] in model.values:
        raise DataError(
            f"{source}: array {unknown[0]!r} is set with --input as well", hint="leave one out"
        )
    if unknown:
        labels = "" if ignore else f"; --labels {unknown[0]} where it holds the labels"
        raise DataError(
            f"{source}: array {unknown[0]!r} is not an input of the model",
            hint=f"{hint}; --map INPUT=KEY says which arrays are meant, and leaves others out{labels}",
        )
    specs = {s.name: s for s in (*model.inputs, *model.further)}
    order = [n for n in specs if n in arrays] + [n for n in arrays if n not in specs]
    inputs = {s.name for s in model.inputs}  # one of them may be the labels as well
    return {
        name: _fitted(arrays[name], specs.get(name) or InputSpec(name), f"{source}: {name}", hint)
        for name in order
        if name in inputs or name not in ignore
    }


def _require(
    arrays: Arrays, model: LoadedModel, source: str, hint: str, unknown: Sequence[str]
) -> None:
    """Every input that the model cannot do without is there, itself or as `name.member`."""
    groups = {name.partition(".")[0] for name in arrays if "." in name}
    required = [s.name for s in model.inputs if s.required]
    required += [name for name, needed in model.groups.items() if needed]
    has = ", ".join(arrays) or "nothing"
    for name in required:
        grouped = name in groups and name in model.groups
        if name not in arrays and name not in model.values and not grouped:
            ways = f"--map {name}={unknown[0] if unknown else 'KEY'}"
            raise DataError(
                f"{source}: no array {name!r} (it has: {has})",
                hint=f"{hint}; rename the array, say which one it is ({ways}), or give it in a file "
                f"of its own: --data {name}=PATH",
            )
    if model.inputs and not required and not any(model.accepts(n) for n in arrays):
        raise DataError(f"{source}: holds no input of the model (it has: {has})", hint=hint)


def _fitted(rows: Rows, spec: InputSpec, subject: str, hint: str) -> Rows:
    dtype = None if spec.dtype is None else _required_type(rows, spec.dtype, subject, hint)
    if spec.shape is not None:
        have = list(rows.shape)
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
    return Fitted(rows, dtype, subject, hint)


class Fitted(Rows):
    """Rows of an input, cast and checked as they are read.

    Args:
        rows: of the right rank and kind.
        dtype: what integers are cast to; None leaves the numbers as they are.
        subject: named in errors.
        hint: what the model takes.
    """

    def __init__(self, rows: Rows, dtype: torch.dtype | None, subject: str, hint: str) -> None:
        self.rows, self.subject, self.hint = rows, subject, hint
        self.shape, self.dtype = rows.shape, dtype or rows.dtype

    def take(self, index: Tensor) -> Tensor:
        """See `Rows.take`."""
        return self._checked(self.rows.take(index), index)

    def all(self) -> Tensor:
        """See `Rows.all`."""
        return self._checked(self.rows.all(), None)

    def _checked(self, found: Tensor, index: Tensor | None) -> Tensor:
        if found.dtype != self.dtype:
            cast = found.to(self.dtype)
            if not torch.equal(cast.to(torch.int64), found.to(torch.int64)):
                name = str(self.dtype).removeprefix("torch.")
                raise DataError(
                    f"{self.subject}: holds values that do not fit into {name}", hint=self.hint
                )
            found = cast
        if found.is_floating_point() and not bool((finite := torch.isfinite(found)).all()):
            where = ""
            if found.dim():
                bad = (~finite).reshape(len(found), -1).any(1).nonzero().flatten()
                rows = bad if index is None else index[bad]
                more = f" and {len(bad) - 1} more rows" if len(bad) > 1 else ""
                where = f" (row {int(rows[0])}{more})"
            raise DataError(
                f"{self.subject}: holds NaN or infinite values{where}",
                hint="clean the samples: gradients need finite inputs",
            )
        return found


def _required_type(rows: Rows, dtype: str, subject: str, hint: str) -> torch.dtype | None:
    """What the numbers have to be cast to, if anything."""
    target = getattr(torch, dtype, None)
    if not isinstance(target, torch.dtype):
        raise DataError(
            f"{subject}: the model takes {dtype}, which PyTorch does not have", hint=hint
        )
    if family(rows.dtype) == family(target):
        # Floating arrays keep their precision: the run casts them to its own dtype.
        return None if target.is_floating_point else target
    have = str(rows.dtype).removeprefix("torch.")
    if target.is_floating_point and family(rows.dtype) == "integer":
        hint = f"convert it as in training (scale, normalise); {hint}"
    raise DataError(f"{subject}: is {have}, but the model takes {dtype}", hint=hint)


def family(dtype: torch.dtype) -> str:
    """What a dtype may not silently be turned out of: "floating", "integer", "bool", "complex"."""
    if dtype == torch.bool:
        return "bool"
    if dtype.is_complex:
        return "complex"
    return "floating" if dtype.is_floating_point else "integer"
