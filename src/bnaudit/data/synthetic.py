"""Batches of the model's own: the one that a file brings along, or seeded ones from its input signature.

torch.export keeps the inputs that a program was exported with; authors export with real samples, with random
numbers or with zeros, and the file does not say which. Synthetic batches show how the layers treat gradients
at all; they are not what the model was trained on. So the report labels both, and nothing that compares
with training data is judged on them.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

from bnaudit.data.batch import Batch, Batches, require_size
from bnaudit.data.room import free_memory
from bnaudit.data.signature import describe
from bnaudit.errors import UsageError
from bnaudit.load.model import InputSpec
from bnaudit.records.run import DataInfo
from bnaudit.values import MATCHED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bnaudit.load.model import LoadedModel
    from bnaudit.options import AuditOptions

BATCH_SIZE = 8


BATCHES = 4


MATCHED_SIZE = 32
"""Rows in a matched batch, as in one of data. At 8 rows a layer of one value a row has 8 values a channel, of
which BatchNorm's backward removes two."""

_SMALL = 1 << 15
"""Values in a row, from which on 8 rows are enough: an image of 3x224x224 has 150 thousand."""


_IMAGE_SIDE = 224


ASSUMED = " assumed"
"""How a note ends that says which dimension was chosen for want of a better one."""


FLOATING = "standard normal"
INTEGERS = "uniform {0, 1} (integer and boolean inputs)"


def synthetic_batches(
    model: LoadedModel,
    shapes: Mapping[str, tuple[int, ...]],
    batch_size: int | None,
    batches: int | None,
    seed: int,
    static_batch: int | None,
    *,
    matched: bool = False,
) -> tuple[Batches, tuple[str, ...]]:
    """Draws the batches on the CPU in float64, so that every format and dtype sees the same values.

    Args:
        model: gives the input signature.
        shapes: full shapes by input name, batch included; they come before the signature.
        batch_size: rows a batch; default that of `shapes`, the model's fixed one, or 8.
        batches: how many; default 4.
        seed: of the generator.
        static_batch: the size that the model cannot leave, if it has one.
        matched: whether they are what `bnaudit.matching` begins with.

    Returns:
        The batches, and one note for each dimension that had to be assumed.

    Raises:
        UsageError: a shape is not known, or contradicts the batch size.
    """
    size = _batch_size(shapes, batch_size, static_batch)
    notes: list[str] = []
    specs = _drawn(model, shapes)
    full = [_shape(spec, shapes.get(spec.name), size, model, notes) for spec in specs]
    if matched and not (shapes or batch_size or static_batch) and _small(full):
        size = MATCHED_SIZE
        full = [_shape(spec, None, size, model, []) for spec in specs]
    generator = torch.Generator().manual_seed(seed)
    count, types = batches or BATCHES, [_type(spec) for spec in specs]
    too_large = UsageError(
        f"no memory for {count} synthetic batches of {', '.join('x'.join(map(str, f)) for f in full)}",
        hint="pass a smaller --input-shape, --batch-size or --batches",
    )
    if 8 * count * sum(map(prod, full)) > free_memory(torch.device("cpu")):
        raise too_large
    try:
        items = [_draw(types, full, generator) for _ in range(count)]
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise too_large from error
    info = DataInfo(
        "matched" if matched else "synthetic", (), count, size, None, _distribution(items[0].inputs)
    )
    return Batches(tuple(items), info, tuple(s.name for s in specs)), tuple(notes)


def _small(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether a row of these inputs has few values."""
    return sum(map(prod, shapes)) <= BATCH_SIZE * _SMALL


def _distribution(inputs: tuple[Tensor, ...]) -> str:
    """What the inputs were drawn from, as far as there are such."""
    floating = {t.is_floating_point() for t in inputs}
    both = f"{FLOATING} (floating inputs), {INTEGERS}"
    return both if len(floating) > 1 else FLOATING if True in floating else INTEGERS


def _draw(
    types: Sequence[torch.dtype], shapes: Sequence[tuple[int, ...]], generator: torch.Generator
) -> Batch:
    drawn: list[Tensor] = []
    for dtype, shape in zip(types, shapes, strict=True):
        if dtype.is_floating_point:
            drawn.append(torch.randn(shape, generator=generator, dtype=torch.float64))
        else:
            drawn.append(torch.randint(0, 2, shape, generator=generator).to(dtype))
    return Batch(tuple(drawn))


def _type(spec: InputSpec) -> torch.dtype:
    found = getattr(torch, spec.dtype or "float32", None)
    if not isinstance(found, torch.dtype):
        raise UsageError(
            f"the input {describe(spec)} is of a type that PyTorch does not have",
            hint="export the model with inputs of another type",
        )
    return found


def _drawn(model: LoadedModel, shapes: Mapping[str, tuple[int, ...]]) -> list[InputSpec]:
    """The inputs, those that may be left out only where a shape is given, and members of groups."""
    given = [s for s in model.further if s.name in shapes]
    specs = [s for s in model.inputs if not _is_group(s.name, shapes)] + given
    listed = {s.name for s in specs}
    specs += [InputSpec(name) for name in shapes if name not in listed]
    optional = [s for s in specs if not s.required and s.name not in shapes]
    if optional and len(optional) < len(specs):
        specs = [s for s in specs if s not in optional]
    for name, required in model.groups.items():
        if required and name not in model.values and not _is_group(name, shapes):
            raise UsageError(
                f"the input {name!r} takes several tensors, and the model does not say which",
                hint=f"pass --data with arrays named {name}.0, {name}.1 or {name}.KEY, or their "
                f"shapes, for example --input-shape {name}.0:8x4",
            )
    return specs


def _is_group(name: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return any(other.startswith(f"{name}.") for other in shapes)


def _batch_size(
    shapes: Mapping[str, tuple[int, ...]], asked: int | None, static_batch: int | None
) -> int:
    firsts = {shape[0] for shape in shapes.values() if shape}
    if len(firsts) > 1 or (asked is not None and firsts - {asked}):
        raise UsageError(
            f"--input-shape asks for batches of {', '.join(map(str, sorted(firsts)))}"
            + (f", --batch-size for {asked}" if asked else ""),
            hint="the first number of an --input-shape is the batch size",
        )
    size = asked or next(iter(firsts), None) or static_batch or BATCH_SIZE
    require_size(size, static_batch)
    return size


def _shape(
    spec: InputSpec,
    given: tuple[int, ...] | None,
    size: int,
    model: LoadedModel,
    notes: list[str],
) -> tuple[int, ...]:
    if given is not None:
        known = given if spec.shape is None else spec.shape
        free = (
            not isinstance(d, int) or d == g for d, g in zip(known[1:], given[1:], strict=False)
        )
        if len(given) == len(known) and all(free):
            return given
        raise UsageError(
            f"--input-shape {'x'.join(map(str, given))} does not fit the input {describe(spec)}"
        )
    if spec.shape is None:
        raise UsageError(
            f"the shape of input {spec.name!r} is not in the model, so no batch can be made",
            hint=_shape_hint(spec, model),
        )
    dims: list[int] = []
    for axis, declared in enumerate(spec.shape):
        if axis == 0:
            # Beside a fixed batch another fixed size is no batch (a mask of the features).
            fixed = isinstance(declared, int) and model.static_batch not in {None, declared}
            dims.append(declared if fixed and isinstance(declared, int) else size)
        elif isinstance(declared, int):
            dims.append(declared)
        elif len(spec.shape) == 4 and axis >= 2:
            notes.append(f"input {spec.name!r}: dimension {axis} is free, {_IMAGE_SIDE}{ASSUMED}")
            dims.append(_IMAGE_SIDE)
        else:
            raise UsageError(
                f"dimension {axis} of the input {describe(spec)} is free, so no batch can be made",
                hint=f"pass --data, or --input-shape {spec.name}:{size}x...",
            )
    return tuple(dims)


def _shape_hint(spec: InputSpec, model: LoadedModel) -> str:
    """A guess from the first weight: it knows the channels, but not the spatial size."""
    weight = next((p for p in model.module.parameters() if p.dim() >= 2), None)
    example = "8x3x224x224"
    if weight is not None:
        rest = {2: "", 3: "x128", 4: "x224x224", 5: "x16x64x64"}.get(weight.dim(), "")
        example = f"8x{weight.shape[1]}{rest}"
    return f"pass --data, or the shape, for example --input-shape {spec.name}:{example}"


def is_matched(data: object) -> bool:
    """Whether the data are to be made from the model's own statistics.

    Raises:
        UsageError: the word stands beside other data.
    """
    words = list(data) if isinstance(data, (list, tuple)) else [data]
    found = [isinstance(word, str) and word == MATCHED for word in words]
    if any(found) and len(found) > 1:
        raise UsageError(
            "--data matched beside other data",
            hint="matched batches are made from the model alone; a file of that name is ./matched",
        )
    return any(found)


def brings_its_own(model: LoadedModel, options: AuditOptions) -> bool:
    """Whether the model has a batch of the size and number that the options ask for."""
    if model.example is None or options.input_shapes or options.batches not in {None, 1}:
        return False
    return options.batch_size in {None, _rows(model)}


def example_batches(model: LoadedModel) -> Batches:
    """The one batch, as it was saved.

    Args:
        model: one that brings a batch.
    """
    example = model.example or {}
    arrays = {s.name: example[s.name] for s in model.inputs if s.name in example}
    batch = Batch(tuple(arrays.values()))
    return Batches((batch,), DataInfo("example", (), 1, _rows(model)), tuple(arrays))


def _rows(model: LoadedModel) -> int:
    """The first dimension of the first input that has one."""
    tensors = (model.example or {}).values()
    return next((int(t.shape[0]) for t in tensors if t.dim()), 1)
