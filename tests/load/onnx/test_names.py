"""Layers are called what their author calls them, whatever the exporter left of that."""

from __future__ import annotations

import pytest

from bnaudit.load.onnx.names import layer_names, layers_by_use
from bnaudit.load.onnx.origin import Origin

SUFFIXES = ("weight", "bias", "running_mean", "running_var")


def origin(
    prefix: str = "", *, name: str = "", scopes: str = "", inputs: tuple[str, ...] = ()
) -> Origin:
    parameters = inputs or tuple(f"{prefix}.{suffix}" for suffix in SUFFIXES)
    return Origin("BatchNormalization", name, ("x", *parameters), scopes)


ANONYMOUS = ("17", "18", "19", "20")


@pytest.mark.parametrize(
    ("node", "name"),
    [
        (origin("layer1.0.bn1", name="/wrong/BatchNormalization"), "layer1.0.bn1"),
        (origin(inputs=("a.weight", "a.bias", "x", "b.running_var")), "a"),
        (
            origin(inputs=ANONYMOUS, scopes="['', 'layer1', 'layer1.0', 'layer1.0.bn1', 'op']"),
            "layer1.0.bn1",
        ),
        (origin(inputs=ANONYMOUS, name="/layer1/layer1.0/bn1/BatchNormalization"), "layer1.0.bn1"),
        (origin(inputs=ANONYMOUS, name="/f/f.3/f.3.0/BatchNormalization"), "f.3.0"),
        (origin(inputs=ANONYMOUS, name="/blocks.0/bn/BatchNormalization_1"), "blocks.0.bn"),
        (origin(inputs=ANONYMOUS, name="/BatchNormalization"), "/BatchNormalization"),
        (origin(inputs=("bn_s_0", "bn_b_0", "bn_rm_0", "bn_riv_0"), name="n"), "bn"),
        (origin(inputs=("net/bn/gamma:0", "net/bn/beta:0", "net/bn/m", "net/bn/v")), "net/bn"),
        (origin(inputs=ANONYMOUS, name="BatchNorm_7"), "BatchNorm_7"),
        (origin(inputs=ANONYMOUS), "BatchNormalization_0"),
        (origin(inputs=ANONYMOUS, scopes="__import__('os').abort()"), "BatchNormalization_0"),
        (origin(inputs=("only",)), "BatchNormalization_0"),
    ],
)
def test_one_name(node: Origin, name: str) -> None:
    assert layer_names([node]) == [name]


def test_merged_weights_leave_the_decision_to_the_node() -> None:
    nodes = [
        origin("stem.1", name="/stem/stem.1/BatchNormalization"),
        origin("stem.1", name="/layer1/layer1.0/bn1/BatchNormalization"),
    ]
    assert layer_names(nodes) == ["stem.1", "layer1.0.bn1"]


def test_a_module_that_is_called_twice() -> None:
    nodes = [
        origin("head.bn", name="/head/bn/BatchNormalization"),
        origin("head.bn", name="/head_1/bn/BatchNormalization"),
        origin("head.bn", name="/head_2/bn/BatchNormalization"),
    ]
    assert layer_names(nodes) == ["head.bn", "head.bn#2", "head.bn#3"]


def test_a_prefix_that_all_layers_share_says_nothing() -> None:
    nodes = [
        origin(inputs=tuple(f"onnx::BatchNorm_{n + i}" for i in range(4)), name=f"b{n}")
        for n in (11, 15)
    ]
    assert layer_names(nodes) == ["b11", "b15"]


def test_names_are_unique_even_against_what_looks_numbered() -> None:
    nodes = [origin("a"), origin("a"), origin("a#2")]
    names = layer_names(nodes)
    assert len(set(names)) == 3
    assert names[0] == "a"
    assert names[2] == "a#2"


def stored(*names: str, eps: float | None = None) -> Origin:
    return Origin("BatchNormalization", "", ("x", *names), "", eps)


def test_layers_are_told_apart_by_every_tensor_of_theirs_and_by_eps() -> None:
    shared = ("g", "b", "m", "v")
    nodes = [stored(*shared), stored(*shared), stored(*shared, eps=1e-3)]
    nodes += [stored(*(f"{n}2" if i == k else n for i, n in enumerate(shared))) for k in range(4)]
    first = layers_by_use(nodes, lambda name: name)
    assert [nodes.index(node) for node in first] == [0, 0, 2, 3, 4, 5, 6]


def test_a_node_that_shares_most_is_called_what_it_alone_reads() -> None:
    merged = ("a.bias", "a.running_mean", "a.running_var")
    nodes = [
        origin("a"),
        origin(inputs=("b.weight", *merged)),
        origin(inputs=("c.weight", *merged)),
    ]
    assert layer_names(nodes) == ["a", "b", "c"]
