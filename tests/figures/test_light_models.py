"""Real topologies that the onnx package ships, at a batch size they were not exported at."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import bnaudit
from bnaudit.records.layer import FirstOrder

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LAYERS = {"resnet50": 53, "densenet121": 121, "inception_v2": 69, "shufflenet": 49}


@pytest.mark.parametrize(("name", "count"), LAYERS.items())
def test_every_layer_is_measured_at_batch_8(name: str, count: int) -> None:
    report = bnaudit.audit(
        LIGHT / f"light_{name}.onnx", batches=1, batch_size=8, metrics=("first_order",)
    )
    assert len(report.layers) == count
    assert report.model.not_executed == ()
    assert len({layer.name for layer in report.layers}) == count
    for layer in report.layers:
        assert isinstance(layer.first_order, FirstOrder), layer.label
        assert isinstance(layer.first_order.residual, float)
        assert layer.first_order.residual <= 1e-5
        assert layer.m % 8 == 0
        assert layer.measured, (layer.label, layer.first_order.measured)


def test_resnet50_in_float64() -> None:
    report = bnaudit.audit(
        LIGHT / "light_resnet50.onnx",
        batches=1,
        batch_size=2,
        dtype="float64",
        metrics=("first_order",),
    )
    for layer in report.layers:
        assert isinstance(layer.first_order, FirstOrder)
        assert isinstance(layer.first_order.residual, float)
        assert layer.first_order.residual <= 1e-12
