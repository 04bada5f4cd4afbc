"""Outputs are all or nothing, and nothing that a command reads is one, referred to or named."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from bnaudit.cli.writing import write_whole
from tests.cli.conftest import MLP

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Outcome

    Cli = Callable[..., Outcome]

QUIET = ("--format", "none", "-q")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(MLP / "model.onnx", "m.onnx")


def test_a_report_that_has_no_room_leaves_the_one_that_was_there(cli: Cli) -> None:
    assert cli("inspect", "m.onnx", *QUIET, "-o", "r.json").code == 0
    before = Path("r.json").read_bytes()
    room = len(before) // 2
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bnaudit",
            "inspect",
            "m.onnx",
            *QUIET,
            "-o",
            "r.json",
            "-o",
            "r.md",
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: r.json: cannot be written (File too large)")
    assert Path("r.json").read_bytes() == before
    assert Path("r.md").read_text().startswith("##")  # has room, and is written all the same
    assert {path.name for path in Path().iterdir()} == {"m.onnx", "r.json", "r.md"}


@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_an_interrupt_at_any_step_leaves_the_old_file_alone(
    moment: str, nameless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not nameless:  # a file system without such files
        monkeypatch.delattr(os, "O_TMPFILE")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    Path("r.json").write_text("old")
    where = {"write": (os, "fdopen"), "fsync": (os, "fsync"), "replace": (Path, "replace")}[moment]
    with monkeypatch.context() as during:
        during.setattr(*where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_whole(Path("r.json"), "new")
    assert {path.name for path in Path().iterdir()} == {"m.onnx", "r.json"}
    assert Path("r.json").read_text() == "old"


@pytest.mark.parametrize("nameless", [True, False])
def test_a_link_stays_a_link_and_a_mode_a_mode(
    nameless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE")
    Path("deep").mkdir()
    Path("deep/r.json").write_text("old")
    Path("deep/r.json").chmod(0o640)
    Path("r.json").symlink_to("deep/r.json")
    write_whole(Path("r.json"), "neu\udc80")
    assert Path("r.json").is_symlink()
    assert Path("deep/r.json").read_text() == "neu\\udc80"
    assert stat.S_IMODE(Path("deep/r.json").stat().st_mode) == 0o640
    mask = os.umask(0o027)
    try:
        write_whole(Path("n.json"), "new")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(Path("n.json").stat().st_mode) == 0o640
    Path("nowhere").symlink_to("deep/later.json")
    write_whole(Path("nowhere"), "new")
    assert Path("deep/later.json").read_text() == "new"


def test_a_file_that_may_not_be_written_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("r.json").write_text("old")
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)  # root may write anything
    with pytest.raises(PermissionError):
        write_whole(Path("r.json"), "new")
    assert Path("r.json").read_text() == "old"


def test_a_pipe_is_written_into_and_one_without_a_reader_is_no_place(cli: Cli) -> None:
    os.mkfifo("pipe")
    outcome = cli("inspect", "m.onnx", *QUIET, "-o", "json=pipe")
    assert outcome.code == 2
    assert outcome.err.startswith("error: pipe: cannot be written")
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(Path("pipe").read_text()))
    reader.start()
    while not found:  # until the reader is there
        if cli("inspect", "m.onnx", *QUIET, "-o", "json=pipe").code == 0:
            reader.join()
    assert json.loads(found[0])["schema"] == "bnaudit.inspect/1"
    assert Path("pipe").is_fifo()


def external(location: str, *, read: bool) -> None:
    """m.onnx with one tensor in a file beside it, one that an inspection reads or one that it does not."""
    model = onnx.load("m.onnx")
    uses = {
        name
        for node in model.graph.node
        if node.op_type == "BatchNormalization"
        for name in node.input
    }
    tensor = next(t for t in model.graph.initializer if (t.name in uses) == read)
    Path(location).write_bytes(onnx.numpy_helper.to_array(tensor).tobytes())
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    onnx.save(model, "m.onnx")


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("command", ["inspect", "check"])
def test_external_weights_are_an_input(cli: Cli, command: str, read: bool) -> None:
    external("w.bin", read=read)
    before = Path("w.bin").read_bytes()
    Path("link").symlink_to("w.bin")
    for name in ("w.bin", "link"):
        outcome = cli(command, "m.onnx", "--format", "none", "-o", f"json={name}")
        assert outcome.code == 2
        assert f"error: --output names {name}, which this command reads" in outcome.err
        assert Path("w.bin").read_bytes() == before
    assert cli(command, "m.onnx", *QUIET, "--fail-on", "never", "-o", "other.json").code == 0


def test_parts_of_an_index_are_inputs(cli: Cli) -> None:
    header, data = {}, b""
    for i, part in enumerate(("weight", "bias", "running_mean", "running_var")):
        values = np.full(4, float(i), "<f4").tobytes()
        header[f"bn.{part}"] = {"dtype": "F32", "shape": [4], "data_offsets": [16 * i, 16 * i + 16]}
        data += values
    text = json.dumps(header).encode()
    Path("p.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    Path("i.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(header, "p.safetensors")})
    )
    before = Path("p.safetensors").read_bytes()
    outcome = cli("inspect", "i.index.json", "--format", "none", "-o", "json=p.safetensors")
    assert "error: --output names p.safetensors, which this command reads" in outcome.err
    assert Path("p.safetensors").read_bytes() == before


def test_a_baseline_may_be_renewed(cli: Cli) -> None:
    assert cli("inspect", "m.onnx", *QUIET, "-o", "b.json").code == 0
    assert cli("inspect", "m.onnx", *QUIET, "--baseline", "b.json", "-o", "b.json").code == 0
    assert json.loads(Path("b.json").read_text())["baseline"]["path"] == "b.json"


_WRITER = """
import sys
from pathlib import Path
from bnaudit.cli.writing import write_whole
text = "x" * 200_000 + "\\n"
print("ready", flush=True)
while True:
    write_whole(Path("r.txt"), text)
    text = text[-2:] + text[:-2]
"""


def test_a_kill_at_a_random_moment_leaves_a_whole_file() -> None:
    """Of a process that does nothing but write; `python -m bench.kills` kills whole commands."""
    for delay in (0.0, 0.001, 0.003, 0.004, 0.01):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        threading.Event().wait(delay)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        if Path("r.txt").exists():
            assert len(Path("r.txt").read_text()) == 200_001
