"""Data larger than memory costs what the batches in use take; sparse files stand for it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 5 * 10**9
ROW = (3, 100, 100)
ROWS = SIZE // (4 * 3 * 100 * 100)
MEBIBYTE = 1 << 20

SCRIPT = """
import resource, sys
import torch, numpy, PIL.Image, pyarrow.parquet
from bnaudit.data.prepare import prepare
from bnaudit.data.whole import whole_data
from bnaudit.load.model import InputSpec, LoadedModel
from bnaudit.options import AuditOptions
shape = (None,) + tuple(map(int, sys.argv[2:]))
model = LoadedModel(torch.nn.Identity(), "onnx", (InputSpec("x", shape, "float32"),))
options = AuditOptions(data=[sys.argv[1]], batch_size=4, batches=2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
batches, _ = prepare(options, model, None)
assert len(batches.items) == 2 and batches.items[0].rows == 4
assert batches.items[1].inputs[0].shape == (4, *shape[1:])
whole, _ = whole_data(options, model, None)
assert len(whole.items) == 2 and whole.items[0].rows >= 4
print(batches.info.available, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def taken(path: Path, *shape: int, rows: int) -> int:
    """Kilobytes that reading two batches adds to the peak."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), *map(str, shape)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    available, grown = map(int, done.stdout.split())
    assert available == rows
    return grown


def npy_header() -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"descr": "<f4", "fortran_order": False, "shape": (ROWS, *ROW)}
    )
    return out.getvalue()


def npy(path: Path) -> None:
    path.write_bytes(npy_header())
    os.truncate(path, len(npy_header()) + ROWS * 4 * 30000)


def npz(path: Path) -> None:
    whole = len(npy_header()) + ROWS * 4 * 30000
    archive: Any = zipfile.ZipFile(path, "w")
    archive.writestr("x.npy", npy_header())
    info = archive.getinfo("x.npy")
    info.file_size = info.compress_size = whole
    archive.start_dir += whole - len(npy_header())  # a hole where the numbers are
    archive.close()


def safetensors(path: Path) -> None:
    size = ROWS * 4 * 30000
    entry = {"dtype": "F32", "shape": [ROWS, *ROW], "data_offsets": [0, size]}
    text = json.dumps({"x": entry}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + size)


@pytest.mark.parametrize("write", [npy, npz, safetensors])
def test_arrays(tmp_path: Path, write: Any) -> None:
    path = tmp_path / f"d.{write.__name__}"
    write(path)
    assert path.stat().st_size > SIZE - 10**6
    assert path.stat().st_blocks * 512 < MEBIBYTE, "the test's file is not sparse"
    assert taken(path, *ROW, rows=ROWS) * 1024 < 60 * MEBIBYTE


def test_images(tmp_path: Path) -> None:
    """20000 images of 3x250x250 numbers are 15 GB."""
    first = tmp_path / "d" / "0.png"
    first.parent.mkdir()
    Image.new("RGB", (8, 8)).save(first)
    for number in range(1, 20000):
        os.link(first, first.with_name(f"{number}.png"))
    assert taken(first.parent, 3, 250, 250, rows=20000) * 1024 < 60 * MEBIBYTE


def test_parquet(tmp_path: Path) -> None:
    """A hundred columns in a million rows; two row groups of ten are 160 MB."""
    path, rows = tmp_path / "d.parquet", 10**6
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**5, np.int8)), [1.5]).cast(
        "float64"
    )
    table = pa.table({f"c{i}": column for i in range(100)})
    with parquet.ParquetWriter(path, table.schema) as writer:
        for _ in range(10):
            writer.write_table(table)
    assert rows * 100 * 8 == 800_000_000
    assert taken(path, 100, rows=rows) * 1024 < 150 * MEBIBYTE
