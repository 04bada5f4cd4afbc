"""The cache of matched batches: off unless asked for, believed only where it is right, written whole."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import bnaudit
from bnaudit.matching import store
from tests.matching import nets

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from bnaudit.documents import Report


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    return tmp_path / "bnaudit" / "matched"


def audited(net: nn.Module, **options: Any) -> Report:
    options = {"match_cache": True, "match_steps": 12, "batches": 2, **options}
    return bnaudit.audit(
        net, data="matched", input_shapes={"input": (8, 3, 10)}, metrics=("first_order",), **options
    )


def cached(report: Report) -> bool:
    assert report.run is not None
    assert report.run.data.matching is not None
    return report.run.data.matching.cached


def test_the_second_audit_takes_the_batches_of_the_first(place: Path) -> None:
    first, second = audited(nets.sequences()), audited(nets.sequences())
    assert [cached(first), cached(second)] == [False, True]
    assert first.layers == second.layers
    (path,) = place.iterdir()
    with zipfile.ZipFile(path) as archive:
        assert all(name.endswith(".npy") for name in archive.namelist())


def test_nothing_is_kept_unless_asked_for(place: Path) -> None:
    assert not cached(audited(nets.sequences(), match_cache=False))
    assert not place.exists()


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"match_steps": 13}, {"batches": 1}, {"dtype": "float64"}]
)
def test_other_options_have_other_batches(place: Path, changed: dict[str, Any]) -> None:
    audited(nets.sequences())
    assert not cached(audited(nets.sequences(), **changed))
    assert len(list(place.iterdir())) == 2


def test_another_weight_has_another_key(place: Path) -> None:
    audited(nets.sequences())
    net: Any = nets.sequences()
    net[3].weight[0, 0, 0] += 1e-3
    assert not cached(audited(net))
    assert len(list(place.iterdir())) == 2


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _zeros(data: bytes) -> bytes:
    """Batches of the right shape that are not what the file says of them."""
    with np.load(io.BytesIO(data)) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    out = io.BytesIO()
    np.savez(out, **{n: a if n == "facts" else 0 * a for n, a in found.items()})
    return out.getvalue()


def _objects(data: bytes) -> bytes:
    del data
    out = io.BytesIO()
    np.savez(out, facts=np.array([{}], dtype=object))
    return out.getvalue()


@pytest.mark.parametrize("damage", [_cut, _zeros, _objects])
def test_what_is_not_right_is_made_again(place: Path, damage: Any) -> None:
    first = audited(nets.sequences())
    (path,) = place.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    again = audited(nets.sequences())
    assert not cached(again)
    assert again.layers == first.layers
    assert path.read_bytes() != damage(whole)
    assert cached(audited(nets.sequences()))


def test_a_folder_that_cannot_be_written_is_a_note(place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.write_text("a file in the way")
    report = audited(nets.sequences())
    assert report.run is not None
    assert any("not kept" in note for note in report.run.notes)


def test_a_write_that_fails_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    report = audited(nets.sequences())
    assert report.run is not None
    assert any("No space left" in note for note in report.run.notes)
    assert not list(place.iterdir())


def test_the_folder_is_bounded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_MOST", 1)
    for seed in range(3):
        audited(nets.sequences(), seed=seed)
    assert len(list(place.iterdir())) == 1
