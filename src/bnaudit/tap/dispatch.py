"""The override of the dispatcher's BatchNorm for the duration of a run, in the threads of that run alone.

It is registered under a dispatch key that no tensor has. Such a key counts only where the thread's own state
includes it: the thread that runs the model does, and PyTorch hands that state on to whatever works for it
(autograd's threads, TorchScript's forks). Every other thread of the process, training or serving beside an
audit, has its calls dispatched as if there were no override. There it is reached from eager modules, fx
graph modules, exported programs and from inside the TorchScript interpreter, on every device and in inference
mode. Taking it back restores the table exactly.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch.library import Library

from bnaudit.errors import RunError
from bnaudit.tap.call import DECOMPOSED, BatchNormCall, as_called
from bnaudit.tap.naming import INSTANCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from bnaudit.tap.naming import Namer

Key = tuple[str, int]

KEY = "TESTING_ONLY_GenericMode"
"""Above autograd and autocast. Nothing but PyTorch's own tests of the dispatcher uses it."""


one_at_a_time = threading.RLock()
"""Two audits would take each other's seeds, and flags of a model that they share."""
if hasattr(os, "register_at_fork"):
    # The thread that holds it is not there in the child, which would wait for it for ever.
    os.register_at_fork(after_in_child=one_at_a_time._at_fork_reinit)  # type: ignore[attr-defined]


@contextmanager
def whole_audit() -> Iterator[None]:
    """One audit at a time, and TorchScript without its profiling executor; that is switched back at the end.

    Compiled under it, a module would bypass the tap from its second differentiated run on:
    its DifferentiableGraph calls `_batch_norm_impl_index` on detached tensors.
    """
    with one_at_a_time:
        profiling = torch._C._jit_set_profiling_mode(False)
        try:
            yield
        finally:
            torch._C._jit_set_profiling_mode(profiling)


@cache
def others_pass() -> Library:
    """All operators but those overridden ignore the key. Takes 4 ms, and changes nothing without the key."""
    library = Library("_", "IMPL", KEY)
    library.fallback(torch.library.fallthrough_kernel)
    return library


@contextmanager
def taking(included: bool) -> Iterator[None]:
    """Whether this thread's calls reach the override."""
    before = torch._C._dispatch_tls_is_dispatch_key_included(KEY)
    torch._C._dispatch_tls_set_dispatch_key_included(KEY, included)
    try:
        yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_included(KEY, before)


def not_the_models() -> AbstractContextManager[None]:
    """BatchNorm inside is none of the model's: of the networks that a loss is computed with."""
    return taking(included=False)


@dataclass(slots=True)
class TapLog:
    """What the tap saw in the forward passes since `start`.

    Attributes:
        calls: BatchNorm calls handed to the handler.
        without_grad: labels of the calls made under no_grad or inference mode.
        instance_norms: InstanceNorm calls (which use BatchNorm kernels, but are not BatchNorm).
        doubtful: calls that may be no layers, where nobody has looked: they store no statistics, or those
            of the start.
        single: further ones, that have one row.
        recomputed: calls repeated during backward by activation checkpointing.
    """

    calls: int = 0
    without_grad: list[str] = field(default_factory=list)
    instance_norms: int = 0
    doubtful: list[Key] = field(default_factory=list)
    single: list[Key] = field(default_factory=list)
    recomputed: int = 0


class Tap:
    """Receives the overridden calls. Use through `tapped`."""

    def __init__(
        self,
        namer: Namer,
        handler: Callable[[BatchNormCall], Tensor],
        replay: Callable[[BatchNormCall], Tensor],
    ) -> None:
        self.namer = namer
        self.handler = handler
        self.replay = replay
        self.log = TapLog()
        self._index = 0

    def start(self) -> None:
        """A new forward pass begins."""
        self.namer.start()
        self._index = 0
        self.log = TapLog()

    def close(self) -> None:
        """Lets go of what the handlers hold: the dispatcher keeps the tap until another one comes."""
        self.handler = self.replay = _closed

    def batch_norm(  # noqa: PLR0913, PLR0917  # the signature is the dispatcher's
        self,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        training: bool,
        momentum: float,  # noqa: ARG002
        eps: float,
        cudnn_enabled: bool,  # noqa: ARG002
    ) -> Tensor:
        """Stands in for `aten::batch_norm`."""
        name, occurrence = self.namer.name(running_mean, running_var, gamma, beta)
        _require_channels(name, x, (gamma, beta, running_mean, running_var))
        call = BatchNormCall(
            name, occurrence, self._index, x, gamma, beta, running_mean, running_var, training, eps
        )
        if self.namer.apart is not None and call.key in self.namer.apart:
            self.log.instance_norms += self.namer.apart[call.key] == INSTANCE
            return as_called(call)
        if torch._C._current_graph_task_id() != -1:
            # Activation checkpointing runs the forward again in the middle of backward.
            self.log.recomputed += 1
            return self.replay(call)
        if self.namer.apart is None:
            self.log.single += [call.key] * (x.shape[0] == 1)
            if not self._has_statistics(running_mean, running_var):
                self.log.doubtful.append(call.key)
        self._index += 1
        self.log.calls += 1
        if not torch.is_grad_enabled():
            self.log.without_grad.append(name)
        return self.handler(call)

    def _has_statistics(self, mean: Tensor | None, var: Tensor | None) -> bool:
        """Whether a call is given running statistics that are stored in the model, and were trained."""
        if mean is None or var is None or not self.namer.owns(var):
            return False
        return bool(mean.any()) or bool((var != 1).any())

    def instance_norm(  # noqa: PLR0913, PLR0917  # the signature is the dispatcher's
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        use_input_stats: bool,
        momentum: float,  # noqa: ARG002
        eps: float,
        cudnn_enabled: bool,  # noqa: ARG002
    ) -> Tensor:
        """Stands in for `aten::instance_norm`, whose own kernel would come back as a BatchNorm."""
        self.log.instance_norms += 1
        n, c = x.shape[:2]

        def tile(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.repeat(n)

        stats = (None, None) if use_input_stats else (tile(running_mean), tile(running_var))
        flat = x.contiguous().view(1, n * c, *x.shape[2:])
        out: Tensor = torch.ops.aten.native_batch_norm.default(
            flat, tile(weight), tile(bias), *stats, use_input_stats, 0.0, eps
        )[0]
        return out.view(x.shape)

    def folded_instance_norm(  # as above
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        gamma: Tensor | None,
        beta: Tensor | None,
        training: bool,
        eps: float,
    ) -> Tensor:
        """An InstanceNorm as its decomposition leaves it: (1, N*C, ...) with repeated parameters."""
        self.log.instance_norms += 1
        training = training or running_mean is None
        stats = (None, None) if training else (running_mean, running_var)
        out: Tensor = torch.ops.aten.native_batch_norm.default(
            x, gamma, beta, *stats, training, 0.0, eps
        )[0]
        return out

    def bypassed(self, *_: Any) -> Any:
        """Tripwire: somebody called BatchNorm's inner kernel around the override."""
        raise RunError(
            "a BatchNorm call went around the measurement (TorchScript's profiling executor)",
            hint="the module was run before with profiling on: reload it from its file",
        )


def _closed(call: BatchNormCall) -> Tensor:
    raise AssertionError(f"{call.name} is called through a tap that is closed")


def _require_channels(name: str, x: Tensor, parameters: tuple[Tensor | None, ...]) -> None:
    """The check of `batch_norm` itself: the kernel behind it would read past the parameters' end."""
    channels = x.shape[1] if x.dim() > 1 else 0
    wrong = next((p.numel() for p in parameters if p is not None and p.numel() != channels), None)
    if wrong is not None:
        raise RunError(
            f"the input {list(x.shape)} of {name} has {channels} channels, its parameters have {wrong}",
            hint="is the batch of another size or shape than the model was exported for?",
        )


@contextmanager
def tapped(
    namer: Namer,
    handler: Callable[[BatchNormCall], Tensor],
    replay: Callable[[BatchNormCall], Tensor] | None = None,
    others: Mapping[str, Callable[..., Tensor]] | None = None,
) -> Iterator[Tap]:
    """Hands every BatchNorm call of the model to `handler` until the context ends.

    Args:
        namer: gives the calls their names.
        handler: carries each call out.
        replay: carries out the calls that activation checkpointing repeats during backward;
            `handler` where it is None.
        others: further operators ("embedding") -> what stands in for them.
    """
    tap = Tap(namer, handler, replay or handler)
    # Compiled parts of a model run as they were written; else the compiler would take in the handlers.
    # TorchDynamo takes two seconds to import, and where nobody has, nothing is compiled.
    eager: AbstractContextManager[Any] = nullcontext()
    if "torch._dynamo" in sys.modules:
        eager = torch.compiler.set_stance("force_eager")
    others_pass()
    with whole_audit(), eager:
        library = Library("aten", "IMPL")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "Overriding a previously registered kernel"
                library.impl("batch_norm", tap.batch_norm, KEY)
                library.impl("instance_norm", tap.instance_norm, KEY)
                library.impl("_batch_norm_impl_index", tap.bypassed, KEY)
                if namer.decomposed:  # seven more operators: 0.37 ms to enter instead of 0.14
                    for name, override in _decomposed(tap).items():
                        library.impl(name, override, KEY)
                for name, other in (others or {}).items():
                    library.impl(name, other, KEY)
            with taking(included=True), _in_threads_of(namer.layers):
                yield tap
        finally:
            library._destroy()
            tap.close()


@contextmanager
def _in_threads_of(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Takes the calls of the model's own layers in whatever thread the model has them made (a pool's)."""
    here = threading.local()

    def enter(*_: Any) -> None:
        here.depth = getattr(here, "depth", 0) + 1
        if here.depth == 1:
            here.before = torch._C._dispatch_tls_is_dispatch_key_included(KEY)
            torch._C._dispatch_tls_set_dispatch_key_included(KEY, True)

    def leave(*_: Any) -> None:
        here.depth -= 1
        if here.depth == 0:
            torch._C._dispatch_tls_set_dispatch_key_included(KEY, here.before)

    hooks: list[RemovableHandle] = []
    try:
        for layer in layers:
            hooks.append(layer.register_forward_pre_hook(enter))
            hooks.append(layer.register_forward_hook(leave, always_call=True))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _decomposed(tap: Tap) -> dict[str, Callable[..., tuple[Tensor | None, ...]]]:
    """Operator -> what stands in for it during a run."""

    def call(
        names: tuple[str, ...], flag: bool | None, kinds: str, *values: Any
    ) -> tuple[Tensor | None, ...]:
        given = dict(zip(names, values, strict=True))
        x, gamma, beta = given["x"], given["gamma"], given["beta"]
        mean, var = given.get("running_mean"), given.get("running_var")
        training = bool(given.get("training", flag))
        tensors = (mean, var, gamma, beta)
        single = x.shape[0] == 1 and not tap.namer.owns(*tensors)
        if single and tap.namer.at_instance_norm():
            z = tap.folded_instance_norm(x, *tensors, training, given["eps"])
        else:
            z = tap.batch_norm(
                x, gamma, beta, mean, var, training, given["momentum"], given["eps"], False
            )
        behind = {"s": x.new_empty(0), "m": _copy(mean), "v": _copy(var)}
        return (z, *(behind[kind] for kind in kinds))

    return {
        name: partial(call, *row)
        for name, row in DECOMPOSED.items()
        if hasattr(torch.ops.aten, name.partition(".")[0])
    }


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()
