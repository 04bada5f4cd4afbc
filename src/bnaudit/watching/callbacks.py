"""Callbacks that start, count and stop a watch for Lightning and for the Trainer of Hugging Face.

Their classes are made when they are asked for: the libraries are imported then.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bnaudit.watching.sinks import missing
from bnaudit.watching.watcher import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from bnaudit.watching.sinks import Target


def lightning_callback(*, to: Target | Sequence[Target], every: int = 100) -> Any:
    """A callback for `Trainer(callbacks=[...])` of Lightning; steps are the trainer's `global_step`.

    Args:
        to: as for `bnaudit.watch`.
        every: how many steps lie between two records.

    Raises:
        UsageError: neither lightning nor pytorch_lightning is installed.
    """
    base = _callback("lightning", "lightning.pytorch", "pytorch_lightning", name="Callback")
    return type("BatchNormWatch", (_Lightning, base), {})(to, every)


def trainer_callback(*, to: Target | Sequence[Target], every: int = 100) -> Any:
    """A callback for `Trainer(callbacks=[...])` of Hugging Face; steps are `state.global_step`.

    Args:
        to: as for `bnaudit.watch`.
        every: how many steps lie between two records.

    Raises:
        UsageError: transformers is not installed.
    """
    base = _callback("transformers", "transformers", name="TrainerCallback")
    return type("BatchNormWatch", (_Trainer, base), {})(to, every)


def _callback(package: str, *modules: str, name: str) -> Any:
    """The class that callbacks are made from."""
    cause: ImportError | None = None
    for module in modules:
        try:
            return getattr(import_module(module), name)
        except ImportError as error:
            cause = error
    raise missing(package, package) from cause


class _Callback:
    """What both have."""

    def __init__(self, to: Target | Sequence[Target], every: int) -> None:
        self.to, self.every = to, every
        self.watch: Watch | None = None

    def begin(self, model: Any, step: int) -> None:
        """A training begins, or goes on at some step."""
        self.watch = Watch(model, to=self.to, every=self.every)
        self.watch.at(step)
        self.watch.start()

    def end(self) -> None:
        """It is over."""
        if self.watch is not None:
            ended, self.watch = self.watch, None
            ended.stop()


class _Lightning(_Callback):
    """A pass is a `training_step`, which need be no call of the module."""

    _pass: AbstractContextManager[None] | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begins."""
        self.begin(pl_module, trainer.global_step)

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        """The step that is on; its pass begins."""
        self._end_pass()
        if self.watch is not None:
            self.watch.at(trainer.global_step)
            self._pass = self.watch.forward()
            self._pass.__enter__()

    def on_before_backward(self, _: Any, __: Any, loss: Any) -> None:
        """The pass ends, and has its loss."""
        if self.watch is not None and self._pass is not None:
            self._end_pass()
            self.watch.loss(loss)

    def on_train_batch_end(self, *_: Any) -> None:
        """So does one that had no backward."""
        self._end_pass()

    def on_train_end(self, *_: Any) -> None:
        """Ends."""
        self._end_pass()
        self.end()

    def on_exception(self, *_: Any) -> None:
        """Ends; Lightning raises it again."""
        self._end_pass()
        self.end()

    def _end_pass(self) -> None:
        if self._pass is not None:
            ended, self._pass = self._pass, None
            ended.__exit__(None, None, None)


class _Trainer(_Callback):
    """A pass is a call of the model."""

    def on_train_begin(self, _: Any, state: Any, __: Any, **given: Any) -> None:
        """Begins."""
        self.begin(given["model"], state.global_step)

    def on_step_begin(self, _: Any, state: Any, __: Any, **___: Any) -> None:
        """The step that is on."""
        if self.watch is not None:
            self.watch.at(state.global_step)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Ends."""
        self.end()
