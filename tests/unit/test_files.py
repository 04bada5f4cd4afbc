"""What is opened: regular files, at once or not at all."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bnaudit.files import content, exists, is_file, opened, remembered, was_read

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["fifo", "device", "socket"])
def odd(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A file from which reading never ends, or never begins."""
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    if request.param == "device":
        yield Path("/dev/zero")
    elif request.param == "fifo":
        os.mkfifo("odd")
        yield Path("odd")
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("odd")
            yield Path("odd")


def test_what_is_no_regular_file_is_told_at_once(odd: Path) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        opened(odd)


COMMANDS = [
    ("inspect", "{}"),
    ("check", "{}"),
    ("check", "m.onnx", "--data", "{}"),
    ("check", "m.onnx", "--data", "x={}"),
    ("check", "m.onnx", "--labels", "{}", "--data", "b.npz"),
    ("check", "m.onnx", "--baseline", "{}"),
    ("check", "m.onnx", "--config", "{}"),
    ("check", "net.py:net", "--weights", "{}"),
    ("check", "{}.py:net"),
    ("check", "m.onnx", "--loss", "{}.py:loss"),
    ("inspect", "m.onnx", "--baseline", "{}"),
    ("inspect", "w.index.json"),
    ("inspect", "ir.xml"),
    ("init", "{}", "m.onnx"),
    ("init", "m.onnx", "{}"),
    ("diff", "{}", "m.onnx"),
    ("diff", "m.onnx", "{}"),
    ("config", "--config", "{}"),
]


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_every_option_says_so(
    args: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: one that waits fails by the suite's own time limit."""
    import shutil

    from bnaudit.cli import run

    monkeypatch.chdir(tmp_path)
    fixtures = Path(__file__).parents[2] / "fixtures" / "tabular_mlp"
    shutil.copy(fixtures / "model.onnx", "m.onnx")
    shutil.copy(fixtures / "batch.npz", "b.npz")
    Path("net.py").write_text("import torch\ndef net(): return torch.nn.BatchNorm1d(3)\n")
    for name in ("odd", "odd.py", "part.bin", "ir.bin"):
        os.mkfifo(name)
    Path("w.index.json").write_text('{"weight_map": {"w": "part.bin"}}')
    constants = "".join(
        f'<layer id="{i}" name="c{i}" type="Const" version="opset1"><data element_type="f32" shape="4" '
        f'offset="{16 * i}" size="16"/><output><port id="0"/></output></layer>'
        for i in range(4)
    )
    ports = "".join(f'<port id="{i}"/>' for i in range(5))
    edges = "".join(
        f'<edge from-layer="{i}" from-port="0" to-layer="9" to-port="{i + 1}"/>' for i in range(4)
    )
    Path("ir.xml").write_text(
        f'<?xml version="1.0"?><net name="n" version="11"><layers>{constants}<layer id="9" name="bn" '
        f'type="BatchNormInference" version="opset5"><data epsilon="0.001"/><input>{ports}</input></layer>'
        f"</layers><edges>{edges}</edges></net>"
    )
    assert run([a.format("odd") for a in args]) == 2


def test_folders_and_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        opened(tmp_path)
    for name in ("x\0y", "x" * 5000):
        with pytest.raises(OSError):  # noqa: PT011  # FileNotFoundError or ENAMETOOLONG
            opened(tmp_path / name)
        assert not exists(tmp_path / name)
        assert not is_file(tmp_path / name)


def test_no_more_is_read_than_a_file_of_its_kind_has(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    assert content(tmp_path / "a", 10) == bytes(10)
    with pytest.raises(OSError, match="larger than 9 bytes"):
        content(tmp_path / "a", 9)


def test_files_are_remembered_by_what_they_are(tmp_path: Path) -> None:
    a, b, link = (tmp_path / name for name in ("a", "b", "link"))
    a.write_bytes(b"a")
    b.write_bytes(b"b")
    link.symlink_to(a)
    assert not was_read(a)
    with remembered():
        content(link)
        content(b, renewable=True)
        assert was_read(a)
        assert not was_read(b)
        assert not was_read(tmp_path / "nowhere")
    assert not was_read(a)


def test_nothing_is_opened_elsewhere() -> None:
    """A reader that opens files by itself would wait for a FIFO."""
    source = Path(__file__).parents[2] / "src" / "bnaudit"
    for module in source.rglob("*.py"):
        text = module.read_text(encoding="utf-8").replace('Path("/proc/', "")
        text = text.replace(
            "(files(__name__) / name).read_text(", ""
        )  # what the package brings along
        for call in ('.open("rb")', ".read_bytes(", ".read_text("):
            assert call not in text.replace('self/statm").read_text(', ""), f"{module.name}: {call}"
