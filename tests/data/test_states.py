"""Static files whose states carry the batch on another axis than the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.errors import BnauditError
from bnaudit.records.values import Skipped
from bnaudit.records.verification import Verification

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("in_order")


class Stream(nn.Module):
    """Streaming audio: a frame, a convolution's cache, and the two layers of a recurrent state."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 4, 3, padding=(0, 1)), nn.BatchNorm2d(4)
        self.gru, self.out = nn.GRU(24, 5, 2), nn.Linear(5, 3)

    def forward(self, x: Tensor, cache: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = torch.cat([cache, x], 2)
        features = torch.relu(self.bn(self.conv(seen))).permute(2, 0, 1, 3).flatten(2)
        found, state = self.gru(features, h)
        return self.out(found[-1]), seen[:, :, -2:], state


class StateFirst(Stream):
    """The state is the first input: its length is no number of rows."""

    def forward(self, h: Tensor, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x, cache, h)


def arrays(rows: int) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(rows)
    return {
        "x": torch.randn(rows, 1, 5, 6, generator=drawn),
        "cache": torch.randn(rows, 1, 2, 6, generator=drawn),
        "h": torch.randn(2, rows, 5, generator=drawn),
    }


def exported(cls: type[Stream], rows: int, folder: Path) -> Path:
    torch.manual_seed(0)
    given = arrays(rows)
    names = ["h", "x", "cache"] if cls is StateFirst else ["x", "cache", "h"]
    path = folder / f"{cls.__name__}{rows}.onnx"
    torch.onnx.export(
        cls().eval(),
        tuple(given[name] for name in names),
        path,
        input_names=names,
        output_names=["y", "seen", "state"],
        dynamo=False,
        opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )
    return path


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("cls", [Stream, StateFirst])
@pytest.mark.filterwarnings("ignore")
def test_a_batch_of_exactly_the_declared_shapes_is_taken(
    cls: type[Stream], rows: int, tmp_path: Path
) -> None:
    path, given = exported(cls, rows, tmp_path), arrays(rows)
    held: dict[str, Any] = {name: t.numpy() for name, t in given.items()}
    np.savez(tmp_path / "batch.npz", **held)
    report = bnaudit.audit(path, data=str(tmp_path / "batch.npz"), verify=True)
    assert report.run is not None
    assert report.run.data.batches == 1
    if cls is Stream:
        assert report.run.data.batch_size == rows
    assert [(layer.name, layer.m) for layer in report.layers] == [("bn", rows * 5 * 6)]
    verification = report.run.verification
    assert isinstance(verification, Verification)
    assert verification.agrees
    assert len(verification.outputs) == 3


def first(output: Any, _: Tensor) -> Tensor:
    return output[0].square().mean()


@pytest.mark.filterwarnings("ignore")
def test_a_state_given_once_serves_all_batches(tmp_path: Path) -> None:
    """Frames by rows, one state of the declared shape: the numbers are those of the live network."""
    path = exported(Stream, 4, tmp_path)
    frames, state = arrays(12), arrays(4)["h"]
    data = {"x": frames["x"], "cache": frames["cache"], "h": state}
    report = bnaudit.audit(path, data=data, dtype="float64", loss=first)
    assert report.run is not None
    assert (report.run.data.batches, report.run.data.batch_size) == (3, 4)
    torch.manual_seed(0)
    batches = [
        {"x": frames["x"][i : i + 4], "cache": frames["cache"][i : i + 4], "h": state}
        for i in (0, 4, 8)
    ]
    live = bnaudit.audit(Stream().eval(), data=batches, dtype="float64", loss=first)
    ours, theirs = (r.layers[0].first_order.measured for r in (report, live))  # type: ignore[union-attr]
    assert ours.median == pytest.approx(theirs.median, rel=1e-6)  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore")
def test_arrays_that_disagree_otherwise_are_refused(tmp_path: Path) -> None:
    path, given = exported(Stream, 4, tmp_path), arrays(4)
    given["cache"] = given["cache"][:3]
    with pytest.raises(BnauditError, match="different numbers of rows"):
        bnaudit.audit(path, data=given)


@pytest.mark.filterwarnings("ignore")
def test_a_comparison_that_was_asked_for_and_failed_is_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnaudit.measure import reference

    def refuses(*_: Any) -> Any:
        raise RuntimeError("not implemented")

    monkeypatch.setattr(reference, "_onnxruntime", refuses)
    monkeypatch.setattr(reference, "_evaluator", refuses)
    report = bnaudit.audit(exported(Stream, 1, tmp_path), verify=True)
    assert report.run is not None
    assert isinstance(report.run.verification, Skipped)
    (finding,) = [f for f in report.findings if f.rule == "BN106"]
    assert "nothing was compared" in finding.message
    assert report.exit_code == 1
