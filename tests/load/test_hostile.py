"""Files that lead round in circles, grow without end, or say things twice: one line, at once, exit code 2."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bnaudit.cli import run
from bnaudit.errors import InputError
from bnaudit.inspecting import inspect
from bnaudit.load.archive import require_intact, require_sound_program
from bnaudit.load.onnx import load_onnx
from bnaudit.load.sniff import sniff

ROOT = Path(__file__).parents[2]
MLP = ROOT / "fixtures" / "tabular_mlp"


def model(
    nodes: list[onnx.NodeProto],
    kind: int = TensorProto.FLOAT,
    rows: int | str = "N",
    **more: object,
) -> onnx.ModelProto:
    """A BatchNorm n of x, and other nodes; y is the output."""
    value = helper.make_tensor_value_info
    init = [
        numpy_helper.from_array(np.full(4, v, "<f4"), n)
        for n, v in zip("gbmv", (1, 0, 0, 1), strict=True)
    ]
    init.append(numpy_helper.from_array(np.array(True), "c"))
    bn = helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["n"], "bn")
    ends = [value("x", kind, [rows, 4])], [value("y", TensorProto.FLOAT, [rows, 4])]
    graph = helper.make_graph([bn, *nodes], "g", *ends, init)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def saved(path: Path, made: onnx.ModelProto) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def function(name: str, *calls: str) -> onnx.FunctionProto:
    nodes = [helper.make_node(op, ["t"], ["t"], domain="own") for op in calls]
    nodes.append(helper.make_node("Relu", ["t"], ["u"]))
    return helper.make_function("own", name, ["t"], ["u"], nodes, [helper.make_opsetid("", 17)])


@pytest.mark.parametrize("op", ["Identity", "Dropout", "Relu"])
@pytest.mark.parametrize("length", [1, 3])
def test_values_that_are_computed_from_themselves(tmp_path: Path, op: str, length: int) -> None:
    names = [f"a{i}" for i in range(length)]
    ring = [
        helper.make_node(op, [a], [b]) for a, b in zip(names, names[1:] + names[:1], strict=True)
    ]
    path = saved(tmp_path / "m.onnx", model([*ring, helper.make_node("Add", ["n", "a0"], ["y"])]))
    with pytest.raises(InputError):
        load_onnx(path)
    inspect(path)


def test_branches_that_use_a_name_again(tmp_path: Path) -> None:
    """Settled Ifs, one in the other, with outputs all called o: a name inside hides the one outside."""
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Neg", ["n"], ["o"])], "t", [], [out])
    for depth in range(3):
        node = helper.make_node(
            "If", ["c"], ["o"], f"if{depth}", then_branch=graph, else_branch=graph
        )
        graph = helper.make_graph([node], "t", [], [out])
    nodes = [node, helper.make_node("Identity", ["o"], ["y"])]
    loaded = load_onnx(saved(tmp_path / "m.onnx", model(nodes)))
    x = torch.randn(3, 4)
    torch.testing.assert_close(loaded.module.eval()(x), -x / (1 + 1e-5) ** 0.5)


def test_a_long_chain_takes_no_longer_than_its_length(tmp_path: Path) -> None:
    names = ["n", *(f"d{i}" for i in range(3000)), "y"]
    nodes = [helper.make_node("Dropout", [a], [b]) for a, b in itertools.pairwise(names)]
    load_onnx(saved(tmp_path / "m.onnx", model(nodes)))


@pytest.mark.parametrize(
    ("functions", "said"),
    [
        ([function("f", "f")], "'f' calls itself"),
        ([function("f", "h"), function("h", "f")], "calls itself"),
        ([function("f"), function("f")], "two functions 'f'"),
        (
            [
                function("f", *["f0"] * 2),
                *(function(f"f{i}", *[f"f{i + 1}"] * 2) for i in range(40)),
            ],
            "without end",
        ),
    ],
)
def test_functions_without_end(
    tmp_path: Path, functions: list[onnx.FunctionProto], said: str
) -> None:
    made = model([helper.make_node("f", ["n"], ["y"], domain="own")], functions=functions)
    path = saved(tmp_path / "m.onnx", made)
    for read in (load_onnx, inspect):
        with pytest.raises(InputError, match="local functions cannot be inlined") as caught:
            read(path)
        assert said in caught.value.message


def test_functions_that_end_are_inlined(tmp_path: Path) -> None:
    functions = [function("f", "h"), function("h")]
    made = model([helper.make_node("f", ["n"], ["y"], domain="own")], functions=functions)
    assert len(inspect(saved(tmp_path / "m.onnx", made)).inspection.batchnorms) == 1


@pytest.mark.parametrize(
    ("kind", "rows", "said"),
    [
        (TensorProto.FLOAT4E2M1, "N", "PyTorch does not have"),
        (TensorProto.FLOAT, 2**31 - 1, "exported at batch size 2147483647"),
        (TensorProto.FLOAT, 2**62, ""),
    ],
)
def test_inputs_that_cannot_be(
    tmp_path: Path, kind: int, rows: int | str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(
        saved(tmp_path / "m.onnx", model([helper.make_node("Relu", ["n"], ["y"])], kind, rows))
    )
    np.save(tmp_path / "x.npy", np.ones((8, 4), "<f4"))
    for data in ((), ("--data", str(tmp_path / "x.npy"))):
        assert run(["check", path, *data, "--no-config", "--format", "none", "-q"]) == 2
        assert said in capsys.readouterr().err


def test_nodes_that_lack_their_inputs_are_no_bug(tmp_path: Path) -> None:
    for op in ("Conv", "Gemm", "BatchNormalization", "Reshape", "If", "Constant"):
        path = saved(tmp_path / "m.onnx", model([helper.make_node(op, [], ["y"])]))
        assert run(["inspect", str(path), "--no-config", "-q", "--format", "none"]) in {0, 2}


@pytest.mark.parametrize("length", [2**63 - 1, 2**63, 2**64 - 1, 2**62])
def test_lengths_that_no_file_has(tmp_path: Path, length: int) -> None:
    spelled = bytes((length >> 7 * i & 0x7F) | (0x80 if i < 9 else 0) for i in range(10))
    (tmp_path / "m.onnx").write_bytes(b"\x0a" + spelled)
    with pytest.raises(InputError, match="not a model file that bnaudit knows"):
        sniff(tmp_path / "m.onnx")


def scripted(path: Path, change: dict[str, bytes] | None = None, *, again: str = "") -> Path:
    """A TorchScript file, some members of it changed, one of them twice."""
    torch.jit.save(torch.jit.script(torch.nn.Sequential(torch.nn.BatchNorm1d(4))), path)
    with zipfile.ZipFile(path) as source:
        members = {i.filename: source.read(i) for i in source.infolist()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name, data in members.items():
            inner = name.partition("/")[2]
            # Modules that a process has scripted before change the names of these.
            kind = "code" if inner.startswith("code/") and inner.endswith(".py") else inner
            target.writestr(name, (change or {}).get(kind, data))
            if inner == again:
                target.writestr(name.upper(), data)
    path.write_bytes(out.getvalue())
    return path


def test_torchscript_is_read_as_data_first(tmp_path: Path) -> None:
    path = tmp_path / "m.ts"
    require_sound_program(scripted(path))
    with pytest.raises(InputError, match="twice"):
        require_sound_program(scripted(path, again="data.pkl"))
    with pytest.raises(InputError, match="cannot be read as a TorchScript file"):
        require_sound_program(scripted(path, {"data.pkl": b"\x80\x02X"}))
    with pytest.raises(InputError, match="data/0 inside it is too short"):
        require_sound_program(scripted(path, {"data/0": b"\0"}))
    with pytest.raises(InputError, match="bytes are packed inside it"):
        require_intact(bomb(tmp_path / "bomb.pt"))
    for deep in ("((" * 150 + "1" + "))" * 150, "x = 1" + " + 1" * 3000, " " * 900 + "pass"):
        with pytest.raises(InputError, match="nested too deeply"):
            require_sound_program(scripted(path, {"code": f"def f():\n  {deep}\n".encode()}))
    text = "x = ['((((', " + ", ".join(["1 + 2"] * 5000) + "]\n"
    require_sound_program(scripted(path, {"code": text.encode()}))


def bomb(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a/data.pkl", bytes(10**8))
    return path


def test_checksums_of_sample_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.pt"
    torch.save({"x": torch.full((8, 30), 3.0)}, path)
    assert run(
        ["check", str(MLP / "model.onnx"), "--data", str(path), "-q", "--format", "none"]
    ) in {0, 1}
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x00\x00\x40\x40", b"\x00\x00\x41\x40", 1))
    assert (
        run(["check", str(MLP / "model.onnx"), "--data", str(path), "-q", "--format", "none"]) == 2
    )
    assert "checksum" in capsys.readouterr().err


def test_indices_say_what_to_do(tmp_path: Path) -> None:
    for name in ("a.index.json", "../x.safetensors"):
        path = tmp_path / "a.index.json"
        path.write_text(json.dumps({"weight_map": {"w": name}}))
        with pytest.raises(InputError) as caught:
            sniff(path)
        assert caught.value.hint
    (tmp_path / "d.onnx").symlink_to("nowhere")
    with pytest.raises(InputError, match="no such file") as caught:
        sniff(tmp_path / "d.onnx")
    assert caught.value.hint == "a link to nowhere, which is not there"


def test_nothing_is_written_beside_or_reported(tmp_path: Path) -> None:
    """Of a HOME and a TMPDIR that are empty: by --verify (onnxruntime) and --trust (PyTorch's compiler)."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).eval()
    torch.export.save(torch.export.export(net, (torch.ones(4, 3),)), tmp_path / "m.pt2")
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    env = {
        k: v for k, v in os.environ.items() if k not in {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    }
    env |= {
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "PYTHONPATH": str(ROOT / "src"),
    }
    env |= {"PYTHONDONTWRITEBYTECODE": "1"}
    for args in ((str(MLP / "model.onnx"), "--verify"), ("m.pt2", "--trust")):
        command = [
            sys.executable,
            "-m",
            "bnaudit",
            "check",
            *args,
            "-q",
            "--fail-on",
            "never",
            "--format",
            "none",
        ]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        left = [p for name in ("home", "tmp") for p in (tmp_path / name).rglob("*")]
        assert not left
