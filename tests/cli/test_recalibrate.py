"""`bnaudit recalibrate` in a shell: what it writes, says and returns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.load.files import script
from tests.nets import Shared, make
from tests.recalibration.nets import labels, rows, two

from .conftest import MLP, RESNET, shell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Outcome


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A network with wrong statistics, its data, and its weights alone."""
    net, x = two(), rows()
    script(net, tmp_path / "net.pt")
    torch.save(net.state_dict(), tmp_path / "net.pth")
    np.savez(tmp_path / "data.npz", x=x.numpy(), labels=labels(net, x).numpy())
    return tmp_path


def test_mended_and_checked_again(folder: Path) -> None:
    judged = "-q --fail-on warning --select BN201,BN202"
    command = f"cd {folder} && $BN recalibrate net.pt --data data.npz -o fixed.pt"
    outcome = shell(f"{command} && $BN check fixed.pt --data data.npz {judged}")
    assert outcome.code == 0, outcome.err
    assert "BETTER: deployed loss" in outcome.out
    assert "written to fixed.pt, and loaded again" in outcome.out
    before = shell(f"cd {folder} && $BN check net.pt --data data.npz {judged}")
    assert before.code == 1


@pytest.mark.parametrize("kind", ["model.onnx", "dynamo.onnx", "static.onnx", "scripted.pt"])
def test_shipped_networks(cli: Callable[..., Outcome], tmp_path: Path, kind: str) -> None:
    """Healthy ones change by less than their own interval."""
    target = tmp_path / kind
    ran = cli("recalibrate", RESNET / kind, "--data", RESNET / "batch.npz", "-o", target,
              "--format", "json", "-q")  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    found = ran.document
    assert found["schema"] == "bnaudit.recalibration/1"
    before, change = found["before"]["loss"], found["change"]
    assert abs(change["mean"]) < before["upper"] - before["mean"]
    assert found["written"]["outputs"] <= found["written"]["tolerance"]
    assert found["summary"] == {
        **found["summary"], "layers": 10, "changed": 10, "written": True, "refused": False
    }  # fmt: skip
    assert cli("check", target, "--data", RESNET / "batch.npz", "-q").code == 0


def test_weights_of_a_factory(cli: Callable[..., Outcome], folder: Path) -> None:
    fixed = folder / "fixed.pth"
    ran = cli("recalibrate", "tests.recalibration.nets:Two", "--weights", folder / "net.pth", "--data",
              folder / "data.npz", "-o", fixed, "-q")  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    assert set(torch.load(fixed)) == set(torch.load(folder / "net.pth"))
    assert "(checkpoint)" in ran.out


def test_dry_run_and_report(cli: Callable[..., Outcome], folder: Path) -> None:
    report = folder / "report.json"
    before = sorted(folder.iterdir())
    ran = cli("recalibrate", folder / "net.pt", "--data", folder / "data.npz", "--dry-run", "--report",
              report, "-q", "--channels")  # fmt: skip
    assert ran.code == 0
    assert sorted(folder.iterdir()) == sorted([*before, report])
    found = json.loads(report.read_text())
    assert found["output"] is None
    assert found["written"] is None
    assert len(found["layers"][0]["running_mean"]) == 4
    alone = cli("recalibrate", folder / "net.pt", "--data", folder / "data.npz", "--dry-run", "--format",
                "json", "--way", "one-pass", "--layers", "bn2", "-q").document  # fmt: skip
    assert (alone["way"], alone["passes"], alone["summary"]["changed"]) == ("one-pass", 1, 1)
    assert alone["layers"][0]["kept_because"] == "not asked for (--layers)"


def test_a_refusal_is_shown_and_exits_with_4(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    script(make(Shared), tmp_path / "net.pt")
    np.savez(
        tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((96, 6)).astype("f4")
    )
    command = ("recalibrate", tmp_path / "net.pt", "--data", tmp_path / "data.npz", "-o",
               tmp_path / "fixed.pt", "-q")  # fmt: skip
    ran = cli(*command)
    assert ran.code == 4
    assert ran.lines[0].startswith("error: not recalibrated: bn is called in several places")
    assert ran.lines[1].endswith("--force writes it nonetheless")
    assert "REFUSED" in ran.out
    assert not (tmp_path / "fixed.pt").exists()
    assert cli(*command, "--force").code == 0
    assert (tmp_path / "fixed.pt").exists()


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((), "nothing says where to write the model"),
        (("-o", "x.onnx", "--dry-run"), "--dry-run writes nothing"),
        (("-o", "report.json"), "-o names report.json, and would hold the model"),
        (("-o", ""), "Invalid value for '-o' / '--output': an empty output name"),
        (("--dry-run", "--entry", "ema"), "an entry of weights for a model that has its own"),
        (("--dry-run", "--report", "x.onnx"), "Invalid value for '--report'"),
    ],
)
def test_what_means_nothing(cli: Callable[..., Outcome], args: tuple[str, ...], error: str) -> None:
    ran = cli("recalibrate", MLP / "model.onnx", "--data", MLP / "batch.npz", *args)
    assert ran.code == 2
    assert ran.lines[0].startswith(f"error: {error}"), ran.err
    assert ran.out == ""


def test_no_data_and_no_batchnorm(cli: Callable[..., Outcome]) -> None:
    ran = cli("recalibrate", MLP / "model.onnx", "--dry-run")
    assert (ran.code, ran.lines[0]) == (2, "error: no data to compute statistics of")
    ran = cli("recalibrate", MLP / "folded.onnx", "--data", MLP / "batch.npz", "--dry-run")
    assert ran.code == 3
    assert "there is no BatchNorm in it: folded" in ran.lines[0]
    assert "optimize=False" in ran.lines[1]


def test_the_input_is_never_the_output(cli: Callable[..., Outcome], folder: Path) -> None:
    before = (folder / "net.pt").read_bytes()
    for target in ("net.pt", "data.npz"):
        ran = cli(
            "recalibrate", folder / "net.pt", "--data", folder / "data.npz", "-o", folder / target
        )
        assert ran.code == 2
        assert "is read by this command" in ran.lines[0]
    ran = cli("recalibrate", folder / "net.pt", "--data", folder / "data.npz", "--dry-run", "--report",
              f"json={folder / 'net.pt'}")  # fmt: skip
    assert ran.code == 2
    assert (folder / "net.pt").read_bytes() == before
