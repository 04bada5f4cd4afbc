"""What an expression of a TorchScript program stands for, as far as its text tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ast

    from bnaudit.inspection.script.code import ScriptClass
    from bnaudit.load.pickles.objects import Opaque, StoredTensor


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """A submodule, under one of the paths it is registered at."""

    path: str
    instance: Opaque
    cls: ScriptClass


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A tensor of the file, by the name of its attribute or constant."""

    name: str
    tensor: StoredTensor


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal, or an attribute that is none of the above."""

    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function of the program's code."""

    definition: ast.FunctionDef


@dataclass(frozen=True, slots=True, eq=False)
class Several:
    """A list or tuple."""

    members: tuple[Any, ...]


@dataclass(slots=True, eq=False)
class Node:
    """A call of an operator.

    Attributes:
        op: its name without the "torch." ("conv2d").
        args: its arguments in their order; keyword arguments are not among them.
        owner: the module whose code has the call.
        reads: the operator whose result its first argument is, at that moment.
        readers: how many operators read its result.
        overwritten: name of an operator that has changed its result in place since.
        skipped: whether it stands in a branch that the file's own constants do not take.
    """

    op: str
    args: tuple[Any, ...] = ()
    owner: Module | None = None
    reads: str = ""
    readers: int = 0
    overwritten: str | None = None
    skipped: bool = False


UNKNOWN = Node("")
"""Something that the text does not tell, a merge of branches for one."""


@dataclass(slots=True)
class Trace:
    """What a walk through the program saw.

    Attributes:
        calls: operators in the order of the inlined graph.
        complete: False where the walk gave up on its length.
    """

    calls: list[Node] = field(default_factory=list)
    complete: bool = True
