"""Tables: columns as features and labels, by pieces, and what is no table of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from bnaudit.data.sources import tables
from bnaudit.load.model import InputSpec
from tests.data.sources.reading import TABLE, refused, samples

if TYPE_CHECKING:
    from pathlib import Path

ROWS = np.arange(60, dtype=np.float64).reshape(20, 3) / 8
KIND = np.arange(20) % 3


def csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def wide(path: Path, **more: Any) -> Path:
    columns = {"a": ROWS[:, 0], "b": ROWS[:, 1], "c": ROWS[:, 2], **more}
    parquet.write_table(pa.table(columns), path, row_group_size=6)
    return path


def lines(*columns: Any, header: str, separator: str = ",") -> str:
    rows = [separator.join(map(str, row)) for row in zip(*columns, strict=True)]
    return "\n".join([header, *rows]) + "\n"


def test_columns_beside_the_labels_are_the_features(tmp_path: Path) -> None:
    text = lines(*ROWS.T, KIND, header="a,b,c,target")
    for path in (csv(tmp_path / "t.csv", text), wide(tmp_path / "t.parquet", target=KIND)):
        found = samples(path, TABLE)
        assert found.arrays["x"].all().tolist() == ROWS.tolist()
        assert found.labels is not None
        assert found.labels.all().tolist() == KIND.tolist()
        assert found.labels_from == f"{path}:target"
        assert found.notes == ()


@pytest.mark.parametrize("piece", [1, 4, 100])
@pytest.mark.parametrize("index", [[], [0], [19, 0, 0, 7], list(range(20)), [5, 6, 11, 12]])
def test_rows_of_any_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, index: list[int]
) -> None:
    monkeypatch.setattr(tables, "_PIECE", piece)
    found = samples(wide(tmp_path / "t.parquet", y=KIND), TABLE)
    chosen = torch.tensor(index, dtype=torch.int64)
    assert found.arrays["x"].take(chosen).tolist() == ROWS[index].tolist()
    assert found.labels is not None
    assert found.labels.take(chosen).tolist() == KIND[index].tolist()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_and_files_without_names(tmp_path: Path, separator: str) -> None:
    header = separator.join("abc")
    named = csv(tmp_path / "n.csv", lines(*ROWS.T, header=header, separator=separator))
    assert samples(named, TABLE).arrays["x"].all().tolist() == ROWS.tolist()
    bare = csv(tmp_path / "b.csv", named.read_text().partition("\n")[2])
    assert samples(bare, TABLE).arrays["x"].all().tolist() == ROWS.tolist()


def test_texts_as_labels_are_classes_in_alphabetical_order(tmp_path: Path) -> None:
    names = np.array(["cat", "dog", "ant"])[KIND]
    path = csv(tmp_path / "t.csv", lines(*ROWS.T, names, header="a,b,c,label"))
    found = samples(path, TABLE)
    assert found.labels is not None
    assert found.labels.all().tolist() == [[1, 2, 0][k] for k in KIND]
    assert found.notes[0].startswith(
        f"{path}: labels 0 to 2 are the values of 'label' in alphabetical"
    )
    category = pa.array(names).dictionary_encode()
    found = samples(wide(tmp_path / "t.parquet", label=category), TABLE)
    assert found.labels is not None
    assert found.labels.all().tolist() == [[1, 2, 0][k] for k in KIND]


def test_the_index_that_pandas_writes_is_no_feature(tmp_path: Path) -> None:
    for name in ("", "Unnamed: 0"):
        path = csv(tmp_path / "t.csv", lines(range(20), *ROWS.T, header=f"{name},a,b,c"))
        found = samples(path, TABLE)
        assert found.arrays["x"].all().tolist() == ROWS.tolist()
        assert found.notes == (f"{path}: column {name!r} is an index, and left out",)


def test_map_names_columns_and_their_order(tmp_path: Path) -> None:
    path = wide(tmp_path / "t.parquet", city=["x"] * 20, y=KIND)
    found = samples(path, TABLE, map={"x": "c,a,b"})
    assert found.arrays["x"].all().tolist() == ROWS[:, [2, 0, 1]].tolist()
    assert found.labels is not None
    two = (InputSpec("p", ("N", 2), "float32"), InputSpec("q", ("N", 1), "float32"))
    found = samples(path, *two, map={"p": "b,c", "q": "a"})
    assert found.arrays["p"].all().tolist() == ROWS[:, 1:].tolist()
    assert found.arrays["q"].all().tolist() == ROWS[:, :1].tolist()
    assert "no column 'z'" in refused(path, TABLE, map={"x": "a,z"}).message


def test_inputs_that_are_columns(tmp_path: Path) -> None:
    path = wide(tmp_path / "t.parquet", n=KIND)
    specs = (
        InputSpec("a", ("N", 1), "float32"),
        InputSpec("b", ("N",), "float32"),
        InputSpec("c", ("N", 1), "float32"),
        InputSpec("n", ("N",), "int64"),
    )
    found = samples(path, *specs)
    assert [found.arrays[n].shape for n in "abcn"] == [(20, 1), (20,), (20, 1), (20,)]
    assert found.arrays["n"].all().tolist() == KIND.tolist()


def test_lists_and_types(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"embedding": list(map(list, ROWS)), "y": KIND}), path)
    assert samples(path, TABLE).arrays["x"].all().tolist() == ROWS.tolist()
    narrow = pa.table({n: pa.array(ROWS[:, i], pa.float32()) for i, n in enumerate("abc")})
    parquet.write_table(narrow, path)
    assert samples(path, TABLE).arrays["x"].dtype == torch.float32
    whole = pa.table(dict.fromkeys("abc", KIND))
    parquet.write_table(whole, path)
    assert samples(path, InputSpec("x", ("N", 3), "int64")).arrays["x"].dtype == torch.int64
    assert samples(path, TABLE).arrays["x"].dtype == torch.float64


@pytest.mark.parametrize(
    ("more", "options", "fact", "way"),
    [
        ({"d": KIND}, {}, "4 columns (a, b, c, d), but the model takes x float32", "--labels d"),
        ({"d": KIND, "y": KIND}, {}, "beside the labels 'y', but the model", "--map x=COLUMN,"),
        (
            {"id": ["q"] * 20, "y": KIND},
            {"map": {"x": "a,b,id"}},
            "column 'id' holds text ('q')",
            "encode",
        ),
        ({"y": [None] + [1] * 19}, {}, "column 'y' has rows without a value", "fill or drop"),
        ({}, {"labels": "z"}, "neither a key of", ""),
    ],
)
def test_columns_that_do_not_fit(
    tmp_path: Path, more: Any, options: Any, fact: str, way: str
) -> None:
    error = refused(wide(tmp_path / "t.parquet", **more), TABLE, **options)
    assert fact in error.message
    assert way in str(error.hint)


def test_missing_values_are_told_with_their_row(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", "a,b,c\n1,2,3\n4,,6\n")
    assert "NaN or infinite values (row 1)" in refused(path, TABLE).message


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("t.csv", b"a,b,c\n1,2\n", "is no table"),
        ("t.csv", b"", "is no table"),
        ("t.csv", b"a,b,c\n", "a table without rows"),
        ("t.csv", b"a,a,c\n1,2,3\n", "two columns have the same name"),
        ("t.csv", bytes(range(256)), "is no table"),
        ("t.parquet", b"PAR1 cut", "a damaged or cut-off Parquet file"),
    ],
)
def test_no_table(tmp_path: Path, name: str, content: bytes, fact: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert fact in refused(tmp_path / name, TABLE).message


def test_a_damaged_page_is_an_error(tmp_path: Path) -> None:
    path = wide(tmp_path / "t.parquet")
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    assert "damaged" in refused(path, TABLE).message


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = wide(tmp_path / "t.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    error = refused(path, TABLE)
    assert error.message.endswith("reading tables needs pyarrow, which is not installed")
    assert error.hint == "pip install 'bnaudit[tables]'"
