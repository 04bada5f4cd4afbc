"""What user's loaders yield: tensors, tuples, mappings, in batches or sample by sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from bnaudit.data.arrays import by_name, is_array
from bnaudit.data.batch import Batch
from bnaudit.data.rows import Held
from bnaudit.data.signature import labels_key, match, named
from bnaudit.data.targets import is_structured, targets
from bnaudit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from bnaudit.load.model import LoadedModel


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a loader, its arrays by name.

    Attributes:
        arrays: by the names that they came with, the labels among them if they have one.
        key: of the labels among them.
        labels: None without.
        left: names of members that are no numbers.
        given: what the loader yielded; of samples a list.
    """

    arrays: dict[str, Tensor]
    key: str | None
    labels: Any
    left: tuple[str, ...] = ()
    given: Any = None


_OF_CTC = ("targets", "input_lengths", "target_lengths")
"""What the loss of sequences takes beside the outputs."""


def item_of(
    given: Any, model: LoadedModel, asked: str | None, mapping: Mapping[str, str], *, whole: bool
) -> Item:
    """The arrays of what a loader yields.

    Args:
        given: a tensor, (inputs..., labels), ((inputs...), labels), a mapping or a named tuple; of ctc
            (inputs..., targets, input lengths, target lengths) too.
        model: what takes them.
        asked: the key of the labels; of a tuple their place.
        mapping: input -> key or place.
        whole: whether the loss is given the whole item: what else is in it is no mistake then.

    Raises:
        DataError: there are no arrays in it, or not as many as the model takes.
    """
    yielded = given
    given, labels = _parted(given, model, named=bool(mapping) or asked is not None, whole=whole)
    wanted = {*mapping.values(), asked, *(s.name for s in (*model.inputs, *model.further))}
    left: tuple[str, ...] = ()
    if isinstance(given, Mapping):
        key = labels_key([str(k) for k in given], model) if asked is None else asked
        beside = given.get(key) if key is not None and not model.accepts(key) else None
        if beside is not None and is_structured(beside) and not _is_text(beside):
            labels = beside
            given = {k: v for k, v in given.items() if k != key}
        if whole:
            given = {k: v for k, v in given.items() if k in {*wanted, key} or k in model.groups}
        left = tuple(str(k) for k, v in given.items() if k not in wanted and _is_text(v))
        given = {k: v for k, v in given.items() if k not in left}
    arrays = by_name(given, model)
    key = labels_key(arrays, model) if asked is None else asked
    if labels is None and key is not None:
        labels = arrays.get(key)
    return Item(arrays, key if key in arrays else None, labels, left, yielded)


def _parted(given: Any, model: LoadedModel, *, named: bool, whole: bool) -> tuple[Any, Any]:
    """Inputs, and labels where their place tells; the members of a tuple by place, where they are `named`."""
    count, labels = len(model.inputs), None
    if hasattr(given, "_asdict"):
        return given._asdict(), None
    if not isinstance(given, (tuple, list)) or _is_numbers(given):
        return given, None
    if named:
        return {str(place): value for place, value in enumerate(given)}, None
    if len(given) == 2 and _are_inputs(given[0], model):
        given, labels = given
    elif len(given) == count + 1:
        *given, labels = given
    elif whole and len(given) > count:
        given = given[:count]
    elif len(given) == count + len(_OF_CTC):
        given, labels = given[:count], dict(zip(_OF_CTC, given[count:], strict=True))
    return given, None if labels is None else targets(labels, "data: labels")


def _are_inputs(value: Any, model: LoadedModel) -> bool:
    """Whether it is all inputs together, as in ((inputs...), labels)."""
    if isinstance(value, Mapping):
        return True
    inside = isinstance(value, (tuple, list)) and not _is_numbers(value)
    return inside and len(value) == len(model.inputs)


def _is_numbers(value: Any) -> bool:
    """Whether a sequence is an array written as lists."""
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    """Texts, names of files, and nothing: what datasets carry beside the numbers."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "USO"
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return first is None or isinstance(first, (str, bytes))


def is_sample(item: Item, model: LoadedModel) -> bool:
    """Whether it is one sample, without an axis for the batch."""
    shapes = {s.name: s.shape for s in model.inputs}
    inputs = [n for n in item.arrays if n != item.key]
    known = [(shapes.get(n), item.arrays[n]) for n in inputs]
    if len(inputs) == len(shapes) == 1:  # whatever it is called
        known = [(next(iter(shapes.values())), item.arrays[inputs[0]])]
    ranks = [(len(shape), t.dim()) for shape, t in known if shape is not None]
    if ranks:
        return all(have == wanted - 1 for wanted, have in ranks)
    return isinstance(item.labels, torch.Tensor) and not item.labels.dim()


def collated(items: Iterable[Item], size: int) -> Iterator[Item]:
    """Batches of so many samples; the last may be smaller.

    Raises:
        DataError: samples differ in their arrays or shapes.
    """
    group: list[Item] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield _stacked(group)
            group = []
    if group:
        yield _stacked(group)


def _stacked(group: Sequence[Item]) -> Item:
    first = group[0]
    arrays = {}
    for name in first.arrays:
        parts = [item.arrays.get(name) for item in group]
        shapes = {None if p is None else tuple(p.shape) for p in parts}
        if len(shapes) > 1 or None in shapes:
            listing = ", ".join("none" if s is None else str(list(s)) for s in list(shapes)[:3])
            raise DataError(
                f"data: {name}: samples of different shapes ({listing}) are no batch",
                hint="pad, crop or resize them alike, or yield whole batches",
            )
        arrays[name] = torch.stack([p for p in parts if p is not None])
    given = [item.labels for item in group if item.labels is not None]
    if not all(isinstance(t, torch.Tensor) for t in given):
        return Item(arrays, first.key, given, first.left, [item.given for item in group])
    if given and (len(given) < len(group) or len({tuple(t.shape) for t in given}) > 1):
        raise DataError(
            "data: labels: some samples have none, or of other shapes",
            hint="yield whole batches, with labels that are one array",
        )
    labels = torch.stack(given) if given else None
    return Item(arrays, first.key, labels, first.left, [item.given for item in group])


def batch_of(
    item: Item, model: LoadedModel, mapping: Mapping[str, str]
) -> tuple[Batch, tuple[str, ...], tuple[str, ...]]:
    """The batch, the names of its inputs, and notes.

    Raises:
        DataError: the arrays do not fit the model.
    """
    held = {name: Held(tensor) for name, tensor in item.arrays.items()}
    arrays, notes = named(held, model, item.key, mapping)
    checked = match(arrays, model, source="data", ignore=[] if item.key is None else [item.key])
    if item.left:
        notes += (f"left out, as they are no numbers: {', '.join(item.left)}",)
    batch = Batch(tuple(a.all() for a in checked.values()), item.labels, item.given)
    return batch, tuple(checked), notes


def is_indexed(data: Any) -> bool:
    """Whether it is a data set of samples by number: torch's, Hugging Face's, one of the user's own."""
    numbered = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    others = (str, bytes, tuple, list, Mapping, IterableDataset)  # the last inherits a __getitem__
    return numbered and not (is_array(data) or isinstance(data, others))


def in_turn(data: Any, seed: int) -> Iterator[Any]:
    """Its items; those of a data set by number in an order that the seed mixes, as theirs may be sorted."""
    if not is_indexed(data):
        yield from data
        return
    generator = torch.Generator().manual_seed(seed)
    for place in torch.randperm(len(data), generator=generator).tolist():
        yield data[place]
