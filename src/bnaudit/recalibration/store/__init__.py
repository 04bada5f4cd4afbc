"""Where a model keeps its running statistics: found by layer, written in the type and place that they have.

A new format is one file here and a branch in `open_store`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bnaudit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnaudit.load.model import LoadedModel
    from bnaudit.options import AuditOptions
    from bnaudit.recalibration.passes import Layer
    from bnaudit.recalibration.store.base import Store


def open_store(
    model: object,
    loaded: LoadedModel,
    options: AuditOptions,
    entry: str | None,
    layers: Mapping[str, Layer],
) -> Store:
    """The store of a model.

    Args:
        model: as the user named it.
        loaded: the same, loaded.
        options: how; the weights of a factory's network are where its statistics are.
        entry: of a checkpoint with several networks, the one that was loaded.
        layers: those that ran.

    Raises:
        InputError: the file cannot be read.
        UsageError: there is no file to write statistics of.
    """
    if loaded.format == "onnx" and loaded.path is not None:
        from bnaudit.recalibration.store.onnx import OnnxStore

        return OnnxStore.open(loaded.path, layers)
    from bnaudit.recalibration.store import tensors

    if loaded.format == "torchscript" and loaded.path is not None:
        return tensors.of_torchscript(loaded.path, layers)
    if loaded.format == "exported" and loaded.path is not None:
        return tensors.of_exported(loaded.path, layers)
    if not isinstance(model, (str, Path)):
        from bnaudit.recalibration.store.live import LiveStore

        return LiveStore.open(loaded.module, layers)
    if options.weights is None:
        raise UsageError(
            f"{model}: no weights were given, so there is no file to write statistics of",
            hint="name the checkpoint of this network: --weights FILE",
        )
    return tensors.of_weights(Path(options.weights), loaded.module, layers, entry)
