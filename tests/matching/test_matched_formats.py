"""Every format is matched, and equally well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.nets import load_net

import bnaudit
from bnaudit.records.matching import Mismatch
from tests.load.files import export

NET = Path(__file__).parents[2] / "fixtures" / "digits_resnet"
CODE = NET.parent / "nets.py"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "exported.pt2"
    with np.load(NET / "batch.npz") as batch:
        x = torch.from_numpy(batch["x"][:2])
    module = load_net("digits_resnet", NET / "state_dict.pt")
    export(module, path, x, dynamic_shapes=({0: torch.export.Dim("batch")},))
    return path


@pytest.mark.parametrize(
    "file",
    ["model.onnx", "dynamo.onnx", "static.onnx", "scripted.pt", "traced.pt", "pt2", "code", "live"],
)
def test_every_format(file: str, program: Path) -> None:
    model: Any = {
        "pt2": program,
        "code": f"{CODE}:DigitsResNet",
        "live": load_net("digits_resnet", NET / "state_dict.pt"),
    }.get(file, NET / file)
    given: dict[str, Any] = {"weights": NET / "state_dict.pt"} if file == "code" else {}
    report = bnaudit.audit(
        model,
        data="matched",
        batches=1,
        match_steps=30,
        trust=True,
        metrics=("first_order",),
        input_shapes={"": (16, 1, 8, 8)},
        **given,
    )
    assert report.run is not None
    assert report.run.data.matching is not None
    assert report.run.data.matching.end < 1e-3
    assert len(report.layers) == 10
    for layer in report.layers:
        assert isinstance(layer.mismatch, Mismatch)
        assert layer.mismatch.largest < 0.3
        assert layer.mismatch.mean < 0.05
