"""The pickle machine, without the parts that can run code.

`pickle.Unpickler` imports the classes a file names and calls them. Here a name stays a name
(`Global`), a call is written down (`Opaque`) unless it builds one of the few things of
`rebuild.py`, and attributes are kept in a dict. Opcodes: `pickletools` in the standard library.

Sharing is free in a pickle, so that a short one can describe an endless tree: whoever walks the
result has to bound the walk. Keys are checked here, because hashing walks too.
"""

from __future__ import annotations

import codecs
import struct
from typing import TYPE_CHECKING, Any

from bnaudit.load.pickles.objects import DamagedError, Global, Opaque, key
from bnaudit.load.pickles.rebuild import call, new

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.load.pickles.source import Source

MAX_STEPS = 10_000_000
"""A tensor takes about 33 of them: room for 300,000 tensors."""

_MAX_INT_BYTES = 1 << 10
_MAX_DIGITS = 400
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
                _OPCODES.get(code, _unknown)(self)
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
        target.given = state if isinstance(state, tuple) else None
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


def _mark(m: Machine) -> None:
    m.marks.append(m.stack)
    m.stack = []


def _pop(m: Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.since_mark()


def _tuple(m: Machine, count: int) -> None:
    values = tuple(m.stack[-count:])
    if len(values) < count:
        raise DamagedError("its instructions make no sense")
    m.stack[-count:] = [values]


def _marked_tuple(m: Machine) -> None:
    values = tuple(m.since_mark())
    m.push(values)


def _marked_list(m: Machine) -> None:
    values = m.since_mark()
    m.push(values)


def _marked_dict(m: Machine) -> None:
    values = m.since_mark()
    m.push({})
    m.set_items(values)


def _append(m: Machine) -> None:
    value = m.stack.pop()
    m.append([value])


def _appends(m: Machine) -> None:
    values = m.since_mark()
    m.append(values)


def _set_item(m: Machine) -> None:
    value = m.stack.pop()
    name = m.stack.pop()
    m.set_items([name, value])


def _set_items(m: Machine) -> None:
    values = m.since_mark()
    m.set_items(values)


def _global(m: Machine) -> None:
    module = m.source.line()
    m.push(m.find(module, m.source.line()))


def _stack_global(m: Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise DamagedError("it names a class by something that is no name")
    m.push(m.find(module, name))


def _inst(m: Machine) -> None:
    module = m.source.line()
    cls = m.find(module, m.source.line())
    args = tuple(m.since_mark())
    m.push(new(cls, args))


def _obj(m: Machine) -> None:
    cls, *args = m.since_mark()
    m.push(new(cls, tuple(args)))


def _persistent(m: Machine) -> None:
    m.push(m.persistent(m.stack.pop()))


def _int(m: Machine) -> None:
    text = m.source.line()
    if len(text) > _MAX_DIGITS:
        raise DamagedError("it holds an absurdly long number")
    m.push(text == "01" if text in ("00", "01") else int(text))


def _long(m: Machine) -> None:
    text = m.source.line()
    if len(text) > _MAX_DIGITS:
        raise DamagedError("it holds an absurdly long number")
    m.push(int(text.removesuffix("L")))


def _string(m: Machine) -> None:
    text = m.source.line().strip()
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        raise DamagedError("a string of it does not end")
    m.push(codecs.escape_decode(text[1:-1].encode("latin-1"))[0].decode("utf-8", "replace"))


def _unicode(m: Machine) -> None:
    m.push(m.source.line().encode("latin-1").decode("raw-unicode-escape", "replace"))


def _double(m: Machine) -> None:
    m.push(struct.unpack(">d", m.source.take(8))[0])


def _copy_top(m: Machine) -> None:
    m.push(m.stack[-1])


# One line an opcode of protocols 0 to 5. What is not here (EXT, out-of-band buffers) is refused.
_OPCODES: dict[bytes, Callable[[Machine], object]] = {
    # frame and memo
    b"\x80": lambda m: m.source.take(1),  # PROTO
    b"\x95": lambda m: m.source.take(8),  # FRAME
    b"p": lambda m: m.remember(int(m.source.line())),  # PUT
    b"q": lambda m: m.remember(m.source.number(1)),  # BINPUT
    b"r": lambda m: m.remember(m.source.number(4)),  # LONG_BINPUT
    b"\x94": lambda m: m.remember(len(m.memo)),  # MEMOIZE
    b"g": lambda m: m.push(m.memo[int(m.source.line())]),  # GET
    b"h": lambda m: m.push(m.memo[m.source.number(1)]),  # BINGET
    b"j": lambda m: m.push(m.memo[m.source.number(4)]),  # LONG_BINGET
    # the stack
    b"(": _mark,
    b"0": _pop,
    b"1": lambda m: m.since_mark(),  # POP_MARK
    b"2": _copy_top,  # DUP
    # constants
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": _int,
    b"J": lambda m: m.push(m.source.number(4, signed=True)),  # BININT
    b"K": lambda m: m.push(m.source.number(1)),  # BININT1
    b"M": lambda m: m.push(m.source.number(2)),  # BININT2
    b"L": _long,
    b"\x8a": lambda m: m.push(m.integer(m.source.number(1))),  # LONG1
    b"\x8b": lambda m: m.push(m.integer(m.source.number(4))),  # LONG4
    b"F": lambda m: m.push(float(m.source.line())),
    b"G": _double,
    # strings
    b"S": _string,
    b"T": lambda m: m.push(m.source.text(m.source.number(4))),  # BINSTRING
    b"U": lambda m: m.push(m.source.text(m.source.number(1))),  # SHORT_BINSTRING
    b"V": _unicode,
    b"X": lambda m: m.push(m.source.text(m.source.number(4))),  # BINUNICODE
    b"\x8c": lambda m: m.push(m.source.text(m.source.number(1))),  # SHORT_BINUNICODE
    b"\x8d": lambda m: m.push(m.source.text(m.source.number(8))),  # BINUNICODE8
    b"B": lambda m: m.push(m.source.blob(m.source.number(4))),  # BINBYTES
    b"C": lambda m: m.push(m.source.blob(m.source.number(1))),  # SHORT_BINBYTES
    b"\x8e": lambda m: m.push(m.source.blob(m.source.number(8))),  # BINBYTES8
    b"\x96": lambda m: m.push(m.source.blob(m.source.number(8))),  # BYTEARRAY8
    # containers; sets are kept as lists, nobody asks for their members
    b")": lambda m: m.push(()),
    b"\x85": lambda m: _tuple(m, 1),
    b"\x86": lambda m: _tuple(m, 2),
    b"\x87": lambda m: _tuple(m, 3),
    b"t": _marked_tuple,
    b"]": lambda m: m.push([]),
    b"l": _marked_list,
    b"a": _append,
    b"e": _appends,
    b"}": lambda m: m.push({}),
    b"d": _marked_dict,
    b"s": _set_item,
    b"u": _set_items,
    b"\x8f": lambda m: m.push([]),  # EMPTY_SET
    b"\x90": _appends,  # ADDITEMS
    b"\x91": _marked_list,  # FROZENSET
    # classes, calls, attributes: recorded
    b"c": _global,
    b"\x93": _stack_global,
    b"i": _inst,
    b"o": _obj,
    b"R": lambda m: m.call_top(),
    b"\x81": lambda m: m.new_top(),  # NEWOBJ
    b"\x92": lambda m: m.new_top(keywords=True),  # NEWOBJ_EX
    b"b": lambda m: m.build(),
    b"P": lambda m: m.push(m.persistent(m.source.line())),  # PERSID
    b"Q": _persistent,  # BINPERSID
}


def _unknown(_: Machine) -> None:
    raise DamagedError("it has an instruction that is unknown or not allowed")
