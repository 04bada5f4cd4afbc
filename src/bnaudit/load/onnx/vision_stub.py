"""Importing onnx2torch where torchvision is missing or broken.

onnx2torch imports torchvision for two operators of detectors (NMS and RoiAlign). A torchvision that
was built for another torch fails at import, and would take every other model down with it.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAME = "torchvision"
_OPERATORS = ("nms", "box_convert", "roi_align")


class Library(NamedTuple):
    """The parts of onnx2torch that are used.

    Attributes:
        converter: (operator, version, domain) -> its converter.
        node: a node as converters take it.
        graph: a graph as converters take it.
    """

    converter: Callable[[str, int, str], Callable[..., tuple[Any, Any]]]
    node: Callable[..., Any]
    graph: Callable[..., Any]


@cache
def import_onnx2torch() -> Library:
    """Imports onnx2torch, once a process."""
    with warnings.catch_warnings(), working_torchvision():
        warnings.simplefilter("ignore")
        converters = import_module("onnx2torch.node_converters")
        return Library(
            converters.get_converter,
            import_module("onnx2torch.onnx_node").OnnxNode,
            import_module("onnx2torch.onnx_graph").OnnxGraph,
        )


@contextmanager
def working_torchvision() -> Iterator[None]:
    """For its duration `import torchvision` succeeds; nothing of a stub stays in sys.modules."""
    if _importable():
        yield
        return
    leftovers = _take_out()
    package, operators = ModuleType(_NAME), ModuleType(f"{_NAME}.ops")
    for name in _OPERATORS:
        setattr(operators, name, _missing(name))
    package.ops = operators  # type: ignore[attr-defined]
    stub = {_NAME: package, f"{_NAME}.ops": operators}
    sys.modules.update(stub)
    try:
        yield
    finally:
        _take_out()
        sys.modules.update(leftovers)


def _importable() -> bool:
    before = set(sys.modules)
    try:
        import_module(_NAME)
    except Exception:
        # A mismatched build raises whatever it likes, and the failed import
        # leaves submodules behind that a later one would trip over.
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == _NAME:
                del sys.modules[name]
        return False
    return True


def _take_out() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] == _NAME]
    return {name: sys.modules.pop(name) for name in names}


def _missing(name: str) -> Callable[..., NoReturn]:
    def call(*_: object, **__: object) -> NoReturn:
        raise RuntimeError(f"the model needs torchvision.ops.{name}: install a working torchvision")

    return call
