"""Tensors out of checkpoints of every format against torch itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from bnaudit.errors import InputError
from bnaudit.load.pickles.archive import Archive
from bnaudit.load.pickles.checkpoint import open_checkpoint
from bnaudit.load.pickles.numbers import decode, read_tensor
from bnaudit.load.pickles.objects import DamagedError, Storage, StoredTensor
from bnaudit.load.pickles.vectors import read_vector
from tests.load import files

if TYPE_CHECKING:
    from pathlib import Path

FLOAT8 = [
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
]


@pytest.mark.parametrize("dtype", FLOAT8)
def test_every_code_of_8_bits(dtype: torch.dtype) -> None:
    expected = torch.arange(256, dtype=torch.uint8).view(dtype).double().numpy()
    found = decode(bytes(range(256)), str(dtype).removeprefix("torch."))
    np.testing.assert_array_equal(found, expected)


def tensors() -> dict[str, Any]:
    torch.manual_seed(0)
    base = torch.randn(40, dtype=torch.float64)
    found: dict[str, Any] = {
        "transposed": torch.randn(3, 4).t(),
        "slice": base[3:30:3],
        "rest": base[30:],
        "expanded": torch.randn(1, 3).expand(5, 3),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": nn.Parameter(torch.randn(3)),
        "count": torch.tensor(3),
        "bool": torch.tensor([True, False]),
        "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "attribute": nn.Parameter(torch.randn(2)),
        "buffer": nn.Buffer(torch.randn(2)),
    }
    found["attribute"].note = "own"
    found["tied"] = found["transposed"]
    for dtype in (torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16, *FLOAT8):
        found[str(dtype)] = torch.randn(6).abs().to(dtype)
    return found


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numbers_are_those_that_were_saved(tmp_path: Path, protocol: int, *, legacy: bool) -> None:
    path = tmp_path / "x.pt"
    saved = tensors()
    torch.save(saved, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    root, file, form = open_checkpoint(path)
    assert form == ("legacy" if legacy else "zip")
    for name, tensor in saved.items():
        expected = tensor.detach().double().numpy()
        np.testing.assert_array_equal(read_tensor(file, root[name]), expected, err_msg=name)
        assert root[name].shape == tuple(tensor.shape)
        assert root[name].dtype == str(tensor.dtype).removeprefix("torch.")
        if tensor.dim() < 2:
            found = read_vector(file, root[name])
            np.testing.assert_array_equal(found, expected.reshape(-1), err_msg=name)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_has_no_plain_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    saved = {
        "quantised": torch.quantize_per_tensor(torch.randn(3), 0.1, 2, torch.qint8),
        "per channel": torch.quantize_per_channel(
            torch.randn(2, 3), torch.ones(2), torch.zeros(2), 0, torch.qint8
        ),
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(4, device="meta"),
    }
    torch.save(saved, path)
    root, file, _ = open_checkpoint(path)
    assert [root[n].layout for n in saved] == ["quantised", "quantised", "sparse", "meta"]
    assert root["sparse"].shape == (3, 3)
    assert root["meta"].shape == (4,)
    for tensor in root.values():
        with pytest.raises(DamagedError):
            read_tensor(file, tensor)


def test_other_devices_are_no_obstacle(tmp_path: Path) -> None:
    """The name of the device is part of a storage's address; `cpu` and `cuda:0` are told apart by
    nothing else, so that a file written on a GPU is this one with other bytes there."""
    path = tmp_path / "x.pt"
    torch.save({"w": torch.arange(3.0)}, path)
    old, new = b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"

    def moved(name: str, data: bytes) -> bytes:
        assert name != "x/data.pkl" or old in data
        return data.replace(old, new)

    cuda = files.rewritten(path, tmp_path / "cuda.pt", moved)
    root, file, _ = open_checkpoint(cuda)
    assert read_vector(file, root["w"]) == (0.0, 1.0, 2.0)


def test_big_endian_files(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    values = {"w": torch.tensor([1.5, -2.0]), "b": torch.tensor([1.5, -2.0]).bfloat16()}
    torch.save(values, path)

    def swapped(name: str, data: bytes) -> bytes:
        if name.endswith("byteorder"):
            return b"big"
        width = {8: 4, 4: 2}[len(data)] if "/data/" in name else 1
        return b"".join(data[i : i + width][::-1] for i in range(0, len(data), width))

    root, file, _ = open_checkpoint(files.rewritten(path, tmp_path / "big.pt", swapped))
    for name in values:
        assert read_vector(file, root[name]) == (1.5, -2.0)
        assert read_tensor(file, root[name]).tolist() == [1.5, -2.0]


def test_a_wrong_bit_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"w": torch.full((64,), 3.0)}, path)
    data = bytearray(path.read_bytes())
    at = data.index(torch.full((64,), 3.0).numpy().tobytes())
    data[at + 5] ^= 1
    path.write_bytes(data)
    root, file, _ = open_checkpoint(path)
    with pytest.raises(DamagedError, match="data/0"):
        read_tensor(file, root["w"])


def test_part_of_a_large_storage(tmp_path: Path) -> None:
    big = torch.arange(2_000_000, dtype=torch.float32)
    path = tmp_path / "x.pt"
    torch.save({"part": big[1_999_000:1_999_004], "w": big}, path)
    with Archive(path) as archive:
        root = archive.unpickle("data.pkl", "data")
        assert read_vector(archive, root["part"]) == (1999000.0, 1999001.0, 1999002.0, 1999003.0)
    packed = tmp_path / "packed.pt"
    import zipfile

    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with Archive(packed) as archive:
        root = archive.unpickle("data.pkl", "data")
        assert read_vector(archive, root["part"])[0] == 1999000.0
        assert read_tensor(archive, root["w"])[-1] == 1999999.0


class _File:
    big_endian = False

    def numbers(self, of: Storage, start: int, count: int) -> bytes:
        return bytes(64)[start : start + count]


@pytest.mark.parametrize(
    "tensor",
    [
        StoredTensor(Storage("0", "float32", 16), "float32", (2**40,), (0,)),
        StoredTensor(Storage("0", "float32", 16), "float32", (2**20, 2**20), (0, 0)),
        StoredTensor(Storage("0", "float32", 16), "float32", (17,), (1,)),
        StoredTensor(Storage("0", "float32", 16), "float32", (4,), (1,), 13),
        StoredTensor(Storage("0", "float32", 16), "float32", (3, 3), (7, 1)),
        StoredTensor(Storage("0", "complex64", 16), "complex64", (3,), (1,)),
    ],
)
def test_impossible_shapes(tensor: StoredTensor) -> None:
    with pytest.raises(DamagedError):
        read_tensor(_File(), tensor)
    if len(tensor.shape) == 1:
        with pytest.raises(DamagedError):
            read_vector(_File(), tensor)


@pytest.mark.parametrize("legacy", [False, True])
def test_half_a_file(tmp_path: Path, *, legacy: bool) -> None:
    path = tmp_path / "x.pt"
    torch.save({"w": torch.ones(100)}, path, _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()
    for end in (20, 60, 150, len(data) // 2, len(data) - 8):
        path.write_bytes(data[:end])
        with pytest.raises(InputError, match=r"x\.pt"):
            open_checkpoint(path)


def test_torch_is_not_needed(tmp_path: Path) -> None:
    import subprocess

    path = tmp_path / "x.pt"
    torch.save(nn.BatchNorm2d(3), path)
    code = (
        "import sys; from pathlib import Path;"
        "from bnaudit.load.pickles.checkpoint import open_checkpoint;"
        f"open_checkpoint(Path({str(path)!r}));"
        "print([m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
