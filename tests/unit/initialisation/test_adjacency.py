"""Which weight feeds which BatchNorm, from names, shapes and order; the networks are the answer."""

from __future__ import annotations

import pytest
from fixtures.nets import DigitsResNet, TabularMlp
from torch import nn

from bnaudit.initialisation.adjacency import Guess, guess


def of(net: nn.Module, *, ordered: bool = True) -> Guess:
    items = [(n, tuple(t.shape)) for n, t in net.state_dict().items() if t.is_floating_point()]
    return guess(dict(items if ordered else sorted(items)), ordered=ordered)


class Named(nn.Module):
    """Submodules in the order given."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


def conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 1)


RESNET = {
    "bn1": "conv1.weight",
    "layer1.0.bn1": "layer1.0.conv1.weight",
    "layer1.0.bn2": "layer1.0.conv2.weight",
    "layer1.1.bn1": "layer1.1.conv1.weight",
    "layer1.1.bn2": "layer1.1.conv2.weight",
    "layer2.0.bn1": "layer2.0.conv1.weight",
    "layer2.0.bn2": "layer2.0.conv2.weight",
    "layer2.0.downsample.1": "layer2.0.downsample.0.weight",
    "layer2.1.bn1": "layer2.1.conv1.weight",
    "layer2.1.bn2": "layer2.1.conv2.weight",
}


@pytest.mark.parametrize("ordered", [True, False])
def test_resnet(ordered: bool) -> None:
    found = of(DigitsResNet(), ordered=ordered)
    assert found.feeds == RESNET
    assert not found.open_channels


def test_all_weights_registered_before_all_batchnorms() -> None:
    net = Named(conv1=conv(3, 4), conv2=conv(4, 4), bn1=nn.BatchNorm2d(4), bn2=nn.BatchNorm2d(4))
    assert of(net).feeds == {"bn1": "conv1.weight", "bn2": "conv2.weight"}


def test_preactivation_blocks_are_not_taken_for_the_other_kind() -> None:
    block = {
        "bn1": nn.BatchNorm2d(4),
        "conv1": conv(4, 8),
        "bn2": nn.BatchNorm2d(8),
        "conv2": conv(8, 4),
    }
    found = of(Named(a=Named(**block), b=Named(**block)))
    assert found.feeds == {"a.bn2": "a.conv1.weight", "b.bn2": "b.conv1.weight"}
    assert found.open_channels == {4}


def test_preactivation_blocks_without_order_are_left_open() -> None:
    block = {
        "bn1": nn.BatchNorm2d(4),
        "conv1": conv(4, 8),
        "bn2": nn.BatchNorm2d(8),
        "conv2": conv(8, 4),
    }
    found = of(Named(a=Named(**block)), ordered=False)
    assert not found.feeds
    assert found.open_channels == {4, 8}


def test_equal_widths_without_order_are_left_open() -> None:
    assert not of(Named(conv1=conv(4, 4), bn1=nn.BatchNorm2d(4)), ordered=False).feeds


def test_names_without_numbers_follow_the_order() -> None:
    net = Named(
        conv_pw=conv(3, 6), bn1=nn.BatchNorm2d(6), conv_dw=conv(6, 6), bn2=nn.BatchNorm2d(6)
    )
    assert of(net).feeds == {"bn1": "conv_pw.weight", "bn2": "conv_dw.weight"}


def test_in_a_sequential_only_the_next_place_counts() -> None:
    net = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), conv(4, 4), nn.ReLU(), nn.BatchNorm2d(4))
    found = of(net)
    assert found.feeds == {"1": "0.weight"}
    assert found.open_channels == {4}


def test_channels_that_do_not_match_are_left_open() -> None:
    found = of(Named(conv1=conv(3, 4), bn1=nn.BatchNorm2d(5)))
    assert not found.feeds
    assert found.open_channels == {5}


def test_a_transposed_convolution_shows_by_its_channels() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(6, 3, 2), nn.BatchNorm2d(3))
    found = of(net)
    assert found.feeds == {"1": "0.weight"}
    assert found.transposed == {"0.weight"}
    assert not of(TabularMlp()).transposed


def test_each_weight_is_taken_once() -> None:
    net = Named(conv=conv(3, 4), bn_a=nn.BatchNorm2d(4), bn_b=nn.BatchNorm2d(4))
    assert of(net).feeds == {"bn_a": "conv.weight"}
