"""The pickle machine, without the parts that can run code.

`pickle.Unpickler` imports the classes a file names and calls them. Here a name stays a name
(`Global`), a call is written down (`Opaque`) unless it builds one of the few things of
`rebuild.py`, and attributes are kept in a dict. Opcodes: `pickletools` in the standard library.

Sharing is free in a pickle, so that a short one can describe an endless tree: whoever walks the
result has to bound the walk. Keys are checked here, because hashing walks too.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from bnaudit.load.pickles.objects import DamagedError, Global, Opaque, key
from bnaudit.load.pickles.opcodes import OPCODES
from bnaudit.load.pickles.rebuild import call, new

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.load.pickles.source import Source

MAX_STEPS = 10_000_000
"""A tensor takes about 33 of them: room for 300,000 tensors."""

_MAX_INT_BYTES = 1 << 10
_NONSENSE = (
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    AttributeError,
    struct.error,
)


class Machine:
    """Reads one pickle.

    Args:
        source: where it begins.
        persistent: gives the object of an id that the file keeps outside the pickle.
    """

    source: Source
    persistent: Callable[[Any], Any]
    stack: list[Any]
    marks: list[list[Any]]
    memo: dict[int, Any]

    def __init__(self, source: Source, persistent: Callable[[Any], Any]) -> None:
        self.source = source
        self.persistent = persistent
        self.stack = []
        self.marks = []
        self.memo = {}
        self._globals: dict[tuple[str, str], Global] = {}

    def load(self) -> Any:
        """The object that the pickle describes.

        Raises:
            DamagedError: it is no pickle, cut off, or larger than any checkpoint's.
        """
        take = self.source.take
        try:
            for _ in range(MAX_STEPS):
                code = take(1)
                if code == b".":
                    return self.stack.pop()
                OPCODES.get(code, _unknown)(self)
        except DamagedError:
            raise
        except _NONSENSE as error:
            raise DamagedError("its instructions make no sense") from error
        raise DamagedError("its pickle is longer than any checkpoint's")

    def push(self, value: Any) -> None:
        """Onto the stack."""
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        """What was pushed since the last mark."""
        found = self.stack
        self.stack = self.marks.pop()
        return found

    def find(self, module: str, name: str) -> Global:
        """The record of a name, one for all its uses."""
        key = (module, name)
        if key not in self._globals:
            self._globals[key] = Global(module, name)
        return self._globals[key]

    def remember(self, index: int) -> None:
        """Puts the top of the stack into the memo."""
        self.memo[index] = self.stack[-1]

    def build(self) -> None:
        """Attributes of the object below them."""
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, Opaque):
            return  # the metadata of a state_dict, the attributes of a tensor
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                target.state.update(part)

    def set_items(self, pairs: list[Any]) -> None:
        """Key, value, key, value, ... into the mapping on top."""
        target = self.stack[-1]
        into = target.items if isinstance(target, Opaque) else target
        if not isinstance(into, dict) or len(pairs) % 2:
            raise DamagedError("it sets items of something that has none")
        for i in range(0, len(pairs), 2):
            into[key(pairs[i])] = pairs[i + 1]

    def append(self, values: list[Any]) -> None:
        """To the list on top."""
        target = self.stack[-1]
        into = target.elements if isinstance(target, Opaque) else target
        if not isinstance(into, list):
            raise DamagedError("it appends to something that is no list")
        into.extend(values)

    def integer(self, count: int) -> int:
        """A long integer; more digits than any counter has are refused."""
        if count > _MAX_INT_BYTES:
            raise DamagedError("it holds an absurdly long number")
        return self.source.number(count, signed=True)

    def call_top(self) -> None:
        """Function and arguments are replaced by the record of the call."""
        args = self.stack.pop()
        self.push(call(self.stack.pop(), args))

    def new_top(self, *, keywords: bool = False) -> None:
        """Class and arguments are replaced by an object without attributes."""
        if keywords:
            self.stack.pop()
        args = self.stack.pop()
        self.push(new(self.stack.pop(), args))


def _unknown(_: Machine) -> None:
    raise DamagedError("it has an instruction that is unknown or not allowed")
