"""Every format: the statistics are written in its own type and place, and nothing else changes."""

from __future__ import annotations

import shutil
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import bnaudit
from bnaudit.errors import InputError, RunError, UsageError
from bnaudit.load.weights.state import read_state
from tests.load.files import export, script, trace
from tests.recalibration.nets import labels, reference, rows, two
from tests.unit.initialisation.files import save_safetensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FACTORY = "tests.recalibration.nets:Two"
STATS = {f"bn{i}.running_{s}" for i in (1, 2) for s in ("mean", "var")}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    net, x = two(), rows()
    path = tmp_path / "data.npz"
    np.savez(path, x=x.numpy(), labels=labels(net, x).numpy())
    return path


def expect(found: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    """The statistics are those of the definition; everything else is as it was."""
    net, x = two(), rows()
    wanted = reference(net, x)
    for name, tensor in net.state_dict().items():
        layer, _, own = name.rpartition(".")
        if own in {"running_mean", "running_var"}:
            value = wanted[layer][own == "running_var"]
            sigma = (wanted[layer][1] + 1e-5).sqrt()
            scale = sigma if own == "running_mean" else sigma.square()
            assert ((found[name].double() - value).abs() / scale).max() < tolerance
        else:
            assert torch.equal(found[name].to(tensor), tensor.to(found[name]).to(tensor)), name


@pytest.mark.parametrize("kind", ["scripted", "traced"])
def test_torchscript(tmp_path: Path, data: Path, kind: str) -> None:
    net = two()
    if kind == "scripted":
        script(net, tmp_path / "net.pt")
    else:
        trace(net, rows(2), tmp_path / "net.pt")
    report = bnaudit.recalibrate(tmp_path / "net.pt", data=str(data), output=tmp_path / "fixed.pt")
    expect(loaded(tmp_path / "fixed.pt"))
    assert report.output == str(tmp_path / "fixed.pt")
    assert report.written.outputs == 0  # type: ignore[union-attr]
    same_but_for_numbers(tmp_path / "net.pt", tmp_path / "fixed.pt", members=4)
    assert report.after.accuracy.mean > 0.95  # type: ignore[union-attr]


def loaded(path: Path) -> dict[str, torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(torch.jit.load(str(path)).state_dict())


def same_but_for_numbers(before: Path, after: Path, members: int) -> None:
    """All other members are the same, and all checksums are right."""
    assert before.stat().st_size == after.stat().st_size
    with zipfile.ZipFile(before) as one, zipfile.ZipFile(after) as two_:
        assert one.namelist() == two_.namelist()
        assert two_.testzip() is None
        changed = [name for name in one.namelist() if one.read(name) != two_.read(name)]
    assert len(changed) == members
    assert all("/data/" in name or "/weights/" in name for name in changed)


def by_factory(weights: Path, data: Path, output: Path, **options: Any) -> bnaudit.Recalibration:
    return bnaudit.recalibrate(FACTORY, weights=weights, data=str(data), output=output, **options)


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint(tmp_path: Path, data: Path, zipped: bool) -> None:
    path, fixed = tmp_path / "net.pth", tmp_path / "fixed.pth"
    torch.save(two().state_dict(), path, _use_new_zipfile_serialization=zipped)
    by_factory(path, data, fixed)
    expect(torch.load(fixed))
    if zipped:
        same_but_for_numbers(path, fixed, members=4)


def test_entries_beside_it_stay(tmp_path: Path, data: Path) -> None:
    net, other = two(), two()
    other.get_buffer("bn1.running_mean").add_(1)
    path, fixed = tmp_path / "all.pth", tmp_path / "fixed.pth"
    content: dict[str, Any] = {
        "epoch": 3,
        "model": net.state_dict(),
        "ema": other.state_dict(),
        "note": "kept",
    }
    torch.save(content, path)
    by_factory(path, data, fixed)
    found = torch.load(fixed)
    expect(found["model"])
    assert (found["epoch"], found["note"]) == (3, "kept")
    assert all(torch.equal(found["ema"][k], v) for k, v in content["ema"].items())
    by_factory(path, data, tmp_path / "ema.pth", entry="ema")
    found = torch.load(tmp_path / "ema.pth")
    expect(found["ema"])
    assert all(torch.equal(found["model"][k], v) for k, v in content["model"].items())


def test_an_average_that_shares_its_numbers_is_no_victim(tmp_path: Path, data: Path) -> None:
    net = two()
    path = tmp_path / "all.pth"
    torch.save({"model": net.state_dict(), "ema": dict(net.state_dict())}, path)
    with pytest.raises(RunError, match="is the same tensor in the file as bn"):
        by_factory(path, data, tmp_path / "fixed.pth")
    assert not (tmp_path / "fixed.pth").exists()


def test_names_with_a_prefix(tmp_path: Path, data: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"module." + k: v for k, v in two().state_dict().items()}, path)
    by_factory(path, data, tmp_path / "fixed.pth")
    found = torch.load(tmp_path / "fixed.pth")
    expect({k.removeprefix("module."): v for k, v in found.items()})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_safetensors(tmp_path: Path, data: Path, dtype: torch.dtype) -> None:
    path, fixed = tmp_path / "net.safetensors", tmp_path / "fixed.safetensors"
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in two().state_dict().items()}
    save_safetensors(path, state)
    by_factory(path, data, fixed)
    found = read_state(fixed, None, len).tensors
    found = {k: v.to(state[k]) for k, v in found.items()}
    assert {t.dtype for k, t in read_state(fixed, None, len).tensors.items() if k in STATS} == {
        dtype
    }
    rounding = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}[dtype]
    if dtype is torch.float32:
        expect(found)
    wanted = reference(two(), rows())
    for i in (1, 2):
        relative = found[f"bn{i}.running_var"].double() / wanted[f"bn{i}"][1] - 1
        assert relative.abs().max() < 5 * rounding  # half-precision weights in front change it too
    before, after = path.read_bytes(), fixed.read_bytes()
    assert len(before) == len(after)
    size = int.from_bytes(before[:8], "little")
    assert before[: 8 + size] == after[: 8 + size]
    assert all(torch.equal(v, found[k]) for k, v in state.items() if k not in STATS)


def test_exported(tmp_path: Path, data: Path) -> None:
    path, fixed = tmp_path / "net.pt2", tmp_path / "fixed.pt2"
    dims = ({0: torch.export.Dim("n", min=1, max=512)},)
    export(two(), path, rows(4), dynamic_shapes=dims)
    with pytest.raises(InputError, match=r"torch\.export file"):
        bnaudit.recalibrate(path, data=str(data), output=fixed)
    bnaudit.recalibrate(path, data=str(data), output=fixed, trust=True)
    expect(dict(torch.export.load(fixed).state_dict))


def test_a_float16_statistic_beyond_the_range(tmp_path: Path) -> None:
    """Variances of 1e9 are no float16: refused; forced, they are cut off with a word."""
    state = two().half().state_dict()
    state["conv1.weight"] *= 3000
    path = tmp_path / "net.pth"
    torch.save(state, path)
    data = {"x": rows()}
    report = bnaudit.recalibrate(FACTORY, weights=path, data=data)
    assert "range" in {r.case for r in report.refusals}
    with pytest.raises(bnaudit.RefusedError):
        bnaudit.recalibrate(FACTORY, weights=path, data=data, output=tmp_path / "fixed.pth")
    bnaudit.recalibrate(FACTORY, weights=path, data=data, output=tmp_path / "f.pth", force=True)
    assert float(torch.load(tmp_path / "f.pth")["bn1.running_var"].max()) == 65504


def test_frozen_constants_are_refused(tmp_path: Path, data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.jit.freeze(torch.jit.script(two()), optimize_numerics=False)
        net.save(str(tmp_path / "net.pt"))
    with pytest.raises(RunError, match="no layer's statistics can be computed again"):
        bnaudit.recalibrate(tmp_path / "net.pt", data=str(data), output=tmp_path / "fixed.pt")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return script(two(), tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (lambda p: p / "net.pt", "is read by this command"),
        (lambda p: p / "data.npz", "is read by this command"),
        (lambda p: p / "link.pt", "as .*net.pt"),
        (lambda p: p, "is a folder"),
        (lambda p: p / "none" / "x.pt", "there is no folder"),
    ],
)
def test_nothing_that_is_read_is_written_over(
    tmp_path: Path, net: Path, data: Path, place: Callable[[Path], Path], why: str
) -> None:
    (tmp_path / "link.pt").symlink_to(net)
    before = net.read_bytes(), data.read_bytes()
    with pytest.raises(UsageError, match=why):
        bnaudit.recalibrate(net, data=str(data), output=place(tmp_path))
    assert before == (net.read_bytes(), data.read_bytes())


def test_no_partial_file(
    tmp_path: Path, net: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong while it is written: an older file stays, and nothing else is left."""
    fixed = tmp_path / "fixed.pt"
    fixed.write_bytes(b"an older one")

    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fails)
    with pytest.raises(UsageError, match=r"cannot be written \(No space left"):
        bnaudit.recalibrate(net, data=str(data), output=fixed)
    assert fixed.read_bytes() == b"an older one"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.npz", "fixed.pt", "net.pt"]


def test_a_file_that_gives_something_else_is_not_kept(
    tmp_path: Path, net: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnaudit.recalibration.store import tensors

    monkeypatch.setattr(tensors, "encoded", lambda v, *_, **__: bytes(4 * v.numel()))
    with pytest.raises(RunError, match="does not give what was computed"):
        bnaudit.recalibrate(net, data=str(data), output=tmp_path / "fixed.pt")
    assert not (tmp_path / "fixed.pt").exists()


def test_factory_without_weights(data: Path) -> None:
    with pytest.raises(UsageError, match="no weights were given"):
        bnaudit.recalibrate(FACTORY, data=str(data))
