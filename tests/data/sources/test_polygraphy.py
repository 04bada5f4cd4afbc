"""Polygraphy's inputs: a file that polygraphy 0.53.6 wrote (`run --save-inputs`), its other forms, damage."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnaudit.load.model import InputSpec
from tests.data.sources.reading import TABLE, refused, samples

WRITTEN = Path(__file__).parent / "polygraphy_0_53_6.json"
X = InputSpec("x", ("N", 30), "float32")


def encoded(array: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def feed(array: np.ndarray[Any, Any]) -> dict[str, str]:
    text = base64.b64encode(encoded(array)).decode()
    return {"array": text, "polygraphy_class": "ndarray"}


def test_the_real_file() -> None:
    rows = samples(WRITTEN, X).arrays["x"].all()
    assert rows.shape == (3, 30)
    # What np.load makes of the first iteration's bytes.
    first = json.loads(WRITTEN.read_text())[0]["x"]["array"]
    assert rows[0].tolist() == np.load(io.BytesIO(base64.b64decode(first)))[0].tolist()


def test_a_folder_with_a_file_for_each_iteration(tmp_path: Path) -> None:
    for number, iteration in enumerate(json.loads(WRITTEN.read_text())):
        (tmp_path / f"{number:010}.json").write_text(json.dumps(iteration))
    found, whole = (samples(p, X).arrays["x"].all() for p in (tmp_path, WRITTEN))
    assert torch.equal(found, whole)


def test_old_files_and_tensors(tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    out = io.BytesIO()
    torch.save(torch.from_numpy(x), out)
    forms = (
        {"array": encoded(x).decode("latin-1"), "__polygraphy_encoded_ndarray": "constants"},
        {"tensor": base64.b64encode(out.getvalue()).decode(), "polygraphy_class": "Tensor"},
    )
    for form in forms:
        (tmp_path / "i.json").write_text(json.dumps([{"x": form}]))
        assert samples(tmp_path / "i.json", TABLE).arrays["x"].all().tolist() == x.tolist()


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ("[", "is not JSON, or cut off"),
        ("[]", "holds no iteration"),
        ("[{}]", "none of Polygraphy's inputs"),
        ("[1]", "none of Polygraphy's inputs"),
        ('{"lst": [], "polygraphy_class": "RunResults"}', "none of Polygraphy's inputs"),
        ('[{"x": 3}]', "x of iteration 0: is no array of Polygraphy's"),
        ('[{"x": {"array": "bm9uZQ==", "polygraphy_class": "ndarray"}}]', "cannot be read"),
        ("[" * 5000, "is not JSON, or cut off"),
    ],
)
def test_what_is_none(tmp_path: Path, content: str, fact: str) -> None:
    (tmp_path / "i.json").write_text(content)
    assert fact in refused(tmp_path / "i.json", TABLE).message


def test_iterations_that_do_not_join(tmp_path: Path) -> None:
    three, two = (feed(np.zeros((1, n), np.float32)) for n in (3, 2))
    (tmp_path / "i.json").write_text(json.dumps([{"x": three}, {"x": two}]))
    assert "arrays of different shapes" in refused(tmp_path / "i.json", TABLE).message
    (tmp_path / "i.json").write_text(json.dumps([{"x": three}, {"y": three}]))
    assert (
        "iteration 1 has the arrays y, the first x" in refused(tmp_path / "i.json", TABLE).message
    )


def test_pickled_objects_in_it_are_never_executed(tmp_path: Path) -> None:
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}]), allow_pickle=True)
    text = base64.b64encode(out.getvalue()).decode()
    (tmp_path / "i.json").write_text(
        json.dumps([{"x": {"array": text, "polygraphy_class": "ndarray"}}])
    )
    assert "cannot be read" in refused(tmp_path / "i.json", TABLE).message
