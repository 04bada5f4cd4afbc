"""Weights out of every format, and what is no such file."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from bnaudit.errors import InputError
from bnaudit.load.weights import read_weights
from bnaudit.load.weights.model import Layout

from . import files

if TYPE_CHECKING:
    from pathlib import Path


def values(path: Path) -> dict[str, Any]:
    return {t.name: t.read() for t in read_weights(path).tensors}


@pytest.mark.parametrize("net", ["digits_resnet", "tabular_mlp"])
@pytest.mark.parametrize(
    "name", ["scripted.pt", "traced.pt", "model.onnx", "static.onnx", "dynamo.onnx"]
)
def test_formats_agree_to_the_bit(net: str, name: str) -> None:
    reference = {
        k: v.double().numpy() for k, v in files.trained_state(net).items() if v.is_floating_point()
    }
    found = values(files.FIXTURES / net / name)
    missing = {n for n in reference if n not in found}
    # Exporters store equal tensors once and copy them by an Identity under a name of its own.
    assert missing <= ({"layer2.0.downsample.1.bias"} if name.endswith("onnx") else set())
    for key in reference.keys() - missing:
        np.testing.assert_array_equal(found[key], reference[key])


def test_checkpoint_zip_legacy_and_nested(tmp_path: Path) -> None:
    state = {"a.weight": torch.randn(3, 2), "n": torch.tensor(4), "h": torch.randn(2).half()}
    for legacy in (False, True):
        path = files.save_state(tmp_path / "x.bin", state, legacy=legacy)
        assert {n: v.shape for n, v in values(path).items()} == {"a.weight": (3, 2), "h": (2,)}
        np.testing.assert_array_equal(values(path)["a.weight"], state["a.weight"].double())
    for key in ("model", "state_dict", "model_state_dict", "ema"):
        path = files.save_state(
            tmp_path / "x.bin", {"epoch": 3, key: state, "optimizer": {"state": {}}}
        )
        assert set(values(path)) == {"a.weight", "h"}
        assert read_weights(path).notes == (f"{path}: read from its entry {key!r}",)


def test_the_model_comes_before_its_moving_average(tmp_path: Path) -> None:
    one, two = {"w": torch.ones(2, 2)}, {"w": torch.zeros(2, 2)}
    path = files.save_state(tmp_path / "x.pt", {"ema": two, "model": {"state_dict": one}})
    assert values(path)["w"].sum() == 4
    assert "'model.state_dict' (beside it: ema)" in read_weights(path).notes[0]


def test_safetensors(tmp_path: Path) -> None:
    state = {
        "a": torch.randn(3, 2),
        "b": torch.randn(4).bfloat16(),
        "c": torch.randn(2, 2).half(),
        "d": torch.randn(2).double(),
        "i": torch.arange(3),
    }
    path = files.save_safetensors(tmp_path / "x.safetensors", state)
    found = values(path)
    assert set(found) == {"a", "b", "c", "d"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, state[name].double())


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code from the file ran",))


def test_code_in_a_pickle_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for legacy in (False, True):
        path = files.save_state(
            tmp_path / "x.pt", {"w": torch.ones(2, 2), "e": _Evil()}, legacy=legacy
        )
        assert set(values(path)) == {"w"}
    assert "code from the file ran" not in capsys.readouterr().out


def test_a_whole_module_is_read_without_its_class(tmp_path: Path) -> None:
    net = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.Linear(2, 2))
    for legacy in (False, True):
        whole = files.save_state(tmp_path / "net.pt", {"model": net, "epoch": 3}, legacy=legacy)
        file = read_weights(whole)
        state = {n: t.double() for n, t in net.state_dict().items() if t.is_floating_point()}
        assert [t.name for t in file.tensors] == list(state)
        for tensor in file.tensors:
            np.testing.assert_array_equal(tensor.read(), state[tensor.name])
        assert file.layouts == {"0.weight": Layout(1, 2), "2.weight": Layout(0)}


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def test_damaged_files(tmp_path: Path) -> None:
    state = {"w": torch.randn(20, 20)}
    good = [
        files.save_state(tmp_path / "a.pt", state),
        files.save_state(tmp_path / "b.pt", state, legacy=True),
        files.save_safetensors(tmp_path / "c.safetensors", state),
        files.FIXTURES / "tabular_mlp" / "scripted.pt",
        files.FIXTURES / "tabular_mlp" / "model.onnx",
    ]
    for path in good:
        cut = tmp_path / "cut.bin"
        cut.write_bytes(_cut(path.read_bytes()))
        with pytest.raises(InputError, match=r"cut\.bin"):
            read_weights(cut)


@pytest.mark.parametrize(
    "header",
    [
        b'{"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 999]}}',
        b'{"w": {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 16]}}',
        b'{"w": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}}',
        b'{"w": {"dtype": "F32", "shape": "22", "data_offsets": [0, 16]}}',
        b'{"w": 3}',
        b'{"w": ',
    ],
)
def test_damaged_safetensors_headers(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(InputError, match=r"x\.safetensors"):
        read_weights(path)


def test_other_things_that_hold_no_weights(tmp_path: Path) -> None:
    cases = {
        "list.pt": [torch.ones(2)],
        "optimizer.pt": {"optimizer": {"state": {0: {"m": torch.ones(2)}}}},
        "numbers.pt": {"epoch": 3},
    }
    for name, content in cases.items():
        with pytest.raises(InputError, match=name):
            read_weights(files.save_state(tmp_path / name, content))
    with pytest.raises(InputError, match="no such file"):
        read_weights(tmp_path / "none.pt")
    (tmp_path / "p.pkl").write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(InputError):
        read_weights(tmp_path / "p.pkl")


def _graph(nodes: list[onnx.NodeProto], arrays: dict[str, Any], path: Path) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(a.astype(np.float32) if a.dtype.kind == "f" else a, n)
            for n, a in arrays.items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def _bn(source: str, name: str, arrays: dict[str, Any], channels: int) -> onnx.NodeProto:
    names = [f"{name}.{p}" for p in ("weight", "bias", "running_mean", "running_var")]
    arrays.update({n: np.ones(channels) for n in names})
    return helper.make_node(
        "BatchNormalization", [source, *names], [f"{name}_out"], name=f"/{name}/B"
    )


def test_the_onnx_graph_tells_layout_and_what_follows(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "w1": np.ones((4, 3)), "b1": np.ones(3), "w2": np.ones((3, 5)), "w3": np.ones((6, 5)),
        "w4": np.ones((3, 5)), "b4": np.ones(5),
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m1"]),
        helper.make_node("Add", ["m1", "b1"], ["a1"]),
        _bn("a1", "bn1", arrays, 3),
        helper.make_node("MatMul", ["bn1_out", "w4"], ["m4"]),
        helper.make_node("Add", ["m4", "b4"], ["a4"]),  # read below, behind its bias
        _bn("a4", "bn4", arrays, 5),
        helper.make_node("Gemm", ["bn1_out", "w2"], ["m2"]),
        _bn("m2", "bn2", arrays, 5),
        helper.make_node("Add", ["bn2_out", "m2"], ["s"]),
        helper.make_node("Add", ["s", "a4"], ["s4"]),
        helper.make_node("Transpose", ["w3"], ["w3t"], perm=[1, 0]),
        helper.make_node("MatMul", ["s4", "w3t"], ["m3"]),
        _bn("m3", "bn3", arrays, 6),
        helper.make_node("Concat", ["bn3_out", "bn4_out"], ["y"], axis=1),
    ]
    file = read_weights(_graph(nodes, arrays, tmp_path / "g.onnx"))
    assert file.layouts == {"w1": Layout(1), "w2": Layout(1), "w3": Layout(0), "w4": Layout(1)}
    assert file.feeds == {"bn1": "w1", "bn3": "w3"}  # a sum reads the others' as well
    assert file.behind == {"bn1": "w1", "bn2": "w2", "bn3": "w3", "bn4": "w4"}
    assert "bn1.running_mean" in file.statistics
    assert "bn1.weight" not in file.statistics


def test_a_weight_used_twice_feeds_a_batchnorm_only_if_both_uses_do(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"w": np.ones((4, 4))}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m1"]),
        _bn("m1", "bn1", arrays, 4),
        helper.make_node("MatMul", ["bn1_out", "w"], ["y"]),
    ]
    file = read_weights(_graph(nodes, arrays, tmp_path / "g.onnx"))
    assert file.feeds == {}
    assert file.behind == {"bn1": "w"}


@pytest.mark.parametrize(("pads", "fed"), [([0, 0, 0, -1], True), ([0, 0, 0, 1], False)])
def test_a_crop_in_an_onnx_graph_is_passed_and_zeros_are_not(
    tmp_path: Path, pads: list[int], fed: bool
) -> None:
    arrays: dict[str, Any] = {"w": np.ones((4, 4)), "p": np.array(pads), "s": np.array([1])}
    arrays |= {"e": np.array([9]), "axis": np.array([0])}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Slice", ["m", "s", "e", "axis"], ["m1"]),
        helper.make_node("Pad", ["m1", "p"], ["m2"]),
        _bn("m2", "bn", arrays, 4),
        helper.make_node("Identity", ["bn_out"], ["y"]),
    ]
    file = read_weights(_graph(nodes, arrays, tmp_path / "g.onnx"))
    assert file.feeds == ({"bn": "w"} if fed else {})
