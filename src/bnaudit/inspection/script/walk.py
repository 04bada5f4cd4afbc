"""Following the tensors through the text of a TorchScript program, every call inlined.

Both branches of an `if` are walked and a loop's body once, as the inlined graph has them; what
differs between branches or from one round to the next is unknown afterwards, unless the file's own
constants (the training flag) decide for a branch. Nothing is computed.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from bnaudit.inspection.script.code import literal
from bnaudit.inspection.script.values import (
    UNKNOWN,
    Constant,
    Function,
    Module,
    Node,
    Several,
    Stored,
    Trace,
)
from bnaudit.load.pickles.objects import Opaque, StoredTensor

if TYPE_CHECKING:
    from bnaudit.inspection.script.code import Code

_MAX_STEPS = 2_000_000
_MAX_DEPTH = 80
_ASK_ONLY = {"size", "dim", "len", "numel", "ne", "eq", "__not__", "dtype", "device", "shape"}
_VIEWS = {
    "view",
    "reshape",
    "flatten",
    "transpose",
    "permute",
    "select",
    "slice",
    "squeeze",
    "unsqueeze",
    "narrow",
    "expand",
    "detach",
    "contiguous",
    "t",
}
_SAME = {"annotate", "unchecked_cast"}


class _TooLongError(Exception):
    """The program is longer than any network's."""


class Walk:
    """One walk from a module's forward.

    Args:
        code: the file's code.
        constants: tensors that the code calls CONSTANTS.c0, c1, ...
    """

    def __init__(self, code: Code, constants: tuple[Any, ...]) -> None:
        self.code = code
        self.constants = constants
        self.trace = Trace()
        self._steps = 0
        self._depth = 0
        self._shadow = 0
        self._owners: list[Module] = []

    def run(self, root: Module, method: str = "forward") -> Trace:
        """Walks; never fails."""
        definition = root.cls.methods.get(method)
        if definition is None:
            return self.trace
        count = max(len(definition.args.args) - 1, 0)
        try:
            result = self._call(definition, [root, *(Node("input") for _ in range(count))], root)
            self._read((result,))
        except (_TooLongError, RecursionError):
            self.trace.complete = False
        return self.trace

    def _call(self, definition: ast.FunctionDef, args: list[Any], owner: Module | None) -> Any:
        if self._depth > _MAX_DEPTH:
            raise _TooLongError
        names = [a.arg for a in definition.args.args]
        defaults = definition.args.defaults
        env: dict[str, Any] = dict.fromkeys(names, UNKNOWN)
        for name, default in zip(names[len(names) - len(defaults) :], defaults, strict=True):
            env[name] = self._expression(default, {})
        env.update(zip(names, args, strict=False))
        self._depth += 1
        if owner is not None:
            self._owners.append(owner)
        result = self._block(definition.body, env)
        if owner is not None:
            self._owners.pop()
        self._depth -= 1
        return result

    def _block(self, body: list[ast.stmt], env: dict[str, Any]) -> Any:
        result: Any = Constant(None)
        for statement in body:
            self._step()
            match statement:
                case ast.Assign(targets=[target], value=value):
                    self._assign(target, self._expression(value, env), env)
                case ast.AnnAssign(target=target, value=value) if value is not None:
                    self._assign(target, self._expression(value, env), env)
                case ast.Expr(value=value):
                    self._expression(value, env)
                case ast.Return(value=value):
                    result = Constant(None) if value is None else self._expression(value, env)
                case ast.If():
                    self._branch(statement, env)
                case ast.For(body=inner) | ast.While(body=inner):
                    self._loop(inner, env)
        return result

    def _assign(self, target: ast.expr, value: Any, env: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            env[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            for i, inner in enumerate(target.elts):
                self._assign(inner, self._part(value, i), env)

    def _part(self, value: Any, index: Any) -> Any:
        """A member of a list, or one of the results of an operator that has several."""
        if isinstance(value, Several) and type(index) is int and -1 <= index < len(value.members):
            return value.members[index]
        self._read((value,))
        if not isinstance(value, Node) or value is UNKNOWN:
            return UNKNOWN
        return Node(value.op, (value,), value.owner, value.op, skipped=value.skipped)

    def _branch(self, statement: ast.If, env: dict[str, Any]) -> None:
        test = self._expression(statement.test, env)
        decided = test.value if isinstance(test, Constant) and type(test.value) is bool else None
        ends = []
        for taken, body in ((True, statement.body), (False, statement.orelse)):
            end = dict(env)
            off = decided is not None and decided is not taken
            self._shadow += off
            self._block(body, end)
            self._shadow -= off
            ends.append(end)
        if decided is not None:
            env.update(ends[0] if decided else ends[1])
            return
        for name in ends[0].keys() | ends[1].keys():
            one, other = ends[0].get(name, UNKNOWN), ends[1].get(name, UNKNOWN)
            if one is not other and one != other:
                self._read((one, other))
                one = UNKNOWN
            env[name] = one

    def _loop(self, body: list[ast.stmt], env: dict[str, Any]) -> None:
        changed = {
            name.id
            for statement in body
            for name in ast.walk(statement)
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        }
        for name in changed & env.keys():
            self._read((env[name],))
            env[name] = UNKNOWN
        self._block(body, env)
        for name in changed:
            self._read((env.get(name, UNKNOWN),))
            env[name] = UNKNOWN

    def _expression(self, node: ast.expr, env: dict[str, Any]) -> Any:
        self._step()
        result: Any
        match node:
            case ast.Constant(value=value):
                result = Constant(value)
            case ast.Name(id=name):
                result = env.get(name, UNKNOWN)
            case ast.Attribute():
                result = self._attribute(node, env)
            case ast.Call():
                result = self._called(node, env)
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                result = Several(tuple(self._expression(e, env) for e in elements))
            case ast.Subscript(value=value, slice=index):
                result = self._part(self._expression(value, env), literal(index))
            case _:
                result = self._other(node, env)
        return result

    def _other(self, node: ast.expr, env: dict[str, Any]) -> Any:
        number = literal(node) if isinstance(node, ast.UnaryOp) else ...
        if number is not ...:
            return Constant(number)
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.expr):
                self._read((self._expression(inner, env),))
        return UNKNOWN

    def _attribute(self, node: ast.Attribute, env: dict[str, Any]) -> Any:
        path = dotted(node)
        if path.startswith("CONSTANTS.c") and path[11:].isdigit():
            index = int(path[11:]) if len(path) < 20 else -1
            found = self.constants[index] if 0 <= index < len(self.constants) else None
            return Stored(path, found) if isinstance(found, StoredTensor) else Constant(found)
        if path in self.code.functions:
            return Function(self.code.functions[path])
        return self._member(self._expression(node.value, env), node.attr)

    def _member(self, owner: Any, name: str) -> Any:
        if not isinstance(owner, Module):
            return UNKNOWN
        value = owner.instance.state.get(name, owner.cls.constants.get(name, ...))
        path = f"{owner.path}.{name}" if owner.path else name
        if isinstance(value, StoredTensor):
            return Stored(path, value)
        if isinstance(value, Opaque):
            cls = self.code.classes.get(str(value.maker))
            return UNKNOWN if cls is None else Module(path, value, cls)
        return UNKNOWN if value is ... else Constant(value)

    def _called(self, node: ast.Call, env: dict[str, Any]) -> Any:
        path = dotted(node.func)
        if path == "getattr" and len(node.args) == 2:
            return self._member(self._expression(node.args[0], env), str(literal(node.args[1])))
        if path in _SAME and len(node.args) == 2:
            return self._expression(node.args[1], env)
        function: Any = None
        owner: Any = None
        if isinstance(node.func, ast.Name):
            function = env.get(path)
        elif isinstance(node.func, ast.Attribute) and not path.startswith(("torch.", "ops.")):
            function = self.code.functions.get(path)
            owner = None if function else self._expression(node.func.value, env)
        args = [self._expression(a, env) for a in node.args]
        extra = [self._expression(k.value, env) for k in node.keywords]
        if isinstance(function, Function):
            function = function.definition
        if isinstance(owner, Module) and isinstance(node.func, ast.Attribute):
            function = owner.cls.methods.get(node.func.attr)
            args.insert(0, owner)
        if isinstance(function, ast.FunctionDef) and not extra:
            return self._call(function, args, owner)
        return self._operator(path, args, extra)

    def _operator(self, path: str, args: list[Any], extra: list[Any]) -> Any:
        op = path.removeprefix("torch.")
        if op == "__not__" and isinstance(args[0], Constant):
            return Constant(not args[0].value)
        if op in _ASK_ONLY or not path.startswith(("torch.", "ops.")):
            if op not in _ASK_ONLY:
                self._read((*args, *extra))
            return UNKNOWN
        if op.rstrip("_").endswith("dropout") and len(args) > 1 and args[1] == Constant(0.0):
            return args[0]  # libraries leave dropout of rate 0 in place
        owner = self._owners[-1] if self._owners else None
        made = Node(op, tuple(args), owner, skipped=self._shadow > 0)
        if args and isinstance(args[0], Node):
            made.reads = args[0].overwritten or args[0].op
        self._read((*args, *extra))
        self.trace.calls.append(made)
        if op.endswith("_") and not op.endswith("__") and args and not self._shadow:
            self._overwrite(args[0], op)
        return made

    def _overwrite(self, value: Any, op: str) -> None:
        """An operator in place changes what it is given, and whatever that is a view of."""
        while isinstance(value, Node) and value is not UNKNOWN:
            self._step()
            value.overwritten = op
            if value.op not in _VIEWS or not value.args:
                return
            value = value.args[0]

    def _read(self, values: tuple[Any, ...]) -> None:
        for value in values:
            self._step()
            if isinstance(value, Several):
                self._read(value.members)
            elif isinstance(value, Node) and value is not UNKNOWN:
                # A branch that is not taken reads what is made in such branches only.
                value.readers += value.skipped or not self._shadow

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise _TooLongError


def dotted(node: ast.expr) -> str:
    """The name of an expression like torch.conv2d, "" of any other."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""
