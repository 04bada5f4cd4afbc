"""The machine reads what pickle writes, and nothing that a pickle says is ever done."""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import operator
import os
import pickle
import struct
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bnaudit.load.pickles.machine import Machine
from bnaudit.load.pickles.objects import DamagedError, Global, Opaque
from bnaudit.load.pickles.source import Source

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def read(data: bytes) -> Any:
    def persistent(pid: Any) -> Any:
        raise DamagedError(f"persistent {pid!r}")

    return Machine(Source(io.BytesIO(data), len(data)), persistent).load()


PLAIN: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    255,
    65536,
    -(2**31),
    2**63,
    -(2**100),
    1.5,
    float("inf"),
    "",
    "layer1.0.bn1",
    "é\U0001f600\n'\"\\",
    b"",
    b"\x00\xff",
    [],
    [1, [2, [3]]],
    (),
    (1,),
    (1, 2),
    (1, 2, 3),
    (1, 2, 3, 4),
    {},
    {"a": {"b": (1, 2)}, 3: None, (1, "x"): 2.5},
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_come_back(protocol: int) -> None:
    for value in PLAIN:
        if isinstance(value, bytes) and protocol < 3:
            continue  # written as a call of _codecs.encode, which stays one
        assert read(pickle.dumps(value, protocol)) == value
    shared = ["x"] * 3
    again = read(pickle.dumps([shared, shared], protocol))
    assert again[0] is again[1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_containers_are_plain_and_classes_are_names(protocol: int) -> None:
    ordered = collections.OrderedDict([("b", 1), ("a", 2)])
    assert list(read(pickle.dumps(ordered, protocol)).items()) == [("b", 1), ("a", 2)]
    default = collections.defaultdict(list, {"x": [1]})
    assert read(pickle.dumps(default, protocol)) == {"x": [1]}
    assert sorted(read(pickle.dumps({3, 1}, protocol))) == [1, 3]
    space = read(pickle.dumps(argparse.Namespace(lr=0.1), protocol))
    assert isinstance(space, Opaque)
    path = read(pickle.dumps(Path("x"), protocol))
    assert isinstance(path, Opaque)
    assert path.kind == "PosixPath" or os.name == "nt"
    assert read(pickle.dumps(argparse.Namespace, protocol)) == Global("argparse", "Namespace")
    if protocol >= 2:
        assert (space.kind, space.home, space.state) == ("Namespace", "argparse", {"lr": 0.1})


class Evil:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def evils(mark: Path) -> dict[str, Any]:
    touch = f"touch {mark}"
    chain = Evil(getattr, Evil(__import__, "os"), "system")
    return {
        "system": Evil(os.system, touch),
        "eval": Evil(eval, f"open({str(mark)!r}, 'w')"),
        "exec": Evil(exec, f"open({str(mark)!r}, 'w')"),
        "open": Evil(open, str(mark), "w"),
        "mkdir": Evil(os.mkdir, str(mark)),
        "import": Evil(__import__, "antigravity"),
        "getattr chain": Evil(operator.methodcaller("__call__", touch).__class__, chain),
        "attrgetter": Evil(operator.attrgetter, "system"),
        "nested": {"a": [({"b": Evil(os.system, touch)},)]},
        "as a key": {Evil(os.system, touch): 1},
        "reconstructor": Evil(__import__("copyreg")._reconstructor, Evil, object, None),
        "loads": Evil(pickle.loads, pickle.dumps(Evil(os.system, touch))),
        "in an OrderedDict": Evil(collections.OrderedDict, [["a", Evil(os.system, touch)]]),
        "exit": Evil(sys.exit, 3),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", evils(Path("x")))
def test_nothing_is_executed(tmp_path: Path, name: str, protocol: int) -> None:
    mark = tmp_path / "done"
    data = pickle.dumps(evils(mark)[name], protocol)
    before = set(sys.modules)
    read(data)
    assert not mark.exists()
    assert "antigravity" not in set(sys.modules) - before


def test_the_attacks_work_on_pickle(tmp_path: Path) -> None:
    """Otherwise the test above would show nothing."""
    for name in ("system", "mkdir", "nested", "loads"):
        mark = tmp_path / name
        pickle.loads(pickle.dumps(evils(mark)[name]))  # noqa: S301
        assert mark.exists(), name


def test_building_and_setting_on_names_is_recorded_only() -> None:
    module, name = __name__, "Evil"
    text = f"c{module}\n{name}\n".encode()
    # Evil.__dict__.update, Evil.append, Evil.__setitem__, type.__new__
    for code in (b"}X\x04\x00\x00\x00evil\x88sb.", b"\x88a.", b"X\x01\x00\x00\x00k\x88s."):
        with contextlib.suppress(DamagedError):
            read(text + code)
        assert not hasattr(Evil, "evil")
    found = read(text + b")\x81}X\x09\x00\x00\x00__class__\x88sb.")
    assert isinstance(found, Opaque)
    assert type(found) is Opaque
    assert found.state == {"__class__": True}


BOMBS: dict[str, bytes] = {
    "deep list": b"]" * 300_000 + b"a" * 299_999 + b".",
    "deep tuple": b")" + b"\x85" * 300_000 + b".",
    "deep tuple as a key": b"}" + b")" + b"\x85" * 300_000 + b"Ns.",
    "doubling tuple as a key": b"}" + b")" + b"2\x86" * 60 + b"Ns.",
    "doubling list": b"]" + b"2\x86" * 60 + b".",
    "itself": b"]2a.",
    "length that lies": b"\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "string that lies": b"X" + struct.pack("<I", 2**32 - 1) + b"x.",
    "long number": b"\x8b" + struct.pack("<I", 50_000_000) + bytes(50_000_000) + b".",
    "long digits": b"L" + b"9" * 60_000 + b"L\n.",
    "digits": b"I" + b"9" * 60_000 + b"\n.",
    "colliding keys": b"}"
    + b"".join(b"\x8a\x09" + (i * (2**61 - 1)).to_bytes(9, "little") + b"Ns" for i in range(1000))
    + b".",
    "memo far out": b"Nr\xff\xff\xff\x7f.",
    "endless": b"N0" * 6_000_000,
    "nested types": b"ctorch._tensor\n_rebuild_from_type_v2\n" + b"q\x00" + b"h\x00h\x00N)NtR" * 9,
    "copies": b"cbuiltins\nlist\nq\x00]q\x01("
    + b"N" * 100_000
    + b"e"
    + b"h\x00h\x01\x85R" * 50_000
    + b".",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_quickly(name: str) -> None:
    started = time.process_time()
    with contextlib.suppress(DamagedError):
        read(BOMBS[name])
    assert (
        time.process_time() - started < 30
    )  # of the processor: a busy machine makes no difference


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"N",
        b".",
        b"(.",
        b"\x82\x01.",  # EXT1: looks a class up in copyreg
        b"\x83\x01\x00.",
        b"\x97.",  # out-of-band buffer
        b"h\x05.",
        b"g5\n.",
        b"gx\n.",
        b"s.",
        b"NNs.",
        b"Na.",
        b"R.",
        b"NNR.",
        b"\x93.",
        b"NN\x93.",
        b"cos\n",
        b"S'x\n.",
        b"\xff",
        b"P1\n.",
        b"NQ.",
        b"}(NNNu.",
    ],
)
def test_nonsense_is_damage(data: bytes) -> None:
    with pytest.raises(DamagedError):
        read(data)


def test_long_strings_are_passed_over() -> None:
    big = {"array": b"\x01" * 5_000_000, "text": "x" * 3_000_000, "after": 7}
    found = read(pickle.dumps(big))
    assert found == {"array": b"", "text": "", "after": 7}
