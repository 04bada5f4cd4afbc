"""The same trained net in every format and as live module: every per-layer number equal."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.nets import load_net

import bnaudit
from bnaudit.metrics import METRICS
from bnaudit.records.values import Skipped
from tests.load.files import export

FIXTURES = Path(__file__).parents[2] / "fixtures"
NETS = ["digits_resnet", "tabular_mlp"]
EXPORTED = ["exported.pt2", "decomposed.pt2", "training.pt2"]
FILES = ["model.onnx", "dynamo.onnx", "static.onnx", "scripted.pt", "traced.pt", *EXPORTED]
MODES = ["batch", "running"]
BUILT: dict[str, Path] = {}


@pytest.fixture(scope="module", autouse=True)
def _exported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Files of torch.export hold paths of the machine and its id: they are made, not shipped."""
    for net in NETS:
        folder = BUILT[net] = tmp_path_factory.mktemp(net)
        with np.load(FIXTURES / net / "batch.npz") as batch:
            x = torch.from_numpy(batch["x"][:2])
        module = load_net(net, FIXTURES / net / "state_dict.pt")
        free: dict[str, Any] = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
        export(module, folder / EXPORTED[0], x, **free)
        export(module, folder / EXPORTED[1], x, decompose=True, **free)
        export(module.train(), folder / EXPORTED[2], x, decompose=True, **free)


def model(net: str, file: str) -> torch.nn.Module | Path:
    if file == "live":
        return load_net(net, FIXTURES / net / "state_dict.pt")
    return (BUILT[net] if file in EXPORTED else FIXTURES / net) / file


@cache
def layers(net: str, file: str, mode: str) -> dict[str, dict[str, Any]]:
    """Layer name -> its part of the JSON, in float64 with per-channel arrays."""
    report = bnaudit.audit(
        model(net, file),
        trust=True,
        data=str(FIXTURES / net / "batch.npz"),
        dtype="float64",
        mode=mode,
        channels=True,
        metrics=tuple(METRICS),
    )
    return {x["name"]: x for x in json.loads(report.to_json(channels=True))["layers"]}


def numbers(value: Any, path: str = "") -> dict[str, float]:
    """Every number below a JSON value, by its path."""
    if isinstance(value, dict):
        return {
            k: v for name, part in value.items() for k, v in numbers(part, f"{path}.{name}").items()
        }
    if isinstance(value, list):
        return {
            k: v for i, part in enumerate(value) for k, v in numbers(part, f"{path}[{i}]").items()
        }
    return {path: value} if isinstance(value, (int, float)) and not isinstance(value, bool) else {}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("net", NETS)
def test_every_number_is_equal_in_every_format(net: str, file: str, mode: str) -> None:
    live, other = layers(net, "live", mode), layers(net, file, mode)
    assert set(live) == set(other)
    for name, layer in live.items():
        expected, found = numbers(layer), numbers(other[name])
        # Residuals are rounding noise, and the order of branches may differ between formats.
        for noise in [path for path in expected if path.endswith(".residual")]:
            del expected[noise], found[noise]
        assert expected.keys() == found.keys()
        assert len(expected) > 100
        for path, number in expected.items():
            assert found[path] == pytest.approx(number, rel=1e-9, abs=1e-12), (name, path)
        assert layer["weight_space"]["feeder"] == other[name]["weight_space"]["feeder"]


@pytest.mark.parametrize("file", ["live", *FILES])
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-12), ("float32", 1e-5)])
def test_residuals_are_rounding(net: str, file: str, dtype: str, limit: float) -> None:
    report = bnaudit.audit(
        model(net, file), trust=True, data=str(FIXTURES / net / "batch.npz"), dtype=dtype
    )
    assert len(report.layers) == {"digits_resnet": 10, "tabular_mlp": 3}[net]
    for layer in json.loads(report.to_json())["layers"]:
        assert 0 <= layer["first_order"]["residual"] <= limit


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("mode", MODES)
def test_prediction_against_finite_differences(net: str, mode: str) -> None:
    folder = FIXTURES / net
    report = bnaudit.audit(
        folder / "model.onnx", data=str(folder / "batch.npz"), verify_gradients=-1, mode=mode
    )
    errors = [
        layer["first_order"]["finite_difference"]["relative_error"]
        for layer in json.loads(report.to_json())["layers"]
    ]
    assert len(errors) == len(report.layers)
    assert np.median(errors) <= 1e-6
    assert max(errors) <= 2e-3


@cache
def twins(file: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The numbers of every twin, and of every parameter under it, in float64."""
    report = bnaudit.audit(
        model("digits_resnet", file),
        trust=True,
        data=str(FIXTURES / "digits_resnet" / "batch.npz"),
        dtype="float64",
        metrics=("twins",),
    )
    assert not isinstance(report.twins, Skipped)
    totals: dict[str, Any] = {"parameters": report.model.parameters}
    for twin in report.twins:
        totals |= {f"{twin.kind}.before": twin.grad_norm, f"{twin.kind}.after": twin.twin_grad_norm}
    effects = {
        f"{twin.kind}.{effect.name}": effect.twin_grad_norm
        for twin in report.twins
        for effect in twin.parameters
    }
    return totals, effects


@pytest.mark.parametrize("file", FILES)
def test_twins_are_equal_and_name_the_authors_parameters(file: str) -> None:
    totals, effects = twins("live")
    assert totals["frozen.after"] > 0
    assert "frozen.layer2.1.conv1.weight" in effects
    found_totals, found_effects = twins(file)
    assert found_totals == pytest.approx(totals, rel=1e-9)
    assert found_effects == pytest.approx(effects, rel=1e-9)


def test_running_statistics_are_those_of_the_file() -> None:
    net = load_net("digits_resnet", FIXTURES / "digits_resnet" / "state_dict.pt")
    bn = net.get_submodule("layer1.0.bn1")
    assert isinstance(bn, torch.nn.BatchNorm2d)
    assert bn.running_var is not None
    gain = bn.weight.detach().double().abs() / (bn.running_var.double() + bn.eps).sqrt()
    found = layers("digits_resnet", "model.onnx", "batch")["layer1.0.bn1"]
    assert found["channel_values"]["gain_running"] == pytest.approx(gain.tolist(), rel=1e-9)
