"""The objective and what is left of it, against their definitions in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from bnaudit.matching.mismatch import mismatches
from bnaudit.matching.objective import Layer, Probe, Stored
from bnaudit.tap.call import BatchNormCall
from bnaudit.tap.dispatch import tapped
from bnaudit.tap.naming import Namer
from tests.matching import nets

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn


def seen(net: nn.Module, x: torch.Tensor) -> Probe:
    probe = Probe()
    with tapped(Namer(net, {}), probe) as tap, torch.no_grad():
        tap.start()
        net(x)
    return probe


def inputs_of(net: nn.Module, x: torch.Tensor) -> dict[str, NDArray[Any]]:
    """What each layer gets where all normalise with the batch's statistics, by hooks."""
    found: dict[str, NDArray[Any]] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, given, name=name: found.update({name: given[0].double().numpy().copy()})
        )
        for name, module in net.named_modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    ]
    kept = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad():
        net.train()(x)
    net.eval().load_state_dict(kept)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(
    ("net", "shape"),
    [(nets.features(), (5,)), (nets.sequences(), (3, 10)), (nets.volumes(), (1, 4, 4, 4))],
)
def test_by_the_definition(net: nn.Module, shape: tuple[int, ...]) -> None:
    net = net.double()
    x = torch.randn(16, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    probe, terms = seen(net, x), []
    left = mismatches([(probe, probe)])
    for name, given in inputs_of(net, x).items():
        bn: Any = net.get_submodule(name)
        mean, var = bn.running_mean.numpy(), bn.running_var.numpy() + bn.eps
        rows = np.moveaxis(given, 1, 0).reshape(given.shape[1], -1)
        d = (rows.mean(1) - mean) / np.sqrt(var)
        ratio = np.log((rows.var(1, ddof=1) + bn.eps) / var)
        terms.append((np.log(1 + d**2) + ratio**2 / 4).mean())
        assert left[name].mean == pytest.approx(np.median(np.abs(d)), rel=1e-9)
        assert left[name].variance == pytest.approx(np.median(np.abs(ratio)) / np.log(2), rel=1e-9)
        far = np.maximum(np.abs(d), np.abs(ratio) / np.log(2))
        assert left[name].largest == pytest.approx(far.max(), rel=1e-9)
        assert left[name].channel == far.argmax()
    assert float(probe.value()) == pytest.approx(np.mean(terms), rel=1e-9)


def test_calls_of_one_layer_share_what_it_stores() -> None:
    mean, var = torch.zeros(2).double(), torch.ones(2).double()
    layer = Layer(Stored.of(mean, var, 0.0, torch.float64))
    layer.means = [torch.tensor([1.0, 3.0]).double(), torch.tensor([-1.0, 1.0]).double()]
    layer.variances = [torch.tensor([0.5, 4.0]).double(), torch.tensor([1.5, 4.0]).double()]
    d, ratio = layer.distances()
    assert d.tolist() == [0.0, 2.0]
    assert ratio.tolist() == pytest.approx([0.0, np.log(4)])


def test_what_is_no_mean_and_variance_counts_for_nothing() -> None:
    mean = torch.tensor([0.0, torch.nan, 0.0, 0.0])
    var = torch.tensor([1.0, 1.0, -0.5, torch.inf])
    layer = Layer(Stored.of(mean, var, 1e-5, torch.float32))
    layer.means, layer.variances = [torch.tensor([1.0, 5, 5, 5])], [torch.ones(4)]
    assert layer.stored.usable.tolist() == [True, False, False, False]
    assert float(layer.value()) == pytest.approx(np.log(2), rel=1e-4)


def test_layers_that_cannot_be_compared() -> None:
    probe, stored = Probe(), (torch.zeros(3), torch.ones(3))
    one = torch.randn(1, 3, 1)
    probe(BatchNormCall("bn", 1, 0, one, None, None, *stored, False, 1e-5))
    assert list(probe.single) == ["bn"]
    probe(BatchNormCall("free", 1, 0, torch.randn(4, 3), None, None, None, None, False, 1e-5))
    assert list(probe.without) == ["free"]
    assert not probe.layers
