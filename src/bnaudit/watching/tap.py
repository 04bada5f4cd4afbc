"""The BatchNorm calls of one training pass, seen and carried out as they would have been.

As in `bnaudit.tap.dispatch` the override counts in the thread of the pass alone. It hands every call on to
the same kernels, with the key taken back, so that the pass is the same to the last bit.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.library import Library

from bnaudit.tap.call import BatchNormCall
from bnaudit.tap.dispatch import KEY, one_at_a_time, others_pass, taking

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnaudit.tap.naming import Namer


def inside_an_audit() -> bool:
    """Whether this thread's calls are taken already: the pass is one of an audit, not of the training."""
    taken: bool = torch._C._dispatch_tls_is_dispatch_key_included(KEY)
    return taken


class PassTap:
    """Open during one forward pass. `seen` is told of each call and of its output."""

    def __init__(self, namer: Namer, seen: Callable[[BatchNormCall, Tensor], None]) -> None:
        self._namer = namer
        self._seen = seen
        self._index = 0
        self._library: Library | None = None

    def open(self) -> bool:
        """Whether the calls of this thread are seen from now on: not beside an audit in another thread."""
        if not one_at_a_time.acquire(blocking=False):
            return False
        others_pass()
        self._library = Library("aten", "IMPL")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Overriding a previously registered kernel"
            self._library.impl("batch_norm", self._batch_norm, KEY)
            self._library.impl("instance_norm", self._instance_norm, KEY)
        torch._C._dispatch_tls_set_dispatch_key_included(KEY, True)
        return True

    def close(self) -> None:
        """Restores the dispatcher. In the thread that opened it; a second time does nothing."""
        if self._library is None:
            return
        torch._C._dispatch_tls_set_dispatch_key_included(KEY, False)
        library, self._library = self._library, None
        library._destroy()
        one_at_a_time.release()

    def _batch_norm(self, *given: Any) -> Tensor:
        """Stands in for `aten::batch_norm`."""
        with taking(included=False):
            z: Tensor = torch.ops.aten.batch_norm.default(*given)
            x, gamma, beta, mean, var, training, _, eps, _ = given
            whole = type(x) is torch.Tensor and x.dim() > 1 and x.numel() > 0
            # Weights that are standardised are one row, and no layer's statistics come with them.
            if whole and (x.shape[0] > 1 or self._namer.owns(mean, var, gamma, beta)):
                name, occurrence = self._namer.name(mean, var, gamma, beta)
                call = BatchNormCall(
                    name, occurrence, self._index, x, gamma, beta, mean, var, training, eps
                )
                self._index += 1
                self._seen(call, z)
        return z

    @staticmethod
    def _instance_norm(*given: Any) -> Tensor:
        """Its own kernel would come back as a BatchNorm."""
        with taking(included=False):
            z: Tensor = torch.ops.aten.instance_norm.default(*given)
        return z
