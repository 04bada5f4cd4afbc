"""Running the model on a batch: device, dtype, seeding, and errors that say what went wrong."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.outputs import chosen, floating, named_tensors
from bnaudit.data.targets import moved
from bnaudit.errors import BnauditError, RunError, UsageError
from bnaudit.tap.dispatch import not_the_models
from bnaudit.tap.guard import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn

    from bnaudit.data.batch import Batch
    from bnaudit.data.head import Head
    from bnaudit.data.loss import Loss
    from bnaudit.load.model import LoadedModel


@dataclass(frozen=True, slots=True)
class Call:
    """How batches become arguments.

    Attributes:
        names: of a batch's tensors, in their order.
        values: what `--input` has set, by name.
        arrange: both by name -> positional and keyword arguments.
    """

    names: tuple[str, ...]
    values: Mapping[str, Any]
    arrange: Callable[[Mapping[str, Any]], tuple[list[Any], dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Execution:
    """A model placed on a device, ready to be run on batches.

    Attributes:
        module: the model.
        loss: the scalar to differentiate.
        device: where the batches go.
        dtype: what floating-point inputs are cast to.
        seed: of randomness inside the model (dropout baked into a file), the same for each run.
        call: which inputs a batch has, and how the module is called with them.
        state: what the model came with; every pass begins with it.
        head: where the loss is taken.
        pick: the one output that it is taken of, by a name of `bnaudit.data.outputs.chosen`; None for all.
        output_names: of the file's outputs.
    """

    module: nn.Module
    loss: Loss
    device: torch.device
    dtype: torch.dtype
    seed: int
    call: Call
    state: State
    head: Head
    pick: str | None = None
    output_names: tuple[str, ...] = ()

    def on(self, module: nn.Module, device: torch.device, dtype: torch.dtype) -> Execution:
        """The same for another module: a copy, or the original of one."""
        return replace(self, module=module, device=device, dtype=dtype, state=State(module))

    def value(self, batch: Batch, index: int, *, go_on: bool = False, look: bool = False) -> Tensor:
        """The loss of one batch; differentiable where autograd is on. See `both`."""
        return self.both(batch, index, go_on=go_on, look=look)[1]

    def both(
        self, batch: Batch, index: int, *, go_on: bool = False, look: bool = False
    ) -> tuple[Any, Tensor]:
        """What the loss of one batch is taken of, and the loss; differentiable where autograd is on.

        Args:
            batch: the batch.
            index: its number.
            go_on: with the state that the call before left, not with what the model came with.
            look: also find out where the loss is to be taken from now on.

        Raises:
            RunError: the model cannot be run on it.
        """
        if not go_on:
            self.state.restore()
        with self._seeded(index):
            output = self.head.read(lambda: self.picked(self.outputs(batch)))
            if look:
                self.head.look(output)
            with not_the_models():
                value = self.loss.compute(output, self._targets(batch), index)
        if torch.is_grad_enabled() and not value.requires_grad and _differentiable(output):
            raise UsageError(
                f"the loss {self.loss.name} is constant: no gradient leads from it to the model's output",
                hint="compute it of the output's tensors, without detach, item, argmax or rounding",
            )
        return output, value

    def scores(self, batch: Batch, index: int) -> Any:
        """What the loss of one batch would be taken of, from the state that the model came with."""
        self.state.restore()
        with self._seeded(index):
            return self.picked(self.outputs(batch))

    @contextmanager
    def _seeded(self, index: int) -> Iterator[None]:
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.seed + index)
            yield

    def picked(self, output: Any) -> Any:
        """The one output that was asked for, or all of them."""
        return output if self.pick is None else chosen(output, self.pick, self.output_names)

    def _targets(self, batch: Batch) -> Any:
        """What the loss is given beside the output."""
        if not self.loss.takes_batch:
            return moved(batch.labels, self.device)
        if batch.given is not None:
            return moved(batch.given, self.device)
        named = dict(zip(self.call.names, batch.inputs, strict=True))
        return moved({**named, "labels": batch.labels}, self.device)

    def outputs(self, batch: Batch) -> Any:
        """What the model returns for one batch, from the state that it has."""
        inputs = [self._place(t) for t in batch.inputs]
        values = {name: self._place(value) for name, value in self.call.values.items()}
        args, kwargs = self.call.arrange(
            {**dict(zip(self.call.names, inputs, strict=True)), **values}
        )
        try:
            return self.module(*args, **kwargs)
        except BnauditError:
            raise
        except Exception as error:  # whatever the user's model raises
            shapes = [list(t.shape) for t in inputs]
            raise explain(error, shapes, self.call.values) from error

    def _place(self, value: Any) -> Any:
        """A copy of a tensor in any case: a model may write into it, and every pass has to see the same."""
        if not isinstance(value, torch.Tensor):
            return value
        dtype = self.dtype if value.is_floating_point() else value.dtype
        return value.to(self.device, dtype, copy=True)


def _differentiable(output: Any) -> bool:
    return any(t.requires_grad for t in floating(named_tensors(output)).values())


_INTEGERS = ("ByteTensor", "CharTensor", "IntTensor", "LongTensor", "unsigned char", "Byte")


def explain(error: Exception, shapes: list[list[int]], values: Mapping[str, Any]) -> RunError:
    """The one line of an exception that a user can act on.

    Args:
        error: what the model raised.
        shapes: of its inputs.
        values: what `--input` has set besides.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return RunError("the device ran out of memory", hint="pass a smaller --batch-size")
    if isinstance(error.__cause__, BnauditError):
        return RunError(error.__cause__.message, hint=error.__cause__.hint)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # TorchScript appends the message of the failing operator behind its own stack of source lines.
    text = next((ln for ln in reversed(lines) if ln.startswith("RuntimeError:")), None)
    text = text or next(iter(lines), type(error).__name__)
    if not isinstance(error, (RuntimeError, ValueError)):
        text = f"{type(error).__name__}: {text}"
    options = "".join(f", --input {name}" for name in values) or " or --input-shape"
    hint = f"check --data{options} against what the model was built for"
    if any(kind in text for kind in _INTEGERS):
        hint = "integers meet floating-point weights: convert the data as in training"
    elif "should be the same" in text or "same dtype" in text:
        hint = "the model holds constants of another precision: leave --dtype out"
    given = ", ".join("x".join(map(str, s)) or "scalar" for s in shapes)
    on = f" on inputs of shape {given}" if given else ""
    return RunError(
        f"the model cannot be run{on}: {text[:240]}",
        hint=hint,
    )


def resolve_device(name: str) -> torch.device:
    """The device of this name, if this machine has it.

    Raises:
        UsageError: it is unknown, or not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}", hint="cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UsageError(f"no device {name!r} here ({count} CUDA devices)", hint="use --device cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("no device 'mps' here", hint="use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device {name!r} is not supported", hint="cpu, cuda, cuda:N or mps")
    return device


def native_dtype(module: nn.Module) -> torch.dtype:
    """The floating dtype most of the model's parameters have; float32 for a model without any."""
    counts: dict[torch.dtype, int] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.numel()
    return max(counts, key=lambda d: counts[d], default=torch.float32)


def place(model: LoadedModel, device: torch.device, dtype: torch.dtype | None) -> nn.Module:
    """The model's module on a device, in a dtype; a live module that has to change is copied.

    Args:
        model: the loaded model.
        device: where to.
        dtype: of all floating-point tensors, None to leave them.
    """
    module = model.module
    tensors = [*module.parameters(), *module.buffers()]
    moves = any(t.device.type != device.type for t in tensors)
    casts = dtype is not None and any(t.is_floating_point() and t.dtype != dtype for t in tensors)
    if moves or casts:
        module = private_copy(model).to(device=device, dtype=dtype if casts else None)
    if model.adapt is not None:
        model.adapt(module, device, dtype)
    return module


def private_copy(model: LoadedModel) -> nn.Module:
    """A copy of the module that may be changed.

    Raises:
        RunError: a live module that cannot be copied.
    """
    if model.reload is not None:
        return model.reload().module
    try:
        return copy.deepcopy(model.module)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            "the module cannot be copied to another dtype or device",
            hint="move it there yourself before the audit",
        ) from error
