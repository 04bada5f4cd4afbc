"""Whole models: every format gives the same numbers, and real topologies leave no feeder out."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import onnx
import pytest
import torch
from fixtures.nets import load_net
from torch import nn

from bnaudit.load import load
from bnaudit.measure.session import Session, open_session, place_model
from bnaudit.options import AuditOptions
from bnaudit.records.values import Skipped
from bnaudit.tap.guard import untouched
from tests.theory.weight_space_reference import Results, numbers, run

FIXTURES = Path(__file__).parents[2] / "fixtures"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NETS = {"digits_resnet": 10, "tabular_mlp": 3}
FILES = ["model.onnx", "dynamo.onnx", "static.onnx", "scripted.pt", "traced.pt"]
LIGHT_NETS = {"resnet50": 53, "shufflenet": 49, "inception_v2": 69, "densenet121": 59}


def session(model: str | Path | nn.Module, options: AuditOptions) -> Session:
    placed = place_model(load(model), options)
    with untouched(placed.module):
        return open_session(placed, options)


@cache
def measured(net: str, file: str, dtype: str = "float64") -> Results:
    folder = FIXTURES / net
    model = load_net(net, folder / "state_dict.pt") if file == "live" else folder / file
    options = AuditOptions(data=str(folder / "batch.npz"), dtype=dtype, batches=1)
    return run(session(model, options))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("net", NETS)
def test_every_format_gives_the_same_numbers(net: str, file: str) -> None:
    live, other = measured(net, "live"), measured(net, file)
    assert set(live) == set(other)
    assert len(live) == NETS[net]
    for key, expected in live.items():
        found = other[key]
        assert not isinstance(expected, Skipped)
        assert not isinstance(found, Skipped), found
        assert numbers(found) == pytest.approx(numbers(expected), rel=1e-9), key
        assert found.feeder.split()[0] == expected.feeder.split()[0]


@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize("net", NETS)
def test_residuals_and_violations(net: str, dtype: str, limit: float) -> None:
    for key, space in measured(net, "live", dtype).items():
        assert not isinstance(space, Skipped)
        assert isinstance(space.residual, float)
        assert space.residual <= limit, key
        assert space.violations == 0
        found = numbers(space)
        assert found["grad_norm"] <= found["bound_centred"] <= found["bound"], key
        assert 0 < found["tightness"] < 1


@pytest.mark.parametrize("file", ["live", "scripted.pt", "traced.pt"])
def test_feeders_have_their_authors_names(file: str) -> None:
    found = {key[0]: space for key, space in measured("digits_resnet", file).items()}
    for bn, feeder in (
        ("bn1", "Conv2d conv1.weight"),
        ("layer1.0.bn2", "Conv2d layer1.0.conv2.weight"),
        ("layer2.0.downsample.1", "Conv2d layer2.0.downsample.0.weight"),
    ):
        space = found[bn]
        assert not isinstance(space, Skipped)
        assert space.feeder == feeder


def test_gradient_is_that_of_ordinary_training() -> None:
    """`grad_norm` against .grad after loss.backward() of the module in training mode."""
    folder = FIXTURES / "digits_resnet"
    net = load_net("digits_resnet", folder / "state_dict.pt").double()
    options = AuditOptions(data=str(folder / "batch.npz"), dtype="float64", batches=1)
    own = session(net, options)
    results = run(own)
    batch = own.batches.items[0]
    net.train()
    assert batch.labels is not None
    nn.functional.cross_entropy(net(batch.inputs[0].double()), batch.labels).backward()
    gradients = {
        n: float(torch.linalg.vector_norm(p.grad))
        for n, p in net.named_parameters()
        if p.grad is not None
    }
    for space in results.values():
        assert not isinstance(space, Skipped)
        name = space.feeder.split()[1]
        assert numbers(space)["grad_norm"] == pytest.approx(gradients[name], rel=1e-9)


def fed_by_convolution(path: Path) -> int:
    """BatchNorm nodes whose input is the output of a Conv or Gemm that nothing else reads."""
    graph = onnx.load(path, load_external_data=False).graph
    makers = {name: node for node in graph.node for name in node.output}
    readers = [name for node in graph.node for name in node.input]
    inputs = [n.input[0] for n in graph.node if n.op_type == "BatchNormalization"]
    return sum(
        name in makers and makers[name].op_type in {"Conv", "Gemm"} and readers.count(name) == 1
        for name in inputs
    )


@pytest.mark.parametrize(("name", "count"), LIGHT_NETS.items())
def test_real_topologies(name: str, count: int) -> None:
    path = LIGHT / f"light_{name}.onnx"
    assert fed_by_convolution(path) == count
    results = run(session(path, AuditOptions(batches=1, batch_size=2)))
    spaces = [space for space in results.values() if not isinstance(space, Skipped)]
    assert len(spaces) == count
    for space in spaces:
        assert isinstance(space.residual, float)
        assert space.residual <= space.tolerance
        assert space.violations in (0, space.tightness)  # a gradient of rounding noise has none
    reasons = {space.reason for space in results.values() if isinstance(space, Skipped)}
    assert reasons <= {
        f"fed by {what}, not by one Linear or convolution"
        for what in ("a concatenation", "a pooling layer")
    }
