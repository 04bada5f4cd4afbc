"""A TorchScript file taken apart: the tree of its modules, its code, and a walk through forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnaudit.inspection.layers import Layer
from bnaudit.inspection.script.code import Code, read_code
from bnaudit.inspection.script.values import Module, Trace
from bnaudit.inspection.script.walk import Walk
from bnaudit.load.pickles.objects import DamagedError, Opaque, StoredTensor

if TYPE_CHECKING:
    from bnaudit.load.pickles.archive import Archive

_MAX_MODULES = 200_000
_MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Program:
    """What the file holds.

    Attributes:
        layers: its modules, parents first, in the order of registration.
        code: its classes and functions.
        root: the module that was saved, None where its class is not in the code.
        trace: the calls of its forward.
        parameters: number of scalar parameters.
        constants: tensors of the code.
        mobile: whether it was saved for the lite interpreter.
    """

    layers: tuple[Layer, ...]
    code: Code
    root: Module | None
    trace: Trace
    parameters: int
    constants: tuple[StoredTensor, ...]
    mobile: bool


def read_program(archive: Archive) -> Program:
    """Takes a file apart; nothing of it is run.

    Raises:
        DamagedError: it is no TorchScript file, or damaged.
    """
    content = archive.unpickle("data.pkl", "data")
    if not isinstance(content, Opaque):
        raise DamagedError("it holds no module")
    code = read_code(archive)
    found: Any = ()
    if "constants.pkl" in archive:
        found = archive.unpickle("constants.pkl", "constants")
    constants = found if isinstance(found, tuple) else ()
    layers, parameters = _tree(content, code)
    cls = code.classes.get(str(content.maker))
    root = None if cls is None else Module("", content, cls)
    return Program(
        layers=tuple(layers),
        code=code,
        root=root,
        trace=Trace() if root is None else Walk(code, constants).run(root),
        parameters=parameters,
        constants=tuple(c for c in constants if isinstance(c, StoredTensor)),
        mobile="bytecode.pkl" in archive,
    )


def _tree(root: Opaque, code: Code) -> tuple[list[Layer], int]:
    """(modules under every path they are registered at, number of scalar parameters)."""
    layers: list[Layer] = []
    sizes: dict[tuple[object, ...], int] = {}
    waiting: list[tuple[str, Opaque, int]] = [("", root, 0)]
    while waiting:
        path, instance, depth = waiting.pop()
        if len(layers) > _MAX_MODULES or depth > _MAX_DEPTH:
            raise DamagedError("its modules contain each other without end")
        cls = code.classes.get(str(instance.maker))
        state = {n: v for n, v in instance.state.items() if isinstance(n, str)}
        values = {n: v for n, v in cls.constants.items() if v is not ...} if cls is not None else {}
        home = instance.home.removeprefix("__torch__").removeprefix(".")
        plain = ".".join(
            part for part in home.split(".") if not part.startswith("___torch_mangle_")
        )
        layer = Layer(path, instance.kind, plain, {**values, **state})
        layers.append(layer)
        for name in cls.parameters if cls is not None else ():
            tensor = instance.state.get(name)
            if isinstance(tensor, StoredTensor) and tensor.storage is not None:
                sizes[tensor.storage.key, tensor.offset, tensor.shape] = tensor.numel
        children = [
            (f"{path}.{name}" if path else name, child, depth + 1)
            for name, child in instance.state.items()
            if isinstance(name, str) and isinstance(child, Opaque) and _is_module(child, code)
        ]
        waiting += reversed(children)
    return layers, sum(sizes.values())


def _is_module(value: Opaque, code: Code) -> bool:
    cls = code.classes.get(str(value.maker))
    return "training" in value.state if cls is None else cls.is_module
