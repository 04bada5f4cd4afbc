"""The classes and functions in the `code/` folder of a TorchScript file."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnaudit.load.pickles.archive import Archive

_MAX_CODE = 1 << 26
_UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclass(frozen=True, slots=True)
class ScriptClass:
    """One class of the code.

    Attributes:
        name: qualified ("__torch__.torch.nn.modules.batchnorm.___torch_mangle_3.BatchNorm2d").
        is_module: whether it is a module, not a tuple or a custom class.
        parameters: names of the attributes that are parameters.
        constants: attributes whose value is part of the type (`Final`).
        methods: name -> its definition.
    """

    name: str
    is_module: bool
    parameters: tuple[str, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)
    methods: Mapping[str, ast.FunctionDef] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The class's own name, as it was before it was compiled."""
        return self.name.rpartition(".")[2]


@dataclass(slots=True)
class Code:
    """All of it.

    Attributes:
        classes: qualified name -> class.
        functions: qualified name -> function.
        unread: files that are not the grammar expected.
        text_marks: words of interest that occur in the text.
    """

    classes: dict[str, ScriptClass] = field(default_factory=dict)
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    text_marks: set[str] = field(default_factory=set)


MARKS = ("_fused_bn", "mkldnn", "ops.quantized.")
"""What only optimised and quantised programs say."""


def read_code(archive: Archive) -> Code:
    """Parses every code file.

    Raises:
        DamagedError: one is missing its bytes.
    """
    code = Code()
    left = _MAX_CODE
    for name in archive.names():
        if not name.startswith("code/") or not name.endswith(".py"):
            continue
        left -= archive.size(name)
        if left < 0:
            code.unread.append(name)
            continue
        text = archive.small(name, _MAX_CODE).decode("utf-8", "replace")
        code.text_marks.update(mark for mark in MARKS if mark in text)
        tree = _parsed(text)
        if tree is None:
            code.unread.append(name)
            continue
        home = name.removeprefix("code/").removesuffix(".py").replace("/", ".")
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                found = _class(node, home)
                code.classes[found.name] = found
            elif isinstance(node, ast.FunctionDef):
                code.functions[f"{home}.{node.name}"] = node
    return code


def _parsed(text: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes in strings are the author's business
        try:
            return ast.parse(text)
        except _UNPARSABLE:
            return None


def _class(node: ast.ClassDef, home: str) -> ScriptClass:
    parameters: tuple[str, ...] = ()
    constants: dict[str, Any] = {}
    methods: dict[str, ast.FunctionDef] = {}
    for entry in node.body:
        if isinstance(entry, ast.FunctionDef):
            methods[entry.name] = entry
        elif isinstance(entry, ast.AnnAssign) and entry.value is not None:
            if isinstance(entry.target, ast.Name):
                constants[entry.target.id] = literal(entry.value)
        elif isinstance(entry, ast.Assign) and isinstance(entry.targets[0], ast.Name):
            names = literal(entry.value)
            if entry.targets[0].id == "__parameters__" and isinstance(names, list):
                parameters = tuple(n for n in names if isinstance(n, str))
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    return ScriptClass(f"{home}.{node.name}", "Module" in bases, parameters, constants, methods)


def literal(node: ast.expr) -> Any:
    """The value of a literal, Ellipsis for anything else."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return ...
