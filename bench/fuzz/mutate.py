"""Mutations of bytes, and of what bytes mean: a file is a function of its seed file, a number, and these."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    Mutation = Callable[[random.Random, bytes], bytes]

INTEGERS = (
    0,
    1,
    -1,
    2,
    7,
    255,
    2**15,
    2**31 - 1,
    -(2**31),
    2**32,
    2**40,
    2**62,
    2**63 - 1,
    -(2**63),
)
REALS = (0.0, -0.0, -1.0, 1e-45, 1e38, float("nan"), float("inf"), float("-inf"))
TEXTS = ("", "../x", "/etc/hostname", "a\0b", "\u202e", "x" * 5000, "a\n::error::b", "self", "..")


def flipped(rng: random.Random, data: bytes) -> bytes:
    """Bytes overwritten, cut, doubled, moved, or replaced by numbers that readers count with."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(out) + 1)
        size = min(rng.choice((1, 2, 4, 8, 64, 1024)), len(out) - at)
        kind = rng.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + size] = rng.randbytes(size)
        elif kind == 2:
            del out[at : at + size]
        elif kind == 3:
            out[at:at] = out[at : at + size]
        elif kind == 4:
            width = rng.choice((2, 4, 8))
            number = rng.choice(INTEGERS) % 2 ** (8 * width)
            out[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 5:
            code = rng.choice("fde")
            real = min(max(rng.choice(REALS), -6e4), 6e4) if code == "e" else rng.choice(REALS)
            packed = struct.pack(f"<{code}", real)
            out[at : at + len(packed)] = packed
        elif kind == 6 and rng.random() < 0.3:
            del out[at:]
    return bytes(out)


def of_text(rng: random.Random, data: bytes) -> bytes:
    """Words and numbers of a text exchanged: YAML, TOML, XML, headers of arrays, code."""
    words = re.split(rb"([\w.+-]+)", data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(words))
        kind = rng.randrange(6)
        if kind == 0:
            words[at] = rng.choice(words)
        elif kind == 1:
            words[at] = str(rng.choice(INTEGERS + REALS)).encode()
        elif kind == 2:
            words[at] = rng.choice(
                (b"[", b"{", b"(", b"- ", b"&a ", b"*a", b"<", b"!!x ", b"null")
            ) * rng.choice((1, 1, 3, 400))
        elif kind == 3:
            words[at] = rng.choice(TEXTS).encode()
        elif kind == 4:
            words[at:at] = words[at : at + rng.randrange(20)]
        else:
            del words[at : at + rng.randrange(4)]
    return b"".join(words)


def of_json(rng: random.Random, data: bytes) -> bytes:
    """Values of a JSON document replaced by ones of other types, names lost, nesting without end."""
    try:
        tree = json.loads(data)
    except ValueError:
        return of_text(rng, data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        tree = _changed(rng, tree)
    text = json.dumps(tree)
    if rng.random() < 0.05:
        text = text.replace(":", ":" + "[" * rng.choice((10, 2000)), 1)
    return text.encode("utf-8", "surrogatepass")


def _changed(rng: random.Random, tree: Any) -> Any:
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = rng.choice(list(tree))
        kind = rng.random()
        if kind < 0.1:
            del tree[key]
        elif kind < 0.2:
            tree[rng.choice((*TEXTS, key + "x"))] = tree.pop(key)
        else:
            tree[key] = _changed(rng, tree[key])
        return tree
    if isinstance(tree, list) and tree and rng.random() < 0.9:
        at = rng.randrange(len(tree))
        kind = rng.random()
        if kind < 0.1:
            del tree[at]
        elif kind < 0.2:
            tree.insert(at, tree[rng.randrange(len(tree))])
        else:
            tree[at] = _changed(rng, tree[at])
        return tree
    return rng.choice((None, True, [], {}, [[]], {"a": 1}, *INTEGERS, *REALS, *TEXTS, tree))


def safetensors(rng: random.Random, data: bytes) -> bytes:
    """The header changed as JSON, its length right or wrong; or the numbers behind it."""
    size = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + size], data[8 + size :]
    if rng.random() < 0.3:
        return data[: 8 + size] + flipped(rng, rest)
    header = of_json(rng, header)
    length = len(header) if rng.random() < 0.9 else rng.choice(INTEGERS) % 2**64
    return length.to_bytes(8, "little") + header + rest


def array(rng: random.Random, data: bytes) -> bytes:
    """A .npy: its header as a text, or its numbers."""
    size = 10 + int.from_bytes(data[8:10], "little")
    if rng.random() < 0.4:
        return data[:size] + flipped(rng, data[size:])
    header = of_text(rng, data[10:size])
    return data[:8] + (len(header) % 65536).to_bytes(2, "little") + header + data[size:]


_OPCODES = (
    b"(.012FIJKLMNPQRSTUVXabcdeghijlopqrstu}\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x93\x94\x95"
)


def _member(rng: random.Random, name: str, data: bytes) -> bytes:
    """A member of an archive by what its name says of it."""
    if name.endswith(".npy"):
        return array(rng, data)
    if name.endswith((".json", "config.json")):
        return of_json(rng, data)
    if name.endswith(".py"):
        return of_text(rng, data)
    return flipped(rng, data)


def archive(rng: random.Random, data: bytes) -> bytes:
    """A zip file whose members are changed, lost, doubled or renamed, with checksums that are right again."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = [(entry.filename, source.read(entry)) for entry in source.infolist()]
    small = [i for i, (name, _) in enumerate(members) if not name.endswith("debug_pkl")]
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.choice(small) % len(members)
        name, content = members[at]
        kind = rng.random()
        if kind < 0.75:
            members[at] = (name, _member(rng, name, content))
        elif kind < 0.8:
            del members[at]
            small = list(range(len(members))) or [0]
        elif kind < 0.85:
            members.insert(rng.randrange(len(members)), (name, _member(rng, name, content)))
        elif kind < 0.9:
            members[at] = (
                rng.choice((*TEXTS[1:3], name.upper(), name + "x", members[0][0])),
                content,
            )
        else:
            members[at] = (name, bytes(rng.choice((0, 1, 10**6))))
        if not members:
            break
    out = io.BytesIO()
    packed = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", packed) as target:
        for name, content in members:
            target.writestr(zipfile.ZipInfo(name.replace("\0", "") or "x"), content)
    return flipped(rng, out.getvalue()) if rng.random() < 0.05 else out.getvalue()


def pickled(rng: random.Random, data: bytes) -> bytes:
    """A pickle with opcodes exchanged, and memos, counts and marks where they do not belong."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(out))
        opcode = rng.choice(_OPCODES)
        if rng.random() < 0.5:
            out[at] = opcode
        else:
            out[at:at] = bytes([opcode]) * rng.choice((1, 1, 2, 3000))
    return bytes(out)
