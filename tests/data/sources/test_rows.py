"""Rows that stay in their file: every source gives what numpy has in memory, whatever is asked for."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnaudit.data.rows import Held, Joined, Rows, Span
from bnaudit.data.sources import numpy_files
from bnaudit.errors import DataError
from tests.data.sources.reading import refused, samples

if TYPE_CHECKING:
    from pathlib import Path

X = np.arange(60, dtype=np.float32).reshape(20, 3)


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small arrays too are left in the file."""
    monkeypatch.setattr(numpy_files, "LARGE", 0)


def safetensors(path: Path, **arrays: np.ndarray[Any, Any]) -> Path:
    names = {"float32": "F32", "int64": "I64", "uint8": "U8"}
    header, data = {}, b""
    for name, array in arrays.items():
        end = len(data) + array.nbytes
        header[name] = {
            "dtype": names[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [len(data), end],
        }
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.usefixtures("in_place")
@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
@pytest.mark.parametrize("index", [[], [0], [19, 0, 0, 7], list(range(20)), [3, 4, 5, 9]])
def test_rows_are_read_by_their_place(tmp_path: Path, kind: str, index: list[int]) -> None:
    path = tmp_path / f"d.{kind}"
    if kind == "npy":
        np.save(path, X)
    elif kind == "npz":
        np.savez(path, other=np.arange(20), x=X)
    else:
        safetensors(path, first=np.arange(7, dtype=np.uint8), x=X)
    found = samples(path, map={"x": "x"} if kind != "npy" else {}).arrays["x"]
    assert isinstance(getattr(found, "rows", None), Span)
    assert found.take(torch.tensor(index, dtype=torch.int64)).tolist() == X[index].tolist()


@pytest.mark.usefixtures("in_place")
@pytest.mark.parametrize(
    "array",
    [
        X.astype(np.float16),
        X > 3,
        X.astype(np.uint16),
        X[:, :0],
        X[:, 0],
        X.astype(">f4"),
        np.asfortranarray(X),
        X.astype(np.longdouble),
    ],
)
def test_types_and_layouts(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    np.save(tmp_path / "a.npy", array)
    (found,) = numpy_files.read_npy(tmp_path / "a.npy", None).arrays.values()  # type: ignore[arg-type]
    index = torch.tensor([4, 1, 19])
    assert found.take(index).tolist() == array[index.numpy()].tolist()
    assert found.shape == array.shape


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.lists(st.integers(0, 1000), max_size=30),
)
def test_joined_arrays_are_their_concatenation(sizes: list[int], chosen: list[int]) -> None:
    parts = [torch.arange(100 * n, 100 * n + size).unsqueeze(1) for n, size in enumerate(sizes)]
    whole, joined = torch.cat(parts), Joined([Held(p) for p in parts])
    index = torch.tensor([c % max(len(whole), 1) for c in chosen], dtype=torch.int64)
    if len(whole):
        assert joined.take(index).tolist() == whole[index].tolist()
    assert joined.all().tolist() == whole.tolist()


@pytest.mark.usefixtures("in_place")
def test_a_file_that_shrinks_is_one_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    (found,) = numpy_files.read_npy(tmp_path / "a.npy", None).arrays.values()  # type: ignore[arg-type]
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-50])
    assert found.take(torch.tensor([0])).tolist() == X[:1].tolist()
    with pytest.raises(DataError, match="cut off at row 19"):
        found.take(torch.tensor([19]))


@pytest.mark.usefixtures("in_place")
@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, X)
    elif kind == "npz":
        np.savez(buffer, x=X)
    else:
        buffer.write(safetensors(tmp_path / "whole", x=X).read_bytes())
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(buffer.getvalue()[:-40])
    error = refused(path)
    assert path.name in error.message


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    np.save(whole, X)
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("x.npy", whole.getvalue())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.npy", whole.getvalue())
    assert "holds 'x' twice" in refused(tmp_path / "t.npz").message


def test_rows_are_checked_as_they_are_read(tmp_path: Path) -> None:
    x = X.copy()
    x[[7, 9], 1] = np.nan
    np.save(tmp_path / "a.npy", x)
    found: Rows = samples(tmp_path / "a.npy").arrays["x"]
    assert found.take(torch.arange(5)).tolist() == X[:5].tolist()
    with pytest.raises(DataError, match=r"NaN or infinite values \(row 7 and 1 more rows\)"):
        found.take(torch.tensor([2, 7, 9]))
