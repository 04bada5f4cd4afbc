"""Bad input: an error line, a hint line, the right code; no path that nobody typed, no new file."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tests.cli.conftest import MLP
from tests.load.files import export, rewritten, script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome


MODEL = str(MLP / "model.onnx")


class Twisted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(30)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.bn(x))


@pytest.fixture
def check(
    cli: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Runs `check` on a file of this folder and gives what the error line says."""
    monkeypatch.chdir(tmp_path)

    def call(name: str, *args: str, code: int = 2) -> str:
        before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
        outcome = cli("check", name, *args, "--metrics", "first_order")
        assert outcome.code == code, outcome.err
        error, hint = outcome.lines
        assert (error[:7], hint[:6]) == ("error: ", "hint: ")
        assert "Traceback" not in outcome.err
        assert str(tmp_path.parent) not in outcome.out + outcome.err
        assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before
        return error

    return call


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    x = torch.randn(24, 30)
    return {
        "m.onnx": (MLP / "model.onnx").read_bytes(),
        "m.pt": script(Twisted().eval(), folder / "m.pt").read_bytes(),
        "m.pt2": export(Twisted().eval(), folder / "m.pt2", x).read_bytes(),
        "w.pt": (MLP / "state_dict.pt").read_bytes(),
    }


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (("check", ""), "model"),
        (("check", MODEL, ""), "model"),
        (("inspect", ""), "model"),
        (("diff", "", MODEL), "file"),
        (("init", MODEL, ""), "file"),
        (("check", MODEL, "--config", ""), "file"),
    ],
)
def test_an_empty_name_is_no_folder(
    cli: Callable[..., Outcome], args: tuple[str, ...], what: str
) -> None:
    outcome = cli(*args)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.lines[0].endswith(f": an empty {what} name")
    assert "folder" not in outcome.err


TRUST = {"m.pt2": ["--trust"]}


@pytest.mark.parametrize("share", [0.02, 0.4, 0.8, 0.98])
@pytest.mark.parametrize("name", ["m.onnx", "m.pt", "m.pt2", "w.pt"])
def test_cut_off(
    check: Callable[..., str], tmp_path: Path, whole: dict[str, bytes], name: str, share: float
) -> None:
    content = whole[name]
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    message = check(name, *TRUST.get(name, []))
    assert message.startswith(f"error: {name}: ")


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes(check: Callable[..., str], tmp_path: Path, seed: int) -> None:
    (tmp_path / "m.onnx").write_bytes(random.Random(seed).randbytes(3000))  # noqa: S311
    assert "m.onnx: " in check("m.onnx")


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 300, b"\x80\x02}q\x00."])
def test_nothing_or_next_to_it(check: Callable[..., str], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    assert "m: " in check("m")


@pytest.mark.parametrize("name", ["m.pt", "m.pt2"])
def test_a_flipped_bit_in_a_weight(
    check: Callable[..., str], tmp_path: Path, whole: dict[str, bytes], name: str
) -> None:
    content = bytearray(whole[name])
    ones = np.ones(30, np.float32).tobytes()
    place = content.find(ones)
    assert place > 0
    content[place + 3] ^= 0x40
    (tmp_path / name).write_bytes(content)
    assert "the checksum of" in check(name, *TRUST.get(name, []))


def test_a_flipped_bit_in_a_checkpoint(
    check: Callable[..., str], tmp_path: Path, whole: dict[str, bytes]
) -> None:
    content = bytearray(whole["w.pt"])
    weights = torch.load(MLP / "state_dict.pt", weights_only=True)["fc1.weight"]
    content[content.find(weights.numpy().tobytes()[:64]) + 3] ^= 0x40
    (tmp_path / "w.pt").write_bytes(content)
    (tmp_path / "net.py").write_text("import torch\nnet = torch.nn.BatchNorm1d(30)\n")
    assert "w.pt: damaged: the checksum of" in check("net.py:net", "--weights", "w.pt")


def test_a_missing_operator(
    check: Callable[..., str], tmp_path: Path, whole: dict[str, bytes]
) -> None:
    def change(old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
        return lambda name, content: (
            content.replace(old, new) if name.endswith((".py", "model.json")) else content
        )

    for name in ("m.pt", "m.pt2"):
        (tmp_path / f"whole-{name}").write_bytes(whole[name])
    rewritten(tmp_path / "whole-m.pt", tmp_path / "m.pt", change(b"torch.tanh(", b"ops.my.twist("))
    assert "needs the operator my::twist" in check("m.pt")
    old, new = b"torch.ops.aten.tanh.default", b"torch.ops.my.twist.default"
    rewritten(tmp_path / "whole-m.pt2", tmp_path / "m.pt2", change(old, new))
    assert "needs the operator my::twist" in check("m.pt2", "--trust")


RAISES = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(4)
    def forward(self, x):
        {statement}
        return self.bn(x)
net = Net()
"""


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("raise RuntimeError('first\\nsecond')", "first"),
        ("raise ValueError('odd value')", "odd value"),
        ("raise TypeError('odd type')", "TypeError: odd type"),
        ("raise AssertionError", "AssertionError"),
        ("raise IndexError('out of range')", "IndexError: out of range"),
        ("raise KeyError('name')", "KeyError: 'name'"),
        ("raise NotImplementedError", "NotImplementedError"),
        ("x = x @ torch.ones(5, 4)", "mat1 and mat2 shapes cannot be multiplied"),
        ("x = x[:, 9]", "IndexError"),
        ("x = x.view(3, 5)", "shape '[3, 5]' is invalid"),
    ],
)
def test_whatever_a_model_raises(
    check: Callable[..., str], tmp_path: Path, statement: str, said: str
) -> None:
    (tmp_path / "raising.py").write_text(RAISES.format(statement=statement.replace("\n", "\\n")))
    message = check("raising.py:net", "--input-shape", "8x4", code=4)
    assert "cannot be run on inputs of shape 8x4" in message
    assert said in message


def graph(**changes: Any) -> onnx.ModelProto:
    """One BatchNorm of three channels."""
    values = {
        name: np.ones(3, np.float32) for name in ("weight", "bias", "running_mean", "running_var")
    } | changes  # fmt: skip
    node = helper.make_node("BatchNormalization", ["x", *values], ["y"], name="bn")
    shape: list[str | int | None] = ["n", 3, 2, 2]
    return helper.make_model(
        helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(v, name) for name, v in values.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def external(folder: Path, location: str) -> None:
    model = graph()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (folder / "m.onnx").write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("location", "fact"),
    [
        ("gone.bin", "its external weights 'gone.bin' cannot be read"),
        ("../secret.bin", "outside the model's folder, which is refused"),
        ("sub/../../secret.bin", "outside the model's folder, which is refused"),
        ("ABSOLUTE", "outside the model's folder, which is refused"),
        ("/etc/hostname", "outside the model's folder, which is refused"),
        ("link.bin", "outside the model's folder, which is refused"),
        ("folder/secret.bin", "outside the model's folder, which is refused"),
    ],
)
def test_external_weights_outside_the_folder_are_not_read(
    check: Callable[..., str], tmp_path: Path, location: str, fact: str
) -> None:
    secret = tmp_path.parent / "secret.bin"
    secret.write_bytes(np.ones(3, np.float32).tobytes())
    (tmp_path / "link.bin").symlink_to(secret)
    (tmp_path / "folder").symlink_to(tmp_path.parent)
    external(tmp_path, str(secret) if location == "ABSOLUTE" else location)
    assert fact in check("m.onnx", "--verify")


def test_an_onnx_file_without_nodes(check: Callable[..., str], tmp_path: Path) -> None:
    model = graph()
    del model.graph.node[:]
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert "has no nodes" in check("m.onnx")


def test_parameters_of_another_length(check: Callable[..., str], tmp_path: Path) -> None:
    changed = graph(running_var=np.ones(4, np.float32))
    (tmp_path / "m.onnx").write_bytes(changed.SerializeToString())
    assert "m.onnx: " in check("m.onnx")


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 0.0])
def test_statistics_that_cannot_be(
    cli: Callable[..., Outcome], tmp_path: Path, value: float
) -> None:
    var = np.array([1, value, 1], np.float32)
    (tmp_path / "m.onnx").write_bytes(graph(running_var=var).SerializeToString())
    outcome = cli("check", tmp_path / "m.onnx", "--format", "json")
    assert outcome.code in {0, 1}
    assert any("running_var has 1 of 3" in note for note in outcome.document["model"]["notes"])


def test_an_ir_version_of_the_future(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    model = graph()
    model.ir_version = 99
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert cli("check", tmp_path / "m.onnx", "--metrics", "first_order").code == 0


def test_a_free_dimension_that_was_assumed_is_said(
    cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    model = graph()
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.Clear()
        dimension.dim_param = "side"
    model.graph.node.append(helper.make_node("Reshape", ["y", "shape"], ["z"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 12]), "shape"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 12]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    outcome = cli("check", tmp_path / "m.onnx")
    assert outcome.code == 4
    assert "dimension 2 is free, 224 assumed" in outcome.lines[1]
    assert "--input-shape" in outcome.lines[1]
    assert cli("check", tmp_path / "m.onnx", "--input-shape", "8x3x2x2").code in {0, 1}
