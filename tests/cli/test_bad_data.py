"""Data that does not fit: one line that says what was expected, exit 2, nothing half-written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import MLP, RESNET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

X = np.random.default_rng(0).normal(size=(64, 30)).astype(np.float32)
Y = np.arange(64) % 2

CODE = """
import numpy as np, time
X = np.zeros((8, 30), np.float32)

def raises():
    yield X, np.zeros(8, np.int64)
    raise OSError("the disk is gone")

def hangs():
    while True:
        time.sleep(0.1)
    yield X

def leaves():
    raise SystemExit(1)

def texts():
    yield {"x": X, "name": ["a"] * 8, "extra": np.zeros(8)}

def empty():
    return []
"""


def nan() -> Any:
    x = X.copy()
    x[17, 3] = np.nan
    return x


ARRAYS: list[tuple[dict[str, Any], list[str], str, str]] = [
    ({"a": X, "b": X}, [], "no array 'x' (it has: a, b)", "--map x=a"),
    ({"x": X, "extra": X}, [], "array 'extra' is not an input", "--map INPUT=KEY"),
    ({"x": X, "kind": Y}, [], "array 'kind' is not an input", "--labels kind where it holds the labels"),
    ({"a": X}, ["--map", "x=b"], "no array 'b' in the data (it has: a)", "--map INPUT=KEY"),
    ({"a": X}, ["--map", "z=a"], "no input 'z'", "the model takes: x float32"),
    ({"x": X[:, :29]}, [], "x: dimension 1 is 29", "the model takes: x float32 [batch, 30]"),
    ({"x": X[0]}, [], "x: has 1 dimensions [30]", "the model takes"),
    ({"x": X.astype(np.int32)}, [], "x: is int32, but the model takes float32", "scale, normalise"),
    ({"x": X.astype(str)}, [], "not real numbers", "arrays of floats"),
    ({"x": nan()}, [], "x: holds NaN or infinite values (row 17)", "clean the samples"),
    ({"x": X, "labels": Y + 1}, [], "do not fit the model's", "class indices run from 1 to 2"),
    ({"x": X, "labels": Y[:50]}, [], "50 labels", "one label a row"),
    ({"x": X, "labels": np.tile(Y, 2)}, [], "128 labels", "one label a row"),
    ({"x": X}, ["--loss", "mse"], "needs labels", "--labels"),
    ({"x": X}, ["--labels", "kind"], "neither a key of", "--labels names one of them"),
    ({"x": X[:0]}, [], "the data has no rows", "the first dimension"),
    ({"x": X[:3]}, ["--batch-size", "8"], "3 rows, fewer than 1 x 8", "smaller --batch-size"),
]  # fmt: skip


def told(outcome: Outcome, fact: str, way: str) -> None:
    assert outcome.code == 2
    assert outcome.out == ""
    errors = [line for line in outcome.lines if line.startswith("error: ")]
    hints = [line for line in outcome.lines if line.startswith("hint: ")]
    assert (len(errors), len(hints), len(outcome.lines)) == (1, 1, 2), outcome.err
    assert fact in errors[0]
    assert way in hints[0]


@pytest.mark.parametrize(("arrays", "extra", "fact", "way"), ARRAYS, ids=[a[2] for a in ARRAYS])
def test_arrays(
    cli: Callable[..., Outcome],
    tmp_path: Path,
    arrays: dict[str, Any],
    extra: list[str],
    fact: str,
    way: str,
) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    told(cli("check", MLP / "model.onnx", "--data", tmp_path / "d.npz", *extra), fact, way)


def folder(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / kind
    path.mkdir()
    if kind == "none":
        Image.new("L", (8, 8)).save(path / "a.png")
        (path / "b.png").write_text("no image")
    return path


@pytest.mark.parametrize(
    ("kind", "fact", "way"),
    [
        ("empty", "a folder without images", "give a folder of images"),
        ("none", "b.png: is no image that can be read", "take it out of the folder"),
    ],
)
def test_folders(
    cli: Callable[..., Outcome], tmp_path: Path, kind: str, fact: str, way: str
) -> None:
    told(cli("check", RESNET / "model.onnx", "--data", folder(tmp_path, kind)), fact, way)


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_archives_that_are_cut_off(
    cli: Callable[..., Outcome], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"d.{suffix}"
    np.savez(path, x=X) if suffix == "npz" else np.save(path, X)
    path.write_bytes(path.read_bytes()[:-100])
    told(cli("check", MLP / "model.onnx", "--data", path), "cut", "copy or download it again")


@pytest.mark.parametrize(
    ("function", "fact", "way"),
    [
        ("raises", "failed after 1 batches (OSError: the disk is gone)", "run it by itself"),
        ("leaves", "fails (SystemExit: 1)", "call it in Python"),
        ("texts", "'extra' is not an input", "--map INPUT=KEY"),
        ("empty", "gives no batch", "an iterator that was read before"),
    ],
)
def test_functions(
    cli: Callable[..., Outcome], tmp_path: Path, function: str, fact: str, way: str
) -> None:
    (tmp_path / "own_data.py").write_text(CODE)
    where = f"{tmp_path / 'own_data.py'}:{function}"
    told(cli("check", MLP / "model.onnx", "--data", where), fact, way)


def test_a_failure_leaves_a_whole_document(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=nan())
    out = tmp_path / "r.json"
    outcome = cli("check", MLP / "model.onnx", "--data", tmp_path / "d.npz", "-o", out)
    assert outcome.code == 2
    assert json.loads(out.read_text())["failure"]["exit_code"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.npz", "r.json"]


def test_a_recalibration_of_bad_rows_writes_nothing(
    cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    """The NaN stands behind the first batch."""
    np.savez(tmp_path / "d.npz", x=nan()[[*range(18, 64), 17]])
    outcome = cli(
        "recalibrate", MLP / "model.onnx", "--data", tmp_path / "d.npz", "-o", tmp_path / "f.onnx"
    )
    assert outcome.code == 2
    assert "holds NaN" in outcome.err
    assert [p.name for p in tmp_path.iterdir()] == ["d.npz"]
