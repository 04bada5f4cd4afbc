"""Files with bytes changed, cut or inserted: a result or one clear line, and never anything else."""

from __future__ import annotations

import io
import random
import warnings
import zipfile
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from bnaudit.errors import InputError
from bnaudit.inspection import inspect_file
from bnaudit.load.sniff import FileKind, sniff
from bnaudit.load.weights import read_weights
from tests.load import files
from tests.unit.initialisation.files import save_safetensors

if TYPE_CHECKING:
    from pathlib import Path

TIMES = 150


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()


def original(kind: str, path: Path) -> Path:
    x = torch.zeros(2, 1, 5, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "safetensors":
            save_safetensors(path, net().state_dict())
        elif kind == "script":
            files.script(net(), path)
        elif kind == "trace":
            files.trace(net(), x, path)
        elif kind == "exported":
            torch.export.save(torch.export.export(net(), (x,)), str(path))
        else:
            content = net() if "module" in kind else net().state_dict()
            torch.save(content, path, _use_new_zipfile_serialization="legacy" not in kind)
    return path


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(changed) or 1)
        if not changed:
            break
        match rng.randrange(5):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                del changed[at : at + rng.randrange(1, 40)]
            case 3:
                changed[at:at] = rng.randbytes(rng.randrange(1, 9))
            case _:
                other = rng.randrange(len(changed))
                changed[at : at + 8] = changed[other : other + 8]
    return bytes(changed) or b"x"


def repacked(data: bytes, rng: random.Random) -> bytes:
    """One text or pickle of a zip file changed, with a checksum that fits."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        target = rng.choice([n for n in names if n.endswith((".pkl", ".py", ".json"))])
        for name in names:
            content = old.read(name)
            new.writestr(name, mutated(content, rng) if name == target else content)
    return out.getvalue()


@pytest.mark.parametrize(
    "kind",
    [
        "state_dict",
        "state_dict legacy",
        "module",
        "module legacy",
        "safetensors",
        "script",
        "trace",
        "exported",
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, kind: str) -> None:
    data = original(kind, tmp_path / "good").read_bytes()
    rng = random.Random(kind)  # noqa: S311
    path = tmp_path / "odd.bin"
    told = 0
    for i in range(TIMES):
        zipped = data.startswith(b"PK") and i % 3
        path.write_bytes(repacked(data, rng) if zipped else mutated(data, rng))
        try:
            found = sniff(path)
            inspect_file(path)
            if found in (FileKind.CHECKPOINT, FileKind.SAFETENSORS):
                for tensor in read_weights(path).tensors:
                    tensor.read()
        except InputError as error:
            told += 1
            assert "\n" not in error.message  # noqa: PT017
            assert "odd.bin" in error.message  # noqa: PT017
    assert told > 0
