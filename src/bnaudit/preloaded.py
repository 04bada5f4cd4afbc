"""Everything that an audit imports, at once: for a process that those of many models are forked from."""

from __future__ import annotations

import gc
import pkgutil
import warnings
from importlib import import_module

import torch

import bnaudit
from bnaudit.load.onnx.vision_stub import import_onnx2torch

_NOT = ("bnaudit.__main__", "bnaudit.cli.", "bnaudit.fleet.")
"""Those that no audit runs, or that need an extra."""


def _import_all() -> None:
    torch.set_num_threads(1)  # threads do not survive a fork: none may be there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_onnx2torch()
        for module in pkgutil.walk_packages(bnaudit.__path__, "bnaudit."):
            if not module.name.startswith(_NOT):
                import_module(module.name)
        import_module("bnaudit.cli.auditing")
    gc.collect()
    gc.freeze()  # pages that the collector does not write to stay shared


_import_all()
