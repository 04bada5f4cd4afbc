"""Landscapes against a plain double loop over deep copies of the network, in float64, by autograd."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from fixtures.nets import DigitsResNet, TabularMlp
from torch import Tensor, nn

import bnaudit
from bnaudit.records.values import Skipped, Spread
from tests import nets

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.documents import Landscape

pytestmark = pytest.mark.usefixtures("in_order")

FIXTURES = Path(__file__).parents[2] / "fixtures"
STEPS = [1e-3, 1e-2, 1e-1]


class Written(nn.Module):
    """BatchNorm written out; with statistics given the affine map of these."""

    def __init__(self, bn: Any) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = bn.weight, bn.bias, bn.eps
        self.frozen: list[tuple[Tensor, Tensor]] | None = None
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        mean = x.mean(dims)
        var = ((x - mean.view(shape)) ** 2).mean(dims)
        self.seen.append((mean.detach(), var.detach()))
        if self.frozen is not None:
            mean, var = self.frozen[len(self.seen) - 1]
        z = (x - mean.view(shape)) / (var.view(shape) + self.eps).sqrt()
        return z if self.weight is None else z * self.weight.view(shape) + self.bias.view(shape)


def written(net: nn.Module) -> nn.Module:
    twin = copy.deepcopy(net).double()
    for name, module in list(twin.named_modules()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            parent, _, leaf = name.rpartition(".")
            setattr(twin.get_submodule(parent), leaf, Written(module))
    return twin


Statistics = dict[str, list[tuple[Tensor, Tensor]]]
Gradient = dict[str, Tensor]


def at(
    net: nn.Module, x: Tensor, y: Tensor, frozen: Statistics | None, move: Gradient
) -> tuple[float, Gradient, Statistics]:
    """Loss and gradient of a deep copy that stands `move` away, and the statistics of its layers."""
    copied = copy.deepcopy(net)
    layers = {n: m for n, m in copied.named_modules() if isinstance(m, Written)}
    for name, layer in layers.items():
        layer.frozen = None if frozen is None else frozen[name]
    with torch.no_grad():
        for name, p in copied.named_parameters():
            p.sub_(move.get(name, torch.zeros(())))
    loss = nn.functional.cross_entropy(copied(x), y)
    loss.backward()
    gradient = {n: p.grad for n, p in copied.named_parameters() if p.grad is not None}
    return loss.item(), gradient, {name: layer.seen for name, layer in layers.items()}


def owner(name: str) -> str:
    return name.rpartition(".")[0]


def reference(net: nn.Module, batches: list[tuple[Tensor, Tensor]], form: str) -> dict[str, Any]:
    """By network: batch by batch what a landscape is made of."""
    plain = written(net)
    sizes: dict[str, float] = {}
    for name, p in plain.named_parameters():
        sizes[owner(name)] = math.hypot(sizes.get(owner(name), 0.0), p.norm().item())
    unit = {n: 1.0 if form == "raw" else sizes[owner(n)] for n, _ in plain.named_parameters()}
    found: dict[str, Any] = {"batchnorm": [], "frozen": []}
    for x, y in batches:
        statistics = at(plain, x, y, None, {})[2]
        for network, frozen in (("batchnorm", None), ("frozen", statistics)):
            loss, g, _ = at(plain, x, y, frozen, {})
            whole = math.sqrt(sum((unit[n] * t.norm().item()) ** 2 for n, t in g.items()))
            scale = {n: 1.0 if form == "raw" else sizes[owner(n)] ** 2 / whole for n in g}
            one: dict[str, Any] = {
                "loss": loss,
                "norm": whole,
                "losses": [],
                "changes": [],
                "betas": [],
            }
            layers: dict[str, list[float]] = {}
            for step in STEPS:
                move = {n: step * scale[n] * t for n, t in g.items()}
                there, h, _ = at(plain, x, y, frozen, move)
                squares: dict[str, float] = {}
                far: dict[str, float] = {}
                for n, t in g.items():
                    part = (unit[n] * (h[n] - t).norm().item()) ** 2
                    squares[owner(n)] = squares.get(owner(n), 0.0) + part
                    own = (move[n].norm().item() / unit[n]) ** 2
                    far[owner(n)] = far.get(owner(n), 0.0) + own
                change = math.sqrt(sum(squares.values()))
                # The distance from the weights themselves, and not what a step claims to be.
                distance = math.sqrt(sum(far.values()))
                one["losses"].append(there)
                one["changes"].append(change)
                one["betas"].append(change / distance)
                for layer, square in squares.items():
                    layers.setdefault(layer, []).append(math.sqrt(square / far[layer]))
            one["layers"] = {layer: max(values) for layer, values in layers.items()}
            found[network].append(one)
    return found


def assert_spread(spread: object, values: list[float]) -> None:
    assert isinstance(spread, Spread)
    q25, median, q75 = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    wanted = pytest.approx((q25, median, q75), rel=1e-9, abs=1e-12)
    assert (spread.q25, spread.median, spread.q75) == wanted
    assert spread.n == len(values)


def assert_agree(record: Landscape, net: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> None:
    assert record.agreement.equal
    assert max(record.agreement.loss, record.agreement.outputs) < 1e-12
    assert record.gradients == len(batches) * (2 + 4 * len(STEPS))
    for form in ("raw", "relative"):
        wanted = reference(net, batches, form)
        for walk in (w for w in record.walks if w.form == form):
            ones = wanted[walk.network]
            assert_spread(walk.loss, [one["loss"] for one in ones])
            assert_spread(walk.grad_norm, [one["norm"] for one in ones])
            ends = [
                (min(one["loss"], *one["losses"]), max(one["loss"], *one["losses"])) for one in ones
            ]
            assert_spread(walk.variation, [high - low for low, high in ends])
            assert_spread(walk.change, [max(one["changes"]) for one in ones])
            assert_spread(walk.beta, [max(one["betas"]) for one in ones])
            for place, point in enumerate(walk.points):
                assert point.step == pytest.approx(STEPS[place], rel=1e-12)
                assert_spread(point.loss, [one["losses"][place] for one in ones])
                assert_spread(point.change, [one["changes"][place] for one in ones])
                assert_spread(point.beta, [one["betas"][place] for one in ones])
        for group in record.groups:
            for share in (w for w in group.walks if w.form == form):
                assert_spread(
                    share.beta, [one["layers"][group.name] for one in wanted[share.network]]
                )
        comparison = next(c for c in record.comparisons if c.form == form)
        pairs = list(zip(wanted["batchnorm"], wanted["frozen"], strict=True))
        assert_spread(comparison.beta, [max(b["betas"]) / max(a["betas"]) for a, b in pairs])
        relative = [
            max(b["changes"]) / b["norm"] / (max(a["changes"]) / a["norm"]) for a, b in pairs
        ]
        assert_spread(comparison.change, relative)
        assert comparison.incomparable == 0


def shipped(cls: Callable[[], nn.Module], folder: str, rows: int, count: int) -> tuple[Any, ...]:
    """The network as code, with the weights of its file; and its batches."""
    net = cls()
    state = torch.load(FIXTURES / folder / "state_dict.pt", weights_only=True)
    net.load_state_dict(state)
    with np.load(FIXTURES / folder / "batch.npz") as arrays:
        data = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    y = data.pop("labels")
    (x,) = data.values()
    parts = [slice(i * rows, (i + 1) * rows) for i in range(count)]
    return net, [(x[part].double(), y[part].long()) for part in parts]


@pytest.mark.parametrize(
    ("cls", "folder", "file", "rows", "count"),
    [
        (DigitsResNet, "digits_resnet", "model.onnx", 16, 1),
        (TabularMlp, "tabular_mlp", "model.onnx", 16, 3),
        (TabularMlp, "tabular_mlp", "scripted.pt", 16, 2),
        (DigitsResNet, "digits_resnet", "traced.pt", 16, 1),
    ],
)
def test_files(cls: Any, folder: str, file: str, rows: int, count: int) -> None:
    net, batches = shipped(cls, folder, rows, count)
    record = bnaudit.landscape(
        FIXTURES / folder / file,
        data=str(FIXTURES / folder / "batch.npz"),
        batch_size=rows,
        batches=count,
        dtype="float64",
        eta=(STEPS[0], STEPS[-1]),
        relative=(STEPS[0], STEPS[-1]),
        steps=3,
    )
    # A file lists layers in the order in which they run.
    assert {group.name for group in record.groups} == {owner(n) for n, _ in net.named_parameters()}
    assert_agree(record, net, batches)


@pytest.mark.parametrize("cls", [nets.PreActivation, nets.Shared, nets.Plain, nets.InPlace])
def test_live(cls: type[nn.Module]) -> None:
    net, x, y = nets.make(cls).double(), nets.inputs_for(cls).double(), torch.arange(24) % 5
    record = walked(net, x, y)
    assert_agree(record, net, [(x[:12], y[:12]), (x[12:], y[12:])])


def middle(value: object) -> float:
    assert isinstance(value, Spread)
    return value.median


def walked(net: nn.Module, x: Tensor, y: Tensor, **options: Any) -> Landscape:
    ends = {"eta": (STEPS[0], STEPS[-1]), "relative": (STEPS[0], STEPS[-1]), "steps": 3}
    return bnaudit.landscape(net, data=x, labels=y, batch_size=12, **{**ends, **options})


def test_the_relative_walk_knows_no_size_of_weights_and_the_raw_one_does() -> None:
    net, y = nets.make(nets.InPlace).double(), torch.arange(24) % 5
    x = nets.inputs_for(nets.InPlace).double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.get_parameter("body.0.weight").mul_(7)
        other.get_parameter("body.0.bias").mul_(7)
        other.get_parameter("body.3.weight").mul_(0.2)
        other.get_parameter("body.3.bias").mul_(0.2)
    one, two = walked(net, x, y), walked(other, x, y)

    def numbers(record: Landscape, form: str) -> list[float]:
        found = []
        for walk in (w for w in record.walks if w.form == form):
            found += [
                middle(walk.beta),
                middle(walk.variation),
                walk.grad_norm.median,
            ]
            found += [middle(point.change) for point in walk.points]
        for group in record.groups:
            found += [middle(w.beta) for w in group.walks if w.form == form]
        return found

    assert numbers(two, "relative") == pytest.approx(numbers(one, "relative"), rel=1e-9)
    ratio = np.array(numbers(two, "raw")) / np.array(numbers(one, "raw"))
    assert abs(np.log(ratio)).min() > 0.01
    # Nothing radial where no size counts: nor at gamma and beta in front of a ReLU and a BatchNorm.
    assert {g.name: middle(g.radial) < 1e-12 for g in one.groups} == {
        "body.0": True,
        "body.1": True,
        "body.3": True,
        "body.4": False,
        "fc": False,
    }


def test_roles() -> None:
    x, y = nets.inputs_for(nets.PreActivation), torch.arange(24) % 5
    record = walked(nets.make(nets.PreActivation), x, y)
    assert [(g.name, g.role, g.feeds, g.parameters) for g in record.groups] == [
        ("stem", "weights", "bn1", ("stem.weight", "stem.bias")),
        ("bn1", "batchnorm", None, ("bn1.weight", "bn1.bias")),
        ("conv1", "weights", "bn2", ("conv1.weight", "conv1.bias")),
        ("bn2", "batchnorm", None, ("bn2.weight", "bn2.bias")),
        ("fc", "other", None, ("fc.weight", "fc.bias")),
    ]
    assert (record.layers, record.moved) == (2, sum(g.values for g in record.groups))


def test_the_gradient_of_the_frozen_network_is_that_of_the_frozen_twin() -> None:
    net, x = nets.make(nets.InPlace).double(), nets.inputs_for(nets.InPlace).double()
    y = torch.arange(24) % 5
    report = bnaudit.audit(net, data=x, labels=y, batch_size=24, metrics=("twins",))
    assert not isinstance(report.twins, Skipped)
    twin = next(t for t in report.twins if t.kind == "frozen")
    wanted = math.hypot(*(e.twin_grad_norm for e in twin.parameters if e.name.startswith("body.0")))
    record = bnaudit.landscape(net, data=x, labels=y, batch_size=24, steps=1)
    stem = next(g for g in record.groups if g.name == "body.0")
    share = next(w for w in stem.walks if (w.network, w.form) == ("frozen", "raw"))
    assert share.grad_norm.median == pytest.approx(wanted, rel=1e-9)


class Checkpointed(nn.Module):
    """Its backward runs the forward once more, with the statistics of the walk."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.again = again
        self.stem = nn.Linear(6, 8)
        self.block = nn.Sequential(nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 8), nn.BatchNorm1d(8))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.again:
            x = torch.utils.checkpoint.checkpoint(self.block, x, use_reentrant=False)
        else:
            x = self.block(x)
        out: Tensor = self.fc(torch.tanh(x))
        return out


def test_activation_checkpointing_changes_no_number() -> None:
    x, y = torch.randn(24, 6, dtype=torch.float64), torch.arange(24) % 5
    torch.manual_seed(3)
    net = Checkpointed(again=True).double()
    plain = Checkpointed(again=False).double()
    plain.load_state_dict(net.state_dict())
    one, two = walked(net, x, y), walked(plain, x, y)
    assert [middle(w.beta) for w in one.walks] == [middle(w.beta) for w in two.walks]
    assert_agree(one, plain, [(x[:12], y[:12]), (x[12:], y[12:])])


def test_a_layer_that_runs_in_another_order_there_is_marked() -> None:
    class Branch(nn.Module):
        """Which BatchNorm runs depends on the weights."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.fc = nn.Linear(6, 8), nn.Linear(8, 5)
            self.bn, self.other = nn.BatchNorm1d(8), nn.BatchNorm1d(8)
            self.at = float(self.a.weight.detach().norm())

        def forward(self, x: Tensor) -> Tensor:
            moved = abs(float(self.a.weight.detach().norm()) - self.at) > 0.01
            out: Tensor = self.fc((self.other if moved else self.bn)(self.a(x)))
            return out

    torch.manual_seed(0)
    x, y = torch.randn(12, 6), torch.arange(12) % 5
    record = walked(Branch(), x, y, eta=(1e-5, 100.0), form="raw", steps=2)
    frozen = record.walks[1]
    assert [point.failed for point in frozen.points] == [0, 1]
