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

    from bnaudit.watching.sinks import Target


def lightning_callback(*, to: Target | Sequence[Target], every: int = 100) -> Any:
    """A callback for `Trainer(callbacks=[...])` of Lightning; steps are the trainer's `global_step`.

    Args:
        to: as for `bnaudit.watch`.
        every: how many steps lie between two records.

    Raises:
        UsageError: neither lightning nor pytorch_lightning is installed.
    """

    class BatchNormWatch(_lightning()):  # type: ignore[misc]
        """Watches the module that is trained."""

        watch: Watch | None = None

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            """Begins; resumed trainings go on with their steps."""
            self.watch = Watch(pl_module, to=to, every=every)
            self.watch.at(trainer.global_step)
            self.watch.start()

        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            """The step that is on."""
            if self.watch is not None:
                self.watch.at(trainer.global_step)

        def on_before_backward(self, _: Any, __: Any, loss: Any) -> None:
            """The loss of the pass."""
            if self.watch is not None:
                self.watch.loss(loss)

        def on_train_end(self, *_: Any) -> None:
            """Ends."""
            self._end()

        def on_exception(self, *_: Any) -> None:
            """Ends; Lightning raises it again."""
            self._end()

        def _end(self) -> None:
            if self.watch is not None:
                self.watch.stop()
                self.watch = None

    return BatchNormWatch()


def _lightning() -> Any:
    """The class of Lightning's callbacks, whichever of its two packages there is."""
    for package in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return import_module(package).Callback
        except ImportError as error:
            cause = error
    raise missing("lightning", "lightning") from cause


def trainer_callback(*, to: Target | Sequence[Target], every: int = 100) -> Any:
    """A callback for `Trainer(callbacks=[...])` of Hugging Face; steps are `state.global_step`.

    Args:
        to: as for `bnaudit.watch`.
        every: how many steps lie between two records.

    Raises:
        UsageError: transformers is not installed.
    """
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise missing("transformers", "transformers") from error

    class BatchNormWatch(TrainerCallback):  # type: ignore[misc]
        """Watches the model that is trained."""

        watch: Watch | None = None

        def on_train_begin(self, _: Any, state: Any, __: Any, **given: Any) -> None:
            """Begins; resumed trainings go on with their steps."""
            self.watch = Watch(given["model"], to=to, every=every)
            self.watch.at(state.global_step)
            self.watch.start()

        def on_step_begin(self, _: Any, state: Any, __: Any, **___: Any) -> None:
            """The step that is on."""
            if self.watch is not None:
                self.watch.at(state.global_step)

        def on_train_end(self, *_: Any, **__: Any) -> None:
            """Ends."""
            if self.watch is not None:
                self.watch.stop()
                self.watch = None

    return BatchNormWatch()
