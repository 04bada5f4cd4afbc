"""The engine of a Ray cluster, on a real local one: `make test-ray`, which installs the extra `fleet`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bnaudit.fleet import on_ray
from bnaudit.fleet.engine import Ended, Job, Plan, Task
from bnaudit.fleet.results import Results
from tests.cli.conftest import MLP, ROOT

from .targets import TARGET
from .test_local import alive, tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    """Workers import the tests' targets, as they would an installed package."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    yield
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def ran(given: list[Task], **options: Any) -> dict[str, Any]:
    found = list(on_ray.results(given, Job(TARGET, options, {}), Plan(jobs=2)))
    assert sorted(result.task.entry for result in found) == sorted(task.entry for task in given)
    return {result.task.model: result for result in found}


def test_ends_of_all_kinds_are_told_and_died_workers_are_made_anew() -> None:
    given = tasks("a", "exit 7", "signal SIGSEGV", "once", "actor", "b")
    found = ran([*given, Task("hang", "hang", {"timeout": 1})])
    payloads = {name: result.payload for name, result in found.items()}
    assert payloads["a"][0] == payloads["b"][0] == "done"
    assert payloads["a"][2] != os.getpid()
    assert payloads["once"] == payloads["actor"] == ("tried again", 2)
    ends = {n: p.outcome for n, p in payloads.items() if isinstance(p, Ended)}
    assert ends == {"exit 7": "crashed", "signal SIGSEGV": "crashed", "hang": "timeout"}
    assert not ray.is_initialized()


def test_a_worker_that_always_dies_is_a_row() -> None:
    (result,) = ran(tasks("actor always")).values()
    assert (result.payload.outcome, result.task.attempt) == ("killed", 3)
    assert "its Ray worker died" in result.payload.reason


def fleet(*args: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bnaudit", "fleet", *args, "-m", "first_order", "--no-config"]
    command += ["-q", "--input-shape", "8x30", "--engine", "ray", "--jobs", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **{**pipes, **options})


def rows(path: str) -> dict[str, Any]:
    found = {}
    for line in Path(path).read_text().splitlines():
        row = json.loads(line)
        assert row["model"] not in found
        found[row["model"]] = row
    return found


def test_rows_are_those_of_the_local_engine_and_a_killed_driver_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for n in range(6):
        shutil.copy(MLP / "model.onnx", f"m{n}.onnx")
    process = fleet("*.onnx")
    deadline = time.monotonic() + 200
    while not Path("fleet.jsonl").exists() or not Path("fleet.jsonl").stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert 1 <= len(Results(Path("fleet.jsonl"), write=False).places) < 6
    out, err = fleet("*.onnx").communicate(timeout=200)
    assert err == ""
    assert "6 of 6 done" in out
    own = rows("fleet.jsonl")
    fleet("*.onnx", "--engine", "local", "--results", "l.jsonl").communicate(timeout=200)
    local = rows("l.jsonl")
    told = ("outcome", "summary", "layers", "findings", "settings", "files", "entry", "options")
    for model, row in local.items():
        assert {key: own[model][key] for key in told} == {key: row[key] for key in told}


def test_files_that_a_worker_lacks_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(MLP / "model.onnx", "m.onnx")
    real = on_ray.needed
    # To the worker every file has another size: as if another file were there.
    monkeypatch.setattr(
        on_ray, "needed", lambda *args: [f._replace(size=f.size + 1) for f in real(*args)]
    )
    from bnaudit.cli import run

    options = [
        "--no-config",
        "-m",
        "first_order",
        "--no-progress",
        "--format",
        "none",
        "--jobs",
        "1",
    ]
    data = str(MLP / "batch.npz")
    assert run(["fleet", "m.onnx", "--data", data, *options, "--engine", "ray"]) == 0
    assert run(["fleet", "m.onnx", "--data", data, *options, "--results", "l.jsonl"]) == 0
    sent, own = rows("fleet.jsonl")["m.onnx"], rows("l.jsonl")["m.onnx"]
    for key in ("outcome", "summary", "layers", "findings", "options", "entry", "settings"):
        assert sent[key] == own[key]
    assert [(f["path"], f["sha256"]) for f in sent["files"]] == [
        (f["path"], f["sha256"]) for f in own["files"]
    ]
    assert not list(Path("/tmp").glob("bnaudit-*/relative"))  # noqa: S108


def test_ctrl_c_ends_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        "import os, pathlib, time\n\ndef hang():\n"
        "    pathlib.Path('pid').write_text(str(os.getpid()))\n    time.sleep(600)\n"
    )
    process = fleet("nets.py:hang", start_new_session=True)
    deadline = time.monotonic() + 200
    while not Path("pid").exists() or not Path("pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int(Path("pid").read_text())
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.splitlines()[-1]) == (130, "", "interrupted")
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(pid)
