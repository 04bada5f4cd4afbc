"""Looks at every Nth training pass of a network; docs/watch.md says what counts as one.

On the module stands one forward pre-hook. A pass that is due has its BatchNorm calls seen by an override of
the dispatcher, in its own thread and for the length of its forward, and a hook on the autograd node of each
call. The hooks read: no tensor of the training is written, no gradient is replaced, no random number drawn.
"""

from __future__ import annotations

import functools
import os
import sys
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnaudit.errors import UsageError, first_line
from bnaudit.records.training import WatchRecord
from bnaudit.records.values import NOT_REQUESTED
from bnaudit.tap.naming import Namer
from bnaudit.tap.scripted import is_batchnorm
from bnaudit.watching.seen import NO_GRAD, NOT_CALLED, SeenCall, stored_state, with_reason
from bnaudit.watching.sinks import sinks_of
from bnaudit.watching.tap import PassTap, inside_an_audit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType, TracebackType

    from torch import Tensor

    from bnaudit.records.training import LayerState, Number
    from bnaudit.tap.call import BatchNormCall
    from bnaudit.watching.sinks import Sink, Target

_COMPILED = "torch.compile hides what a pass does: stored values only"
_BESIDE_AUDIT = "an audit ran in another thread"


def watch(
    model: nn.Module,
    *,
    to: Target | Sequence[Target],
    every: int = 100,
    optimizer: Any = None,
    step: int = 0,
) -> Watch:
    """Watches the BatchNorm layers of a network while it trains, from now until `stop`.

    Args:
        model: the network, or what DistributedDataParallel or torch.compile made of it.
        to: where records go, one or several: the path of a file of JSON lines, a function of a
            `bnaudit.records.training.WatchRecord`, or one of `bnaudit.watching`: TensorBoard, WandB, MLflow.
        every: how many steps lie between two records.
        optimizer: whose updates are the steps; without one each forward pass in training mode is a step.
        step: number of the first one, where a training is taken up again.

    Returns:
        The watch, which has begun; a context manager that stops it.

    Raises:
        UsageError: an argument has no meaning, or the target cannot be written.
    """
    found = Watch(model, to=to, every=every, optimizer=optimizer, step=step)
    found.start()
    return found


class Watch:
    """One watched network. `bnaudit.watch` makes and starts it.

    Attributes:
        every: how many steps lie between two records.
        step: number of the step that is on.
        passes: training passes so far.
        last: the last record, None before the first.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        to: Target | Sequence[Target],
        every: int = 100,
        optimizer: Any = None,
        step: int = 0,
    ) -> None:
        self._model = _watchable(model)
        if type(every) is not int or every < 1:
            raise UsageError(f"every={every!r} is no number of steps", hint="1 or more")
        if optimizer is not None and not hasattr(optimizer, "register_step_post_hook"):
            kind = type(optimizer).__name__
            raise UsageError(
                f"optimizer={kind} is no torch.optim.Optimizer",
                hint="pass the one inside it, or leave it out and say `watch.at(step)`",
            )
        self.every, self.step, self.passes = every, step, 0
        self.last: WatchRecord | None = None
        self._counts = "passes" if optimizer is None else "updates"
        self._optimizer = optimizer
        self._targets = to
        self._sinks: list[Sink] = []
        self._handles: list[Any] = []
        self._looked_at: int | None = None
        self._open: _Pass | None = None
        self._waiting: _Pass | None = None
        self._compiled = False
        self._began = 0.0

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begins, or goes on after `stop`; of a watch that is on nothing.

        Raises:
            UsageError: a target cannot be written.
        """
        if self._handles:
            return
        self._sinks = sinks_of(self._targets) if _is_first_rank() else []
        self._began = self._began or time.perf_counter()
        self._handles.append(self._model.register_forward_pre_hook(_PreHook(self)))
        if self._optimizer is not None:
            self._handles.append(self._optimizer.register_step_post_hook(self._updated))

    def stop(self) -> None:
        """Writes what waits, closes the targets, and leaves nothing on the network."""
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        try:
            self._settle()
        finally:
            for sink in self._sinks:
                sink.close()
            self._sinks = []
        if not self.passes:
            warnings.warn(
                "bnaudit.watch saw no training pass: the network was not called in training mode with "
                "gradients, or was compiled after the watch began (watch what torch.compile returns)",
                stacklevel=2,
            )

    def at(self, step: int) -> None:
        """Says which step is on: the caller counts, from now on."""
        self._counts, self.step = "given", step

    def loss(self, value: Any) -> Any:
        """Tells the loss of the pass, between forward and backward, and gives it back."""
        current = self._waiting
        if current is not None:
            number = float(value.detach() if isinstance(value, torch.Tensor) else value)
            current.loss = number
        return value

    @contextmanager
    def forward(self) -> Iterator[None]:
        """A pass that is no call of the network itself, up to its backward: of a `training_step`, say."""
        self._entered(self._model, bracketed=True)
        current = self._open
        try:
            yield
        except BaseException:
            self._waiting = None  # it is no step of the training
            raise
        finally:
            if current is not None and current is self._open:
                current.close()
                self._open = None

    def _updated(self, *_: object) -> None:
        if self._counts == "updates":
            self.step += 1

    def _entered(self, module: nn.Module, *, bracketed: bool = False) -> None:
        """A forward pass begins."""
        if torch.compiler.is_compiling() or self._nested() or inside_an_audit():
            return
        if not module.training or not torch.is_grad_enabled() or _transformed():
            return
        if torch._C._current_graph_task_id() != -1:  # activation checkpointing runs it again
            return
        self._settle()
        number = self.step
        self.passes += 1
        if self._counts == "passes":
            self.step += 1
        if number % self.every or number == self._looked_at or not self._sinks:
            return
        self._looked_at = number
        self._look(module, number, bracketed=bracketed)

    def _nested(self) -> bool:
        """Whether the network calls itself; a pass that an interrupt has ended is let go instead."""
        current = self._open
        if current is None:
            return False
        if current.runs():
            return True
        current.close()
        self._open = self._waiting = None
        return False

    def _look(self, module: nn.Module, number: int, *, bracketed: bool) -> None:
        compiled = any(_is_compiled(m) for m in module.modules())
        if compiled and not self._compiled:
            self._compiled = True
            warnings.warn(f"bnaudit.watch: {_COMPILED}", stacklevel=2)
        current = _Pass(self, module, number, bracketed=bracketed)
        if compiled:
            current.why = _COMPILED
        elif current.tap.open():
            self._open = current
            if bracketed:
                self._waiting = current
                return
            # Of a pass that raises too; an interrupt ends it without, see `_nested` and `stop`.
            current.handle = module.register_forward_hook(current.left, always_call=True)
        else:
            current.why = _BESIDE_AUDIT
        self._waiting = current

    def _left(self, current: _Pass, *, whole: bool) -> None:
        current.close()
        self._open = None
        if not whole:
            self._waiting = None  # the pass raised: it is no step of the training

    def _settle(self) -> None:
        """Ends what an interrupt left open, and writes the record that waits for its backward, if any."""
        if self._open is not None:
            self._open.close()
            self._open = self._waiting = None
        current, self._waiting = self._waiting, None
        if current is not None:
            self._write(current)

    def _complete(self, current: _Pass) -> None:
        """Backward has passed all layers of the pass."""
        if self._waiting is current:
            self._waiting = None
            self._write(current)

    def _write(self, current: _Pass) -> None:
        record = WatchRecord(
            model=type(self._model).__name__,
            step=current.number,
            counts=self._counts,
            passes=current.passes,
            seconds=time.perf_counter() - self._began,
            loss=current.loss,
            layers=current.states(),
        )
        self.last = record
        for sink in tuple(self._sinks):
            try:
                sink.write(record)
            except Exception as error:  # a full disk or a lost server ends no training
                self._sinks.remove(sink)
                warnings.warn(
                    f"bnaudit.watch: {sink.name} takes no more records: {first_line(error)}",
                    stacklevel=2,
                )


class _Pass:
    """One pass that is looked at, from its forward to its record."""

    def __init__(self, watch: Watch, module: nn.Module, number: int, *, bracketed: bool) -> None:
        self.number = number
        self.passes = watch.passes - 1
        self.loss: Number = NOT_REQUESTED
        self.why = NOT_CALLED
        self.handle: Any = None
        self._watch = watch
        self._module = module
        self._bracketed = bracketed
        self._calls: list[SeenCall] = []
        self._missing = 0
        self.tap = PassTap(Namer(module, {}), self._seen)

    def runs(self) -> bool:
        """Whether its forward is on the stack of this thread, or has an end of its own."""
        if self._bracketed:
            return True
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if frame.f_locals.get("self") is self._module and frame.f_code.co_name == "forward":
                return True
            frame = frame.f_back
        return False

    def close(self) -> None:
        """Takes the override and the hook back."""
        self.tap.close()
        if self.handle is not None:
            self.handle.remove()
            self.handle = None

    def left(self, _: nn.Module, __: Any, output: Any) -> None:
        """The forward hook; without an output where the pass raised."""
        self._watch._left(self, whole=output is not None)

    def states(self) -> tuple[LayerState, ...]:
        """All layers: those that were called, then the others."""
        for call in self._calls:
            call.measure(None, None)  # where backward did not come
        found = [call.state() for call in self._calls]
        names = {call.label for call in self._calls}
        others = (
            with_reason(stored_state(name.replace("_orig_mod.", "") or "BatchNorm", m), self.why)
            for name, m in self._module.named_modules()
            if is_batchnorm(m) and (name or type(m).__name__) not in names
        )
        return (*found, *others)

    def _seen(self, call: BatchNormCall, z: Tensor) -> None:
        seen = SeenCall.of(call, z)
        self._calls.append(seen)
        node = z.grad_fn
        if node is None or "BatchNorm" not in node.name():
            seen.why = NO_GRAD
            seen.measure(None, None)
            return
        self._missing += 1

        def passed(grad_in: Sequence[Tensor | None], grad_out: Sequence[Tensor | None]) -> None:
            if seen.x is None:
                return  # a second backward through the same pass
            seen.measure(grad_out[0], grad_in[0], tuple(grad_in[1:3]))
            self._missing -= 1
            if not self._missing:
                self._watch._complete(self)

        node.register_hook(passed)


class _PreHook:
    """What stands on the module. Copies and pickles of the module have one that does nothing."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __call__(self, module: nn.Module, _: Any) -> None:
        self._watch._entered(module)

    def __deepcopy__(self, _: Any) -> Any:
        return functools.partial(torch._assert)

    def __reduce__(self) -> Any:
        return functools.partial, (torch._assert,)  # of (module, inputs): returns None


def _watchable(model: nn.Module) -> nn.Module:
    """The module whose passes are counted.

    Raises:
        UsageError: it is none, or one whose calls cannot be seen.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"{type(model).__name__} is no torch.nn.Module", hint="watch the network")
    if isinstance(model, nn.DataParallel):
        raise UsageError(
            "DataParallel runs copies of the network, in threads of its own",
            hint="watch what DistributedDataParallel makes of it, or the network on one device",
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise UsageError(
            "a ScriptModule cannot be watched: TorchScript takes no hooks",
            hint="watch the module that it was scripted from, and train that",
        )
    inner = model
    while isinstance(inner, nn.parallel.DistributedDataParallel):
        inner = inner.module
    if not any(is_batchnorm(m) for m in inner.modules()):
        warnings.warn(
            "bnaudit.watch: no BatchNorm module in the network; functional calls are seen",
            stacklevel=4,
        )
    if inner._compiled_call_impl is not None:
        raise UsageError(
            "module.compile() has compiled the network's own call",
            hint="watch what torch.compile(module) returns instead",
        )
    return inner


def _is_compiled(module: nn.Module) -> bool:
    return module._compiled_call_impl is not None or type(module).__name__ == "OptimizedModule"


def _is_first_rank() -> bool:
    """Of the processes of a training the first writes; each would see its own rows alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    return os.environ.get("RANK", "0") == "0"


def _transformed() -> bool:
    """Inside torch.func: tensors are wrapped, and gradients are no pass of a training loop."""
    return torch._C._functorch.peek_interpreter_stack() is not None
