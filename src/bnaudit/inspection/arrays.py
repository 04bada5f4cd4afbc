"""Arrays by name (.npz, pickles of numpy arrays, Keras' HDF5): BatchNorm by the names, as in a state_dict."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.inspection.checkpoint import inspect_names
from bnaudit.load.weights.arrays import open_npz, open_pickled
from bnaudit.load.weights.keras import open_keras

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.inspection import BatchNormStatics, Inspection


def inspect_npz(path: Path) -> Inspection:
    """What the arrays of an archive say of BatchNorm.

    Raises:
        InputError: it is damaged, or nothing in it is named as a layer's weights are: sample batches are
            such archives too.
    """
    found = inspect_names(open_npz(path), "numpy", None, {"format": "npz"})
    layers = found.batchnorms or (found.absence is not None and found.absence.case != "none")
    if not layers:
        raise InputError(
            f"{path}: numpy arrays (.npz), not a model", hint="sample batches go to --data"
        )
    return found


def inspect_pickled(path: Path) -> Inspection:
    """What a pickle of arrays says of BatchNorm; it is read as data, and only short arrays are kept.

    Raises:
        InputError: it is damaged, or holds no named arrays.
    """
    return inspect_names(open_pickled(path), "pickle", None, {"format": "pickle"})


def inspect_keras(path: Path) -> Inspection:
    """What a `.keras` archive, a whole model or weights in HDF5 store of BatchNorm.

    eps and momentum are those of the layers' configuration, where the file has it; Keras' momentum is the
    weight of the old statistics, PyTorch's that of the new batch.

    Raises:
        InputError: it is damaged, or h5py is not installed.
    """
    stored, layers = open_keras(path)
    version = stored.top.get("keras_version")
    producer = f"keras {version[:40]}" if version and isinstance(version, str) else None
    found = inspect_names(stored, "keras", producer, {"format": stored.form})

    def configured(layer: BatchNormStatics) -> BatchNormStatics:
        settings = layers.get(layer.name, {})
        eps, kept = settings.get("epsilon"), settings.get("momentum")
        return replace(
            layer,
            eps=float(eps) if isinstance(eps, (int, float)) else None,
            momentum=round(1 - kept, 9) if isinstance(kept, (int, float)) else None,
        )

    return replace(found, batchnorms=tuple(map(configured, found.batchnorms)))
