"""Parameters of two files by name, and what makes two architectures different."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bnaudit.errors import InputError, UsageError
from bnaudit.initialisation.pairs import Pairs, pair
from bnaudit.load.sniff import FileKind
from bnaudit.load.weights.model import NamedTensor, WeightFile

Shapes = dict[str, tuple[int, ...]]


def file(shapes: Shapes, path: str = "f.pt", kind: FileKind = FileKind.CHECKPOINT) -> WeightFile:
    def one(name: str, shape: tuple[int, ...]) -> NamedTensor:
        return NamedTensor(name, shape, lambda: np.zeros(shape))

    return WeightFile(Path(path), kind, tuple(one(n, s) for n, s in shapes.items()))


def both(
    start: Shapes, trained: Shapes, *, every: bool = False, layers: str | None = None
) -> Pairs:
    return pair(file(start, "a.pt"), file(trained, "b.pt"), every=every, layers=layers)


NET: Shapes = {
    "conv1.weight": (4, 3, 1, 1),
    "bn1.weight": (4,),
    "bn1.running_mean": (4,),
    "bn1.running_var": (4,),
    "fc.weight": (2, 4),
    "fc.bias": (2,),
}


def test_weights_by_default_and_parameters_on_request() -> None:
    assert both(NET, NET).names == ("conv1.weight", "fc.weight")
    every = both(NET, NET, every=True).names
    assert every == ("conv1.weight", "bn1.weight", "fc.weight", "fc.bias")
    assert both(NET, NET, layers="fc.*").names == ("fc.weight",)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.module."],
)
def test_wrappers_are_stripped_on_either_side(prefix: str) -> None:
    wrapped = {prefix + n: s for n, s in NET.items()}
    for start, trained in ((wrapped, NET), (NET, wrapped)):
        found = both(start, trained)
        assert found.names == ("conv1.weight", "fc.weight")
        assert sorted(found.start.prefix + found.trained.prefix) == sorted(prefix)


def test_a_prefix_of_both_files_stays() -> None:
    wrapped = {f"model.{n}": s for n, s in NET.items()}
    assert both(wrapped, wrapped).names == ("model.conv1.weight", "model.fc.weight")


def test_a_wrapped_and_a_differently_wrapped_file() -> None:
    left = {f"module.{n}": s for n, s in NET.items()}
    right = {f"model.{n}": s for n, s in NET.items()}
    assert both(left, right).names == ("conv1.weight", "fc.weight")


def test_torch_compile_of_a_submodule() -> None:
    left = {f"net._orig_mod.{n}": s for n, s in NET.items()}
    right = {f"net.{n}": s for n, s in NET.items()}
    assert both(left, right).names == ("net.conv1.weight", "net.fc.weight")


def test_missing_on_each_side_and_other_shapes() -> None:
    many = {f"layer{i}.weight": (2, 2) for i in range(7)}
    other = {**NET, "fc.weight": (3, 4)}
    with pytest.raises(InputError) as caught:
        both({**NET, **many}, {**other, "head.weight": (2, 2)})
    text = caught.value.message
    assert "only in a.pt: layer0.weight, layer1.weight, layer2.weight and 4 more" in text
    assert "only in b.pt: head.weight" in text
    assert "of another shape: fc.weight 2x4 / 3x4" in text
    assert caught.value.exit_code == 2


def test_a_part_that_both_have() -> None:
    other = {**NET, "fc.weight": (3, 4)}
    assert both(NET, other, layers="conv*").names == ("conv1.weight",)
    with pytest.raises(UsageError, match="matches no weight"):
        both(NET, NET, layers="zzz*")


def test_an_export_may_leave_out_what_it_does_not_run() -> None:
    start = {**NET, "aux.weight": (2, 4)}
    found = pair(file(start), file(NET, "b.onnx", FileKind.ONNX), every=False, layers=None)
    assert found.names == ("conv1.weight", "fc.weight")
    assert found.notes == ("1 weight not in the exported b.onnx: aux.weight",)
    with pytest.raises(InputError):
        both(start, NET)


def test_renamed_weights_of_an_export_get_a_hint() -> None:
    renamed = {"onnx::MatMul_12": (3, 4), "conv1.weight": (4, 3, 1, 1)}
    with pytest.raises(InputError) as caught:
        pair(file(NET), file(renamed, "b.onnx", FileKind.ONNX), every=False, layers=None)
    assert "onnx::" in str(caught.value.hint)
