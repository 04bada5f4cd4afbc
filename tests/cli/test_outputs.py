"""Where -o may write: never over what the command reads, never two documents into one file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import MLP

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Outcome

    Cli = Callable[..., Outcome]

NET = "def net():\n    raise SystemExit\n"


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copies = {
        "m.onnx": "model.onnx",
        "b.npz": "batch.npz",
        "s.pt": "start.pt",
        "w.pt": "state_dict.pt",
    }
    for name, of in copies.items():
        shutil.copy(MLP / of, name)
    Path("c.yaml").write_text("seed: 7\n")
    Path("net.py").write_text(NET)
    Path("y.npy").write_bytes(b"labels")


READS = [
    ("m.onnx", ("inspect", "m.onnx")),
    ("m.onnx", ("check", "m.onnx")),
    ("net.py", ("check", "net.py:net")),
    ("w.pt", ("check", "net.py:net", "--weights", "w.pt")),
    ("b.npz", ("check", "m.onnx", "--data", "b.npz")),
    ("b.npz", ("check", "m.onnx", "--data", "x=b.npz")),
    ("net.py", ("check", "m.onnx", "--data", "net.py:net")),
    ("net.py", ("check", "m.onnx", "--loss", "net.py:net")),
    ("y.npy", ("check", "m.onnx", "--data", "b.npz", "--labels", "y.npy")),
    ("c.yaml", ("check", "m.onnx", "--config", "c.yaml")),
    ("s.pt", ("init", "s.pt", "m.onnx")),
    ("m.onnx", ("init", "s.pt", "m.onnx")),
    ("b.npz", ("init", "s.pt", "m.onnx", "--data", "b.npz")),
    ("s.pt", ("diff", "s.pt", "m.onnx")),
    ("m.onnx", ("diff", "s.pt", "m.onnx")),
]


@pytest.mark.parametrize(("read", "args"), READS)
def test_what_is_read_is_never_replaced(cli: Cli, read: str, args: tuple[str, ...]) -> None:
    before = Path(read).read_bytes()
    Path("soft").symlink_to(read)
    os.link(read, "hard")
    (folder := Path("folder")).mkdir()
    for path in (read, f"{folder}/../{read}", "soft", "hard"):
        outcome = cli(*args, "-o", f"json={path}")
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.lines[0].startswith(
            f"error: --output names {path}, which this command reads"
        )
        assert outcome.lines[1].startswith("hint: ")
        assert (path == read) != outcome.lines[0].endswith(f"reads (as {read})")
        assert Path(read).read_bytes() == before


def test_nor_is_a_report_that_is_compared(cli: Cli) -> None:
    for name in ("a.json", "b.json"):
        assert cli("inspect", "m.onnx", "-o", name, "--format", "none").code == 0
    before = Path("a.json").read_bytes()
    for name in ("a.json", "b.json"):
        outcome = cli("diff", "a.json", "b.json", "-o", name)
        assert outcome.code == 2
        assert outcome.lines[0] == f"error: --output names {name}, which this command reads"
    assert Path("a.json").read_bytes() == before


def test_nor_is_a_configuration_that_was_found(cli: Cli) -> None:
    Path("bnaudit.yaml").write_text("output: json=bnaudit.yaml\n")
    outcome = cli("check", "m.onnx")
    assert outcome.code == 2
    assert outcome.lines[0] == "error: --output names bnaudit.yaml, which this command reads"
    assert Path("bnaudit.yaml").read_text() == "output: json=bnaudit.yaml\n"


def test_a_baseline_may_be_renewed(cli: Cli) -> None:
    inspected = ("inspect", "m.onnx", "--format", "none", "-o", "a.json")
    assert cli(*inspected).code == 0
    assert cli(*inspected, "--baseline", "a.json").code == 0
    checked = ("check", "m.onnx", "-m", "first_order", "--format", "none", "-o", "c.json")
    assert cli(*checked).code == 0
    before = Path("c.json").read_text()
    assert cli(*checked, "--seed", 3, "--baseline", "c.json").code == 0
    assert Path("c.json").read_text() != before


def test_another_file_is_written(cli: Cli) -> None:
    Path("old.json").write_text("an older report")
    assert cli("inspect", "m.onnx", "--format", "none", "-o", "old.json").code == 0
    assert Path("old.json").read_text().startswith("{")


@pytest.mark.parametrize("other", ["o/q", "link/q", "o/soft"])
def test_one_file_has_one_document_however_it_is_spelled(cli: Cli, other: str) -> None:
    Path("o").mkdir()
    Path("link").symlink_to("o")
    Path("o/soft").symlink_to("q")
    outcome = cli("inspect", "m.onnx", "-o", "json=o/../o/q", "-o", f"sarif={other}")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.lines[0] == "error: --output names o/../o/q twice"
    assert not Path("o/q").exists()


@pytest.mark.parametrize("stdout", ["table", "none"])
def test_a_dash_is_no_file(cli: Cli, stdout: str) -> None:
    outcome = cli("check", "m.onnx", "--format", stdout, "-o", "json=-")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.lines[0] == "error: --output names -, which is no file"
    assert outcome.lines[1].startswith("hint: --format json writes to stdout")
    assert not Path("-").exists()
    assert cli("inspect", "m.onnx", "--format", "none", "-o", "json=./-").code == 0
    assert Path("-").read_text().startswith("{")
