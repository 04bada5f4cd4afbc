"""ONNX files into a PyTorch module with every BatchNorm left standing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.load.model import LoadedModel

__all__ = ["load_onnx"]


def load_onnx(path: Path) -> LoadedModel:
    """Loads an ONNX file as a module that runs its inference graph.

    Args:
        path: the file. External weights are read from its own folder only. Nothing is written.

    Raises:
        InputError: the file is damaged, its weights are missing, or it uses an operator that has no
            translation.
    """
    # onnx, torch and onnx2torch cost over a second together: only whoever loads pays.
    from bnaudit.load.onnx.loader import load

    return load(path)
