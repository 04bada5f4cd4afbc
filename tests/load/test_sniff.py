"""Files are told apart by content: a wrong extension never matters, and nothing else is raised."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
from typing import TYPE_CHECKING

import pytest
import torch
from fixtures.nets import TabularMlp
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn

from bnaudit.errors import InputError
from bnaudit.load import Loading, load
from bnaudit.load.sniff import FileKind, sniff
from tests.load.files import FIXTURES, MLP, zip_of

if TYPE_CHECKING:
    from pathlib import Path


def safetensors(padding: int = 0) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    text = header.encode() + b" " * padding
    return len(text).to_bytes(8, "little") + text + bytes(4)


def legacy_checkpoint() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(2)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def exported() -> bytes:
    buffer = io.BytesIO()
    program = torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.export.save(program, buffer)
    return buffer.getvalue()


KINDS = {
    "model.onnx": ((MLP / "model.onnx").read_bytes(), FileKind.ONNX),
    "dynamo.onnx": ((MLP / "dynamo.onnx").read_bytes(), FileKind.ONNX),
    "scripted.pt": ((MLP / "scripted.pt").read_bytes(), FileKind.TORCHSCRIPT),
    "traced.pt": ((MLP / "traced.pt").read_bytes(), FileKind.TORCHSCRIPT),
    "state_dict.pt": ((MLP / "state_dict.pt").read_bytes(), FileKind.CHECKPOINT),
    "legacy": (legacy_checkpoint(), FileKind.CHECKPOINT),
    "exported": (exported(), FileKind.EXPORTED),
    "old export": (
        zip_of(**{"serialized_exported_program.json": b"{}", "version": b"8.0"}),
        FileKind.EXPORTED,
    ),
    "compiled": (
        zip_of(m__data__aotinductor__model__a=b"", m__archive_format=b"pt2"),
        FileKind.COMPILED,
    ),
    "mobile": (b"0\0\0\0PTMF" + bytes(64), FileKind.TORCHSCRIPT),
    "safetensors": (safetensors(), FileKind.SAFETENSORS),
    # Its length begins like " <", as a page does.
    "safetensors <": (safetensors(0x3C20 - len(safetensors()) + 12), FileKind.SAFETENSORS),
}


@pytest.mark.parametrize("extension", ["", ".pt", ".onnx", ".txt"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_known_by_its_content(tmp_path: Path, name: str, extension: str) -> None:
    content, kind = KINDS[name]
    path = tmp_path / f"file{extension}"
    path.write_bytes(content)
    assert sniff(path) is kind


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        sniff(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a git-lfs pointer"),
        (b"<!DOCTYPE html><html></html>", "an HTML or XML page"),
        (b"\n\n  <html>", "an HTML or XML page"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>", "an HTML or XML page"),
        (b"just some text", "not a model file that bnaudit knows"),
        (b"8.5,1,2\n9.5,3,4\n", "not a model file that bnaudit knows"),
        (b'{"a": 1}', "not a model file that bnaudit knows"),
        (b"\x93NUMPY\x01\x00", "not a model file that bnaudit knows"),
        (bytes(100), "not a model file that bnaudit knows"),
        (b"PK\x03\x04", "a damaged or cut-off zip file"),
        ((MLP / "scripted.pt").read_bytes()[:-200], "a damaged or cut-off zip file"),
        (zip_of(a__b=b"1"), "a zip file, but not one that PyTorch wrote"),
        (zip_of(), "a zip file, but not one that PyTorch wrote"),
        (exported()[:-300], "a damaged or cut-off zip file"),
        (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
        (bytes(4) + b"TFL3", "a TensorFlow Lite file"),
        (bytes(4) + b"ET12", "an ExecuTorch file"),
    ],
)
def test_other_files_are_refused_with_what_they_are(
    tmp_path: Path, content: bytes, fact: str
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert fact in refused(path).message


@pytest.mark.parametrize(
    ("content", "kind", "fact"),
    [
        (b"\x89HDF\r\n\x1a\n", FileKind.KERAS, "is a Keras (HDF5) file"),
        ((MLP / "batch.npz").read_bytes(), FileKind.ARRAYS, "numpy arrays (.npz), not a model"),
        (pickle.dumps({"a": 1}), FileKind.PICKLE, "a pickle that torch.save did not write"),
        (
            b'<?xml version="1.0"?>\n<net name="m" version="11">',
            FileKind.OPENVINO,
            "an OpenVINO IR",
        ),
    ],
)
def test_weights_of_other_tools_are_not_run(
    tmp_path: Path, content: bytes, kind: FileKind, fact: str
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert sniff(path) is kind
    with pytest.raises(InputError) as caught:
        load(path)
    assert fact in caught.value.message
    assert caught.value.hint


def test_what_is_no_model_leads_to_one(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"")
    external = tmp_path / "net.onnx.data"
    external.write_bytes(bytes(64))
    assert (refused(external).hint or "").endswith(f"point bnaudit at {tmp_path / 'net.onnx'}")
    other = tmp_path / "other.data"
    other.write_bytes(bytes(64))
    assert "safetensors" in (refused(other).hint or "")


def test_places_without_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    assert "is a folder" in refused(tmp_path).message
    assert refused(tmp_path / "modle.onnx").hint == f"did you mean {tmp_path / 'model.onnx'}?"
    assert refused(tmp_path / "zzz").hint == f"looked in {tmp_path}"
    nowhere = refused(tmp_path / "nowhere" / "model.onnx")
    assert nowhere.hint == f"there is no folder {tmp_path / 'nowhere'} either"


@pytest.mark.parametrize("address", ["https://example.com/m.onnx", "s3://models/m.onnx"])
def test_an_address_is_no_file(tmp_path: Path, address: str) -> None:
    assert "download it first" in str(refused(type(tmp_path)(address)).hint)


def test_no_folder_is_named_that_nobody_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("zzz", "sub/zzz", "./zzz"):
        assert str(tmp_path) not in str(refused(type(tmp_path)(name)).hint)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """`bnaudit check <(cat model.onnx)`: model files are read out of order."""
    reader, writer = os.pipe()
    os.write(writer, (MLP / "model.onnx").read_bytes()[:4096])
    os.close(writer)
    try:
        with pytest.raises(InputError, match="not a regular file") as caught:
            sniff(type(tmp_path)(f"/dev/fd/{reader}"))
        assert caught.value.hint
    finally:
        os.close(reader)


@pytest.mark.parametrize("name", ["state_dict.pt"])
def test_kinds_that_cannot_be_run_say_what_to_do(name: str) -> None:
    with pytest.raises(
        InputError, match="is a PyTorch checkpoint file: it holds weights"
    ) as caught:
        load(MLP / name)
    hint = str(caught.value.hint)
    assert f"bnaudit check package.module:factory --weights {MLP / name}" in hint
    assert f"`bnaudit inspect {MLP / name}`" in hint


@pytest.mark.parametrize(
    ("module", "code"),
    [
        (nn.Sequential(nn.BatchNorm1d(2)), "package.module:factory"),
        (TabularMlp(), "fixtures.nets:TabularMlp"),
    ],
)
def test_a_pickled_module_is_called_so_with_its_class(
    module: nn.Module, code: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.pt"
    torch.save(module, path)
    with pytest.raises(
        InputError, match=f"pickled module of class .*{type(module).__name__}"
    ) as caught:
        load(path)
    command = f"bnaudit check {code} --weights {path}"
    assert command in str(caught.value.hint)
    if isinstance(module, TabularMlp):  # the command of the hint works
        loaded = load(code, Loading(weights=path))
        assert loaded.module.state_dict().keys() == module.state_dict().keys()


@pytest.mark.parametrize(
    ("folder", "inside", "told"),
    [
        ("m.mlpackage", "", "is a Core ML package (.mlpackage), not a model file, and empty"),
        ("m.mlpackage", "Data", "is a Core ML package (.mlpackage), not a model file"),
        (
            "m.mlmodelc",
            "coremldata.bin",
            "is a compiled Core ML model (.mlmodelc), not a model file",
        ),
        ("model", "saved_model.pb", "is a TensorFlow SavedModel, not a model file"),
        ("model", "", "is a folder, not a model file, and empty"),
        ("model", "net.onnx", "is a folder, not a model file"),
    ],
)
def test_folders_are_called_what_they_are(
    folder: str, inside: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / folder
    path.mkdir()
    if inside:
        (path / inside).touch()
    error = refused(path)
    assert error.message == f"{path}: {told}"
    assert (error.hint == "was the copy cut off?") == (folder == "model" and not inside)
    assert (error.hint == "point bnaudit at the file inside it") == (inside == "net.onnx")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_cut_off_onnx_file_is_still_onnx(tmp_path: Path, share: float) -> None:
    """Its loader knows better what is wrong with it than "not a model file"."""
    content = (FIXTURES / "digits_resnet" / "model.onnx").read_bytes()
    path = tmp_path / "model.bin"
    path.write_bytes(content[: int(len(content) * share)])
    assert sniff(path) is FileKind.ONNX
    with pytest.raises(InputError) as caught:
        load(path)
    assert caught.value.hint is not None


def knows_or_refuses(path: Path) -> None:
    with contextlib.suppress(InputError):
        assert isinstance(sniff(path), FileKind)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
@example(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
@example(b"PK\x05\x06" + b"\xff" * 18)
@example(bytes(8) + b"{")
def test_random_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model"
    path.write_bytes(content)
    knows_or_refuses(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(KINDS)),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    keep=st.floats(0, 1),
)
def test_damaged_files(
    tmp_path: Path, name: str, places: list[tuple[float, int]], keep: float
) -> None:
    content = bytearray(KINDS[name][0])
    for place, value in places:
        # Zip files keep their index at the end.
        content[-1 - int(place * min(len(content) - 1, 2000))] = value
    path = tmp_path / "model"
    path.write_bytes(content[: int(keep * len(content))] if keep > 0.5 else content)
    knows_or_refuses(path)
