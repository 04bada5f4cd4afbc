"""Calls of BatchNorm's kernel that are no BatchNorm layers, told apart by what their input depends on.

Weight standardisation sends weights through `batch_norm`: an input that depends on no data, however it is
shaped. Instance norm, also the adaptive one, is written as `batch_norm` of a (1, N C, ...) view, the batch
folded into the channels: its first C channels depend on the first row of the batch, and on no other.

Both are found by running the model, so in every format alike, and only where a first pass left a doubt.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from bnaudit.tap.call import normalise
from bnaudit.tap.dispatch import tapped
from bnaudit.tap.naming import INSTANCE, WEIGHT
from bnaudit.tap.trees import tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import Tensor

    from bnaudit.data.batch import Batch
    from bnaudit.measure.execution import Execution
    from bnaudit.tap.call import BatchNormCall
    from bnaudit.tap.dispatch import TapLog
    from bnaudit.tap.naming import Namer

Key = tuple[str, int]

_UNMOVED = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Of a channel's largest value: what rounding may change where the row that it depends on did not."""


def tell_apart(execution: Execution, namer: Namer, batch: Batch, log: TapLog) -> dict[Key, str]:
    """Which calls are no layers, and what they are.

    Args:
        execution: the model.
        namer: of its layers.
        batch: to run it on.
        log: of a pass in which nothing was told apart.
    """
    rows = batch.rows
    doubtful = dict.fromkeys([*log.doubtful, *(log.single if rows > 1 else ())])
    if not doubtful:
        return {}
    follower = _Dependent(batch.inputs)
    weights: set[Key] = set()

    here = threading.get_ident()

    def look(call: BatchNormCall) -> None:
        # A mode is one thread's: what others of the model's threads compute is not followed.
        followed = threading.get_ident() == here
        if followed and call.key in doubtful and call.x not in follower:
            weights.add(call.key)

    try:
        with follower:
            _run(execution, namer, batch, look)
        others = set(doubtful) - weights
        folded = _folded(execution, namer, batch, others, rows) if rows > 1 else set()
    except Exception:  # whatever the model makes of another pass: then nothing is told apart
        return {}
    kinds = dict.fromkeys(weights, WEIGHT) | dict.fromkeys(folded, INSTANCE)
    return {key: kinds[key] for key in doubtful if key in kinds}


class _Dependent(TorchDispatchMode):
    """Follows from operator to operator which memory holds what depends on some tensors."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # The wrapper that this asks for imports all of TorchDynamo, two seconds, at the first call.
        return False

    def __init__(self, tensors: Collection[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # A weak reference keeps a storage's address from being used again.
        self.storages: dict[int, StorageWeakRef] = {}
        self._add(list(tensors))

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self.storages

    def _add(self, tree: Any) -> None:
        for t in tensors_in(tree):
            if t.layout == torch.strided:
                storage = t.untyped_storage()
                self.storages[storage._cdata] = StorageWeakRef(storage)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs a call; what it returns, and what it writes into, depends on what goes in."""
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        out = func(*args, **kwargs)
        if any(t.layout != torch.strided or t in self for t in given):
            self._add(out)
            if func._schema.is_mutable:
                self._add(given)
        return out


def _folded(
    execution: Execution, namer: Namer, batch: Batch, doubtful: Collection[Key], rows: int
) -> set[Key]:
    """The calls on one row whose first C of N C channels alone depend on the batch's first row."""
    before: dict[Key, Tensor] = {}
    found: set[Key] = set()

    def keep(call: BatchNormCall) -> None:
        if call.key in doubtful and call.x.shape[0] == 1 and call.x.shape[1] % rows == 0:
            before[call.key] = call.x.detach().flatten(2).clone()

    def compare(call: BatchNormCall) -> None:
        one = before.get(call.key)
        if one is not None and one.shape == call.x.flatten(2).shape:
            other = call.x.detach().flatten(2)
            size = torch.maximum(one.abs(), other.abs()).amax(2)
            moved = ((one - other).abs().amax(2) > _UNMOVED.get(one.dtype, 1e-2) * size)[0]
            first = len(moved) // rows
            if bool(moved[:first].any()) and not bool(moved[first:].any()):
                found.add(call.key)

    _run(execution, namer, batch, keep)
    if before:
        inputs = (t if t.dim() == 0 else torch.cat([t[-1:], t[1:]]) for t in batch.inputs)
        _run(execution, namer, replace(batch, inputs=tuple(inputs)), compare)
    return found


def _run(
    execution: Execution, namer: Namer, batch: Batch, look: Callable[[BatchNormCall], None]
) -> None:
    """A forward pass in inference mode, in which no row depends on another."""

    def handle(call: BatchNormCall) -> Tensor:
        look(call)
        return normalise(call, call.x, "running")

    with tapped(namer, handle) as tap, torch.no_grad():
        tap.start()
        execution.value(batch, 0)
