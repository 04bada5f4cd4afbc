"""BatchNorm while a network trains: a few passes are looked at, nothing of the training is changed.

>>> with bnaudit.watch(net, every=100, to="run.jsonl") as watch:   # doctest: +SKIP
...     train(net)

docs/watch.md says what a step is, what is recorded, and where records can go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnaudit.watching.callbacks import lightning_callback, trainer_callback
    from bnaudit.watching.sinks import JsonLines, MLflow, TensorBoard, WandB
    from bnaudit.watching.watcher import Watch, watch

__all__ = [
    "JsonLines",
    "MLflow",
    "TensorBoard",
    "WandB",
    "Watch",
    "lightning_callback",
    "trainer_callback",
    "watch",
]

_HOMES = {
    "watcher": ("Watch", "watch"),
    "sinks": ("JsonLines", "MLflow", "TensorBoard", "WandB"),
    "callbacks": ("lightning_callback", "trainer_callback"),
}


def __getattr__(name: str) -> Any:
    """Imports on first use, as `bnaudit` itself."""
    for home, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f"bnaudit.watching.{home}"), name)
    raise AttributeError(f"module 'bnaudit.watching' has no attribute {name!r}")
