"""Functions of the user's own that give data, called under the seed: a loader shuffles alike each time."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnaudit.errors import BnauditError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class UserData:
    """`file.py:function`, called anew whenever batches are made: a generator is empty behind its end.

    Attributes:
        text: as it was typed.
        function: takes nothing.
    """

    text: str
    function: Callable[[], Any]

    def made(self) -> Any:
        """What the function returns.

        Raises:
            UsageError: it fails, or returns nothing.
        """
        try:
            data = self.function()
        except BnauditError:
            raise
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"--data {self.text}: fails ({type(error).__name__}: {error})",
                hint="call it in Python to see where",
            ) from error
        if data is None:
            raise UsageError(
                f"--data {self.text}: returns nothing",
                hint="it has to return or yield arrays, mappings by input name, or (inputs..., labels)",
            )
        return data


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds what loaders draw from (PyTorch, which seeds its workers, numpy, random), and puts it back.

    Args:
        seed: of the run.
    """
    import numpy as np
    import torch

    own, arrays = random.getstate(), np.random.get_state()  # what loaders use
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(arrays)
