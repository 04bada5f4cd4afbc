"""Sample files against the model's signature: what is read, what is refused, and what the hint says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bnaudit.data.files import read_samples as _read
from bnaudit.errors import DataError
from bnaudit.load.model import InputSpec
from bnaudit.options import AuditOptions
from tests.data.models import IDS, X, model

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.data.batch import Samples
    from bnaudit.load.model import LoadedModel

ROWS = np.arange(18, dtype=np.float32).reshape(6, 3)
LABELS = np.arange(6)


@dataclass
class Whole:
    """Samples with all of their rows in memory."""

    samples: Samples
    arrays: dict[str, torch.Tensor]
    labels: torch.Tensor | None
    labels_from: str | None
    source: str
    paths: tuple[str, ...]
    notes: tuple[str, ...]


def read_samples(paths: list[str], model: LoadedModel, labels: str | None, **options: Any) -> Whole:
    found = _read(paths, model, AuditOptions(**options), labels)
    return Whole(
        found,
        {name: rows.all() for name, rows in found.arrays.items()},
        None if found.labels is None else found.labels.all(),
        found.labels_from,
        found.source,
        found.paths,
        found.notes,
    )


def npz(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def refused(path: str, *inputs: InputSpec, labels: str | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        read_samples([path], model(*inputs), labels)
    return caught.value


def test_npz_is_matched_by_name_in_the_models_order(tmp_path: Path) -> None:
    ids = np.zeros((6, 4), dtype=np.int32)
    path = npz(tmp_path / "b.npz", x=ROWS, ids=ids, labels=LABELS)
    samples = read_samples([path], model(IDS, X), None)
    assert list(samples.arrays) == ["ids", "x"]
    assert samples.arrays["ids"].dtype == torch.int64
    assert torch.equal(samples.arrays["x"], torch.from_numpy(ROWS))
    assert samples.labels is not None
    assert samples.labels.tolist() == LABELS.tolist()
    assert samples.labels_from == f"{path}:labels"
    assert (samples.source, samples.paths) == ("file", (path,))


def test_floats_keep_their_precision(tmp_path: Path) -> None:
    path = npz(tmp_path / "b.npz", x=ROWS.astype(np.float64))
    assert read_samples([path], model(), None).arrays["x"].dtype == torch.float64


@pytest.mark.parametrize(
    ("arrays", "fact"),
    [
        ({}, "no array 'x' (it has: nothing)"),
        ({"X": ROWS, "m": ROWS}, "no array 'x' (it has: X, m)"),
        ({"x": ROWS, "mask": ROWS}, "array 'mask' is not an input of the model"),
        ({"x": ROWS[:, :2]}, "x: dimension 1 is 2 in [6, 2], but the model takes 3"),
        ({"x": ROWS[0]}, "x: has 1 dimensions [3], but the model takes 2"),
        ({"x": ROWS[:, :, None]}, "x: has 3 dimensions [6, 3, 1], but the model takes 2"),
        ({"x": ROWS.astype(np.int64)}, "x: is int64, but the model takes float32"),
        ({"x": ROWS > 3}, "x: is bool, but the model takes float32"),
        ({"x": ROWS.astype(np.complex64)}, "x: holds complex64, not real numbers"),
        ({"x": ROWS.astype(str)}, "x: holds <U32, not real numbers"),
    ],
)
def test_a_mismatch_names_the_first_fact_and_lists_what_the_model_takes(
    tmp_path: Path, arrays: dict[str, Any], fact: str
) -> None:
    error = refused(npz(tmp_path / "b.npz", **arrays))
    assert error.message.endswith(fact)
    assert error.message.startswith(str(tmp_path / "b.npz"))
    if "real numbers" not in fact:
        assert error.hint is not None
        assert "the model takes: x float32 [batch, 3]" in error.hint


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    rows = ROWS.copy()
    rows[3, 1] = value
    assert "holds NaN or infinite values" in refused(npz(tmp_path / "b.npz", x=rows)).message


def test_integers_fit_or_are_refused_but_never_wrap(tmp_path: Path) -> None:
    spec = InputSpec("x", ("batch", 3), "uint8")
    fits = npz(tmp_path / "fits.npz", x=ROWS.astype(np.int64))
    assert read_samples([fits], model(spec), None).arrays["x"].dtype == torch.uint8
    for rows in (ROWS.astype(np.int64) + 250, ROWS.astype(np.int64) - 1):
        path = npz(tmp_path / "wraps.npz", x=rows)
        assert refused(path, spec).message.endswith("holds values that do not fit into uint8")


def test_other_layouts_of_numpy_are_read(tmp_path: Path) -> None:
    for rows in (ROWS.astype(">f4"), np.asfortranarray(ROWS), ROWS.astype(np.longdouble)):
        path = npz(tmp_path / "b.npz", x=rows)
        assert read_samples([path], model(), None).arrays["x"].tolist() == ROWS.tolist()


def test_a_bare_array_is_the_only_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ROWS)
    torch.save(torch.from_numpy(ROWS), tmp_path / "x.pt")
    for name in ("x.npy", "x.pt"):
        samples = read_samples([str(tmp_path / name)], model(), None)
        assert samples.arrays["x"].tolist() == ROWS.tolist()
        assert samples.labels is None
        error = refused(str(tmp_path / name), X, IDS)
        assert "holds 1 array(s) without names, but the model has 2 inputs" in error.message
        assert error.hint is not None
        assert "--data NAME=PATH" in error.hint


def test_torch_files_hold_lists_in_input_order_or_mappings(tmp_path: Path) -> None:
    ids = torch.zeros(6, 4, dtype=torch.long)
    torch.save([torch.from_numpy(ROWS), ids], tmp_path / "list.pt")
    torch.save({"ids": ids, "x": torch.from_numpy(ROWS)}, tmp_path / "dict.pt")
    for name in ("list.pt", "dict.pt"):
        samples = read_samples([str(tmp_path / name)], model(X, IDS), None)
        assert list(samples.arrays) == ["x", "ids"]
        assert samples.arrays["x"].tolist() == ROWS.tolist()


@pytest.mark.parametrize(
    "content", [3, "text", {"x": 3}, [torch.ones(1), None], {"x": {"y": torch.ones(1)}}]
)
def test_torch_files_without_plain_tensors_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.pt")
    assert "holds no tensors" in refused(str(tmp_path / "x.pt")).message


def test_tensors_without_plain_memory_are_refused(tmp_path: Path) -> None:
    torch.save(torch.eye(3).to_sparse(), tmp_path / "x.pt")
    error = refused(str(tmp_path / "x.pt"))
    assert "a sparse, quantized, nested or meta tensor" in error.message
    assert error.hint is not None


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('executed')",))


def test_pickled_objects_are_never_executed(tmp_path: Path) -> None:
    torch.save({"x": Evil()}, tmp_path / "x.pt")
    np.save(tmp_path / "x.npy", np.array([Evil()]), allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=np.array([Evil()]))
    for name in ("x.pt", "x.npy", "x.npz"):
        error = refused(str(tmp_path / name))
        assert "cannot be read as " in error.message
        assert error.hint is not None
        assert "pickled objects, which are not read" in error.hint


def test_a_name_says_which_input_a_bare_array_is_for(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    np.save(tmp_path / "b.npy", np.zeros((6, 4), dtype=np.int64))
    paths = [f"ids={tmp_path / 'b.npy'}", f"x={tmp_path / 'a.npy'}"]
    samples = read_samples(paths, model(X, IDS), None)
    assert list(samples.arrays) == ["x", "ids"]
    assert samples.paths == tuple(paths)
    alone = npz(tmp_path / "one.npz", whatever=ROWS)
    assert list(read_samples([f"x={alone}"], model(), None).arrays) == ["x"]


def test_a_name_that_fits_nothing_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    error = refused(f"y={tmp_path / 'a.npy'}")
    assert "the model has no input 'y'" in error.message
    assert error.hint == "the model takes: x float32 [batch, 3]"
    several = npz(tmp_path / "two.npz", a=ROWS, b=ROWS)
    assert "holds several arrays" in refused(f"x={several}").message
    assert refused("x=nosuch.npy").message == "nosuch.npy: no such file"


def test_several_files_are_joined_along_the_rows(tmp_path: Path) -> None:
    paths = [
        npz(tmp_path / f"{i}.npz", x=ROWS[i : i + 2], labels=LABELS[i : i + 2]) for i in (0, 2, 4)
    ]
    samples = read_samples(paths, model(), None)
    assert samples.arrays["x"].tolist() == ROWS.tolist()
    assert samples.labels is not None
    assert samples.labels.tolist() == LABELS.tolist()
    assert samples.labels_from == "the data:labels"


@pytest.mark.parametrize(
    ("other", "fact"),
    [
        (ROWS[:, :2], "do not join along the rows"),
        (ROWS.astype(np.int64), "hold different types (float32, int64)"),
    ],
)
def test_files_that_do_not_join_are_refused(tmp_path: Path, other: Any, fact: str) -> None:
    paths = [npz(tmp_path / "a.npz", x=ROWS), npz(tmp_path / "b.npz", x=other)]
    with pytest.raises(DataError) as caught:
        read_samples(paths, model(), None)
    assert fact in caught.value.message


def test_labels_come_by_key_by_path_or_by_their_usual_name(tmp_path: Path) -> None:
    data = npz(tmp_path / "b.npz", x=ROWS, y=LABELS)
    np.save(tmp_path / "y.npy", LABELS + 1)
    several = npz(tmp_path / "several.npz", other=LABELS, labels=LABELS + 2)
    single = npz(tmp_path / "single.npz", target=LABELS + 3)
    by_key = read_samples([data], model(), "y")
    assert (by_key.labels_from, by_key.labels is None) == (f"{data}:y", False)
    plain = npz(tmp_path / "x.npz", x=ROWS)
    for path, offset in ((str(tmp_path / "y.npy"), 1), (several, 2), (single, 3)):
        found = read_samples([plain], model(), path)
        assert found.labels is not None
        assert found.labels.tolist() == (LABELS + offset).tolist()
        assert found.labels_from == path


def test_labels_that_cannot_be_found_are_told(tmp_path: Path) -> None:
    data = npz(tmp_path / "b.npz", x=ROWS, z=LABELS)
    several = npz(tmp_path / "several.npz", a=LABELS, b=LABELS)
    plain = npz(tmp_path / "x.npz", x=ROWS)
    assert "array 'z' is not an input" in refused(data).message
    missing = refused(plain, labels="nosuch").message
    assert missing.endswith(f"neither a key of {plain} (it has: x) nor a file")
    assert "none is called 'labels'" in refused(plain, labels=several).message


def test_an_input_called_labels_is_an_input(tmp_path: Path) -> None:
    spec = InputSpec("labels", ("batch",), "int64")
    samples = read_samples([npz(tmp_path / "b.npz", x=ROWS, labels=LABELS)], model(X, spec), None)
    assert samples.labels is None
    assert list(samples.arrays) == ["x", "labels"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.npz", b""),
        ("rows.bin", b"1.0,2.0\n3.0,4.0\n"),
        ("cut.npz", b"PK\x03\x04" + bytes(40)),
        ("cut.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order"),
        ("huge.npy", b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f8', 'fortran_order': False, 'shape': "
         b"(99999999999999,)}\n"),
        ("pickle.pkl", b"\x80\x04K\x03."),
    ],
)  # fmt: skip
def test_files_of_other_kinds_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    error = refused(str(tmp_path / name))
    assert name in error.message
    reasons = ("cannot be read", "cut off", "cut-off", "an empty file", "is none of .npy, .npz, ")
    assert any(reason in error.message for reason in reasons)
    assert error.hint is not None


def test_places_without_a_file_are_refused(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "no.npz")).message.endswith("no such file")
    assert "a folder without images" in refused(str(tmp_path)).message


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["stored.npz", "packed.npz", "x.npy", "x.pt"]),
    place=st.floats(0, 1),
    value=st.integers(0, 255),
    cut=st.booleans(),
)
def test_a_damaged_file_never_raises_anything_else(
    tmp_path: Path, kind: str, place: float, value: int, cut: bool
) -> None:
    whole = tmp_path / kind
    if not whole.exists():
        np.savez(tmp_path / "stored.npz", x=ROWS)
        np.savez_compressed(tmp_path / "packed.npz", x=ROWS)
        np.save(tmp_path / "x.npy", ROWS)
        torch.save(torch.from_numpy(ROWS), tmp_path / "x.pt")
    content = bytearray(whole.read_bytes())
    at = int(place * (len(content) - 1))
    content[at] = value
    damaged = tmp_path / f"damaged_{kind}"
    damaged.write_bytes(content[:at] if cut else content)
    try:
        samples = read_samples([str(damaged)], model(), None)
    except DataError:
        return
    assert samples.arrays["x"].shape[1:] == (3,)


def test_the_only_array_is_the_only_input_whatever_it_is_called(tmp_path: Path) -> None:
    for key, label in (("image", "labels"), ("pixel_values", "label"), ("features", "targets")):
        path = npz(tmp_path / f"{key}.npz", **{key: ROWS, label: LABELS})
        samples = read_samples([path], model(), None)
        assert samples.arrays["x"].tolist() == ROWS.tolist()
        assert samples.labels is not None
        assert samples.labels.tolist() == LABELS.tolist()
        assert samples.notes == (f"the array {key!r} was taken for 'x', the model's only input",)
        named = read_samples([f"x={path}"], model(), None)
        assert named.arrays["x"].tolist() == ROWS.tolist()
        assert named.labels is not None


def test_two_strange_arrays_or_two_inputs_are_not_guessed(tmp_path: Path) -> None:
    two = npz(tmp_path / "two.npz", image=ROWS, mask=ROWS, y=LABELS)
    error = refused(two)
    assert error.message.endswith("no array 'x' (it has: image, mask, y)")
    assert error.hint is not None
    assert "--data x=PATH" in error.hint
    assert "rename the array" in error.hint
    assert "holds several arrays" in refused(f"x={two}").message
    one = npz(tmp_path / "one.npz", x=ROWS, tokens=LABELS)
    assert refused(one, X, IDS).message.endswith("no array 'ids' (it has: x, tokens)")
    # The only input is there: what stands beside it is not taken for another.
    beside = npz(tmp_path / "beside.npz", x=ROWS, image=ROWS)
    assert "'image' is not an input" in refused(beside).message
    # Of the same kind as the input, or refused as it would be under its own name.
    wrong = npz(tmp_path / "wrong.npz", image=ROWS[:, :2])
    assert "x: dimension 1 is 2" in refused(wrong).message


def test_y_is_an_input_where_the_model_has_one_of_that_name(tmp_path: Path) -> None:
    y = InputSpec("y", ("batch",), "int64")
    path = npz(tmp_path / "b.npz", x=ROWS, y=LABELS)
    samples = read_samples([path], model(X, y), None)
    assert list(samples.arrays) == ["x", "y"]
    assert samples.labels is None
