"""One line an opcode of pickle protocols 0 to 5. What is not here (EXT, out-of-band buffers) is refused."""

from __future__ import annotations

import codecs
import struct
from typing import TYPE_CHECKING

from bnaudit.load.pickles.objects import DamagedError
from bnaudit.load.pickles.rebuild import new

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.load.pickles.machine import Machine

_MAX_DIGITS = 400


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


OPCODES: dict[bytes, Callable[[Machine], object]] = {
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
