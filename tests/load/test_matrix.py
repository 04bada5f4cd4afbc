"""Every kind of file under every extension: what is in it decides, in `load` and on the command line."""

from __future__ import annotations

import io
import json
import warnings
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from bnaudit.cli import run
from tests.load.files import FIXTURES, MLP, export, zip_of

if TYPE_CHECKING:
    from pathlib import Path

EXTENSIONS = ["", ".pt", ".onnx", ".pt2", ".safetensors", ".py", ".json"]


def _safetensors() -> bytes:
    text = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4)


def _legacy() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(2)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _flatbuffer(folder: Path) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.Linear(30, 8), nn.BatchNorm1d(8)).eval()
        scripted = torch.jit.script(net)
        scripted._save_for_lite_interpreter(str(folder / "mobile"), _use_flatbuffer=True)
    return (folder / "mobile").read_bytes()


# Kind -> exit code, and what stderr or the report says.
EXPECTED = {
    "onnx": (0, '"format": "onnx"'),
    "dynamo": (0, '"format": "onnx"'),
    "scripted": (0, '"format": "torchscript"'),
    "traced": (0, '"format": "torchscript"'),
    "mobile": (0, '"format": "torchscript"'),
    "exported": (0, '"format": "exported"'),
    "checkpoint": (2, "is a PyTorch checkpoint file: it holds weights"),
    "legacy": (2, "is a PyTorch checkpoint file: it holds weights"),
    "safetensors": (2, "is a safetensors file: it holds weights"),
    "compiled": (2, "is an AOTInductor package"),
    "arrays": (2, "numpy arrays (.npz), not a model"),
    "page": (2, "an HTML or XML page"),
    "pointer": (2, "a git-lfs pointer"),
    "text": (2, "not a model file that bnaudit knows"),
    "empty": (2, "the file is empty"),
    "folded": (3, "no BatchNorm is left: it was folded"),
}


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("kinds")
    net = nn.Sequential(nn.Linear(30, 8), nn.BatchNorm1d(8)).eval()
    program = export(
        net, folder / "m", torch.randn(24, 30), dynamic_shapes=({0: torch.export.Dim("b")},)
    )
    return {
        "onnx": (MLP / "model.onnx").read_bytes(),
        "dynamo": (MLP / "dynamo.onnx").read_bytes(),
        "scripted": (MLP / "scripted.pt").read_bytes(),
        "traced": (MLP / "traced.pt").read_bytes(),
        "mobile": _flatbuffer(folder),
        "exported": program.read_bytes(),
        "checkpoint": (MLP / "state_dict.pt").read_bytes(),
        "legacy": _legacy(),
        "safetensors": _safetensors(),
        "compiled": zip_of(m__data__aotinductor__model__a=b"\x7fELF", m__archive_format=b"pt2"),
        "arrays": (MLP / "batch.npz").read_bytes(),
        "page": b"<!DOCTYPE html><html></html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "text": b"hello, world",
        "empty": b"",
        "folded": (FIXTURES / "tabular_mlp" / "folded.onnx").read_bytes(),
    }


def test_every_kind_is_expected(contents: dict[str, bytes]) -> None:
    assert contents.keys() == EXPECTED.keys()


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("kind", EXPECTED)
def test_the_extension_never_matters(
    tmp_path: Path,
    contents: dict[str, bytes],
    kind: str,
    extension: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"model{extension}"
    (tmp_path / name).write_bytes(contents[kind])
    shape = ["--input-shape", "24x30"]
    options = ["--metrics", "first_order", "--batches", "1", "--format", "json", "--trust"]
    code = run(["check", name, *shape, *options])
    out, err = capfd.readouterr()
    wanted, text = EXPECTED[kind]
    assert (code, "Traceback" in err) == (wanted, False)
    assert text in (out if wanted == 0 else err)
    assert str(tmp_path) not in out + err
    assert [p.name for p in tmp_path.iterdir()] == [name]
    if code == 2:
        error, hint = err.splitlines()
        assert (error.startswith("error: "), hint.startswith("hint: ")) == (True, True)
