"""Batches of an iterable, taken into memory: they are run several times, the same each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.outputs import named_tensors
from bnaudit.data.room import free_memory
from bnaudit.errors import BnauditError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnaudit.user_data import UserData


class Taken(list[Any]):
    """Items as the iterable gave them.

    Attributes:
        origin: the function that made it, if one did.
    """

    origin: UserData | None = None


def taken(data: Iterable[Any], count: int | None, origin: UserData | None) -> Taken:
    """The first items, or all.

    Args:
        data: the iterable.
        count: how many at most.
        origin: what made it.

    Raises:
        DataError: it fails, or does not end.
    """
    items = Taken()
    items.origin = origin
    room = free_memory(torch.device("cpu")) // 2
    try:
        for item in data:
            items.append(item)
            room -= sum(t.nbytes for t in named_tensors(item).values())
            if len(items) == count or room < 0:
                break
    except BnauditError:
        raise
    except Exception as error:  # whatever the user's iterable raises
        raise DataError(
            f"data: the iterable failed after {len(items)} batches ({type(error).__name__}: {error})",
            hint="run it by itself to see where",
        ) from error
    if room < 0 and len(items) != count:
        raise DataError(
            f"data: {len(items)} batches fill the memory, and there may be more",
            hint="--batches says how many to use",
        )
    return items
