"""Runs from their files: order, what cannot be read, what is concluded."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from fixtures.nets import TabularMlp
from torch import Tensor, nn

import bnaudit
from bnaudit.errors import InputError, NoBatchNormError, UsageError
from bnaudit.records.training import Course
from bnaudit.records.values import Skipped
from tests.cli.conftest import MLP, RESNET

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Outcome


def statistics(module: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    mean, var = module.running_mean, module.running_var
    assert mean is not None
    assert var is not None
    return mean, var


def net(scale: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    made = TabularMlp()
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.BatchNorm1d):
                statistics(module)[0].uniform_(-1, 1)
                statistics(module)[1].uniform_(0.5, 2)
                module.weight.fill_(scale)
    return made


def saved(path: Path, scale: float = 1.0, **beside: Any) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    state = net(scale).state_dict()
    torch.save({"state_dict": state, **beside} if beside else state, path)
    return path


def places(report: bnaudit.TrendReport) -> list[float | None]:
    return [m.place for m in report.read]


def test_a_run_that_falls(tmp_path: Path) -> None:
    for step in range(8):
        saved(tmp_path / f"model-{100 * step}.pt", 0.8**step)
    report = bnaudit.trend(tmp_path)
    assert (report.axis, places(report)) == ("number", [100 * s for s in range(8)])
    network = report.network
    assert isinstance(network, Course)
    assert (network.direction, network.late) == ("fell", "none")
    assert network.change == pytest.approx(0.8**7)
    last = report.layers[0].states[-1]
    assert last is not None
    first = next(m for m in net().modules() if isinstance(m, nn.BatchNorm1d))
    gains = 0.8**7 / (statistics(first)[1].double() + 1e-5).sqrt()
    assert last.gain == pytest.approx(float(gains.quantile(0.5)), rel=1e-6)
    assert last.gain_maximum == pytest.approx(float(gains.max()), rel=1e-6)
    document = json.loads(report.to_json())
    assert document["summary"]["verdict"] == "fell"
    assert "fell in 3 of 3 layers" in document["summary"]["sentence"]


@pytest.mark.parametrize(
    ("names", "axis", "expected"),
    [
        (["epoch=1-step=50.ckpt", "epoch=0-step=25.ckpt"], "step", [25, 50]),
        (["epoch_10.pth", "epoch_9.pth"], "epoch", [9, 10]),
        (["checkpoint-1000/model.pt", "checkpoint-500/model.pt"], "step", [500, 1000]),
        (["net_3_loss0.5.pt", "net_20_loss0.1.pt"], "number", [3, 20]),
        (["b.pt", "a.pt"], "order", [1, 2]),
    ],
)
def test_the_order_by_names(
    tmp_path: Path, names: list[str], axis: str, expected: list[int]
) -> None:
    paths = [saved(tmp_path / name) for name in names]
    report = bnaudit.trend(*paths)
    assert (report.axis, places(report)) == (axis, expected)
    given = bnaudit.trend(*paths, as_given=True)
    assert [m.path for m in given.read] == [str(p) for p in paths]
    assert (given.axis, places(given)) == ("order", [1, 2])


def test_the_order_by_content_goes_before_names(tmp_path: Path) -> None:
    for name, step in (("a1.pt", 300), ("a2.pt", 200), ("a3.pt", 100)):
        saved(tmp_path / name, global_step=step, epoch=1)
    saved(tmp_path / "a4.pt")
    report = bnaudit.trend(tmp_path)
    assert (report.axis, places(report)) == ("step", [100, 200, 300])
    assert [m.missing for m in report.moments if m.missing] == [
        "no step in its name or content, as the others have"
    ]


def test_what_cannot_be_read_is_a_row(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        saved(tmp_path / f"s{step}.pt")
    whole = (tmp_path / "s3.pt").read_bytes()
    (tmp_path / "s4.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "s5.pt").write_bytes(b"")
    torch.save({"0.weight": torch.ones(3, 3)}, tmp_path / "s6.pt")
    torch.save(nn.Sequential(nn.BatchNorm1d(7)).state_dict(), tmp_path / "s7.pt")
    broken = net()
    with torch.no_grad():
        for module in broken.modules():
            if isinstance(module, nn.BatchNorm1d):
                statistics(module)[1].fill_(float("nan"))
    torch.save(broken.state_dict(), tmp_path / "s8.pt")
    report = bnaudit.trend(*(tmp_path / f"s{i}.pt" for i in range(1, 10)))
    missing = {Path(m.path).name: m.missing or "" for m in report.moments}
    assert [name for name, why in missing.items() if not why] == [
        "s1.pt",
        "s2.pt",
        "s3.pt",
        "s8.pt",
    ]
    for name, why in (
        ("s4.pt", "damaged"), ("s5.pt", "empty"), ("s6.pt", "no BatchNorm in it (none)"),
        ("s7.pt", "another network: none of its 1 layers"), ("s9.pt", "no such file"),
    ):  # fmt: skip
        assert why in missing[name]
    noted = [m.note for m in report.read if m.note]
    assert noted == ["3 of 3 layers have no finite |gamma|/sigma"]
    assert isinstance(report.layers[0].gain, Course)
    assert report.layers[0].gain.values == 3


def test_a_network_that_grew(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        saved(tmp_path / f"s{step}.pt")
    grown = {**net().state_dict(), "extra.running_mean": torch.zeros(4)}
    grown |= {f"extra.{n}": torch.rand(4) for n in ("running_var", "weight", "bias")}
    torch.save(grown, tmp_path / "s4.pt")
    report = bnaudit.trend(tmp_path)
    assert report.read[-1].note == "3 of the run's 3 layers, and 1 others"
    assert len(report.layers) == 3


def test_statistics_as_initialised_are_no_first_value(tmp_path: Path) -> None:
    torch.save(TabularMlp().state_dict(), tmp_path / "s0.pt")
    for step in (1, 2):
        saved(tmp_path / f"s{step}.pt")
    layer = bnaudit.trend(tmp_path).layers[0]
    assert layer.states[0] is not None
    assert layer.states[0].gain == Skipped(
        "the statistics are as initialised: no batch has been seen"
    )
    assert isinstance(layer.gain, Course)
    assert layer.gain.values == 2


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder without checkpoints"):
        bnaudit.trend(tmp_path)
    with pytest.raises(InputError, match="no file fits the pattern"):
        bnaudit.trend(str(tmp_path / "*.pt"))
    with pytest.raises(InputError, match="none of 1 files could be read"):
        bnaudit.trend(tmp_path / "none.pt")
    with pytest.raises(UsageError, match="is the code of a network"):
        bnaudit.trend("fixtures.nets:TabularMlp")
    with pytest.raises(UsageError, match="no run is named"):
        bnaudit.trend()
    torch.save({"0.weight": torch.ones(3, 3)}, tmp_path / "a.pt")
    with pytest.raises(NoBatchNormError, match="none of 1 files has a BatchNorm layer"):
        bnaudit.trend(tmp_path)
    saved(tmp_path / "b.pt")
    with pytest.raises(UsageError, match="matches none of the 3 layers"):
        bnaudit.trend(tmp_path / "b.pt", layers="nope*")


def test_folders_of_the_trainer_and_hidden_files(tmp_path: Path) -> None:
    for step in (20, 100):
        folder = tmp_path / f"checkpoint-{step}"
        saved(folder / "pytorch_model.bin")
        for other in ("optimizer.pt", "scheduler.pt", "training_args.bin"):
            torch.save({"state": {}}, folder / other)
    saved(tmp_path / ".cache" / "x.pt")
    (tmp_path / "README.md").write_text("no model")
    saved(tmp_path / "scheduler.pt")
    report = bnaudit.trend(tmp_path)
    assert (report.axis, places(report)) == ("step", [20, 100])
    assert len(report.moments) == 2
    assert places(bnaudit.trend(str(tmp_path / "checkpoint-*"))) == [20, 100]


def test_checkpoints_are_measured_with_the_networks_code(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"s{i}.pt", 0.5**i) for i in (1, 2)]
    data = MLP / "batch.npz"
    report = bnaudit.trend(*paths, code="fixtures.nets:TabularMlp", data=[str(data)], batches=2)
    audit = bnaudit.audit(
        "fixtures.nets:TabularMlp", weights=paths[1], data=[str(data)], batches=2, metrics=()
    )
    for layer, audited in zip(report.layers, audit.layers, strict=True):
        state = layer.states[1]
        assert state is not None
        assert not isinstance(audited.first_order, Skipped)
        assert state.measured == audited.first_order.measured.median  # type: ignore[union-attr]
    assert isinstance(report.moments[1].loss, float)
    assert report.versions["torch"] == torch.__version__
    with pytest.raises(UsageError, match="weights alone cannot be run"):
        bnaudit.trend(*paths, data=[str(data)])


def test_files_that_are_networks_are_run(tmp_path: Path) -> None:
    report = bnaudit.trend(
        RESNET / "model.onnx", RESNET / "scripted.pt", data=[str(RESNET / "batch.npz")], batches=1
    )
    first, second = (layer.states for layer in report.layers[:2])
    assert first[0] is not None
    assert first[1] is not None
    assert second[0] is not None
    assert first[0].measured == pytest.approx(first[1].measured, rel=1e-5)


def test_the_command(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    for step in range(6):
        saved(tmp_path / f"step_{step}.pt", 0.9**step)
    ran = cli("trend", tmp_path, "-o", tmp_path / "t.json", "-o", tmp_path / "t.csv", "-o",
              tmp_path / "t.parquet")  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.verdict.startswith("FELL: |γ|/σ of the middle layer fell from")
    document = json.loads((tmp_path / "t.json").read_text())
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert len(lines) == 1 + 6 * 3
    rows = list(csv.DictReader(lines))
    assert [float(r["gain"]) for r in rows if r["name"] == "bn1"] == pytest.approx(
        [state["gain"] for state in document["layers"][0]["states"]]
    )
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table.num_rows == 18
    assert np.allclose(table["gain"].to_numpy(), [float(r["gain"]) for r in rows])
    assert cli("trend", tmp_path / "nothing.pt").code == 2
    assert "cannot be written" in cli("trend", tmp_path, "-o", "/nonexistent/t.json").err


def test_parquet_without_its_extra(
    cli: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    saved(tmp_path / "a1.pt")
    saved(tmp_path / "a2.pt")
    ran = cli("trend", tmp_path, "-o", tmp_path / "t.parquet")
    assert ran.code == 2
    assert ran.lines == [
        "error: parquet needs pyarrow, which is not installed",
        "hint: pip install 'bnaudit[tables]'",
    ]
    assert not (tmp_path / "t.parquet").exists()


def test_no_torch_for_files_alone(tmp_path: Path) -> None:
    from tests.architecture.test_imports import RUN, loaded_by

    saved(tmp_path / "a1.pt")
    saved(tmp_path / "a2.pt")
    code = RUN.format(args=["trend", str(tmp_path), "--format", "json", "-q"], code=0)
    assert loaded_by(code) == set()
