"""Every exit code, with what stdout and stderr hold beside it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from tests.cli.conftest import MLP, RESNET, ROOT
from tests.load.files import script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

MODEL, DATA = MLP / "model.onnx", MLP / "batch.npz"


def failed(outcome: Outcome, code: int) -> str:
    """Checks that a failure is an error line and a hint line, and gives the former."""
    assert outcome.code == code
    assert "Traceback" not in outcome.err
    assert outcome.lines[0].startswith("error: ")
    assert [line.split(": ")[0] for line in outcome.lines[1:]] in ([], ["hint"])
    return outcome.lines[0]


@pytest.mark.parametrize(
    "model", ["model.onnx", "static.onnx", "dynamo.onnx", "scripted.pt", "traced.pt"]
)
@pytest.mark.parametrize("folder", [MLP, RESNET])
def test_clean_is_0(cli: Callable[..., Outcome], folder: Path, model: str) -> None:
    outcome = cli("check", folder / model, "--data", folder / "batch.npz", "--batches", 2)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.verdict.startswith("PASS: ")


def test_findings_are_1(cli: Callable[..., Outcome]) -> None:
    few = ("check", MODEL, "--data", DATA, "--batch-size", 8, "--batches", 2)
    for level, code in (("error", 0), ("warning", 1), ("info", 1), ("never", 0)):
        outcome = cli(*few, "--fail-on", level, "--format", "json")
        assert (outcome.code, outcome.err) == (code, "")
        assert outcome.document["summary"]["exit_code"] == code
        assert [f["rule"] for f in outcome.document["findings"]] == ["BN102", "BN014"]
    assert cli(*few, "--fail-on", "warning").verdict.startswith("FAIL: ")


def test_findings_are_1_from_fail_on_and_nothing_measured_is_4(cli: Callable[..., Outcome]) -> None:
    few = ("check", MODEL, "--data", DATA, "--batch-size", 8, "--batches", 2)
    assert cli(*few).code == 0  # a warning
    assert cli(*few, "--fail-on", "warning").code == 1
    single = ("check", MODEL, "--data", DATA, "--batch-size", 1, "--batches", 2)
    assert cli(*single).code == cli(*single, "--fail-on", "never").code == 4
    told = cli(*single, "--format", "json").err
    assert told.startswith(
        "error: no BatchNorm layer could be measured (bn1: one value per channel"
    )
    assert "hint: audit with a larger --batch-size" in told


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Missing argument 'MODEL...'"),
        ([MODEL, "--bogus"], "No such option '--bogus'"),
        ([MODEL, "--mode", "train"], "'train' is not one of"),
        ([MODEL, "--batches", "0"], "'0' is neither a number of batches nor 'auto'"),
        ([MODEL, "--batch-size", "x"], "'x' is not a whole number of 1 or more"),
        ([MODEL, "--seed", "-1"], "-1 is not a whole number from 0 to 4294967295"),
        ([MODEL, "--seed", str(2**64)], "is not a whole number from 0 to"),
        ([MODEL, "--input-shape", "8xx30"], "'8xx30' is no shape"),
        ([MODEL, "--input-shape", "8x²"], "is no shape"),
        ([MODEL, "--input-shape", "0x30"], "'0x30' is no shape"),
        ([MODEL, "--verify-gradients", "some"], "neither a number of layers nor 'all'"),
        ([MODEL, "--verify-gradients", "²"], "neither a number of layers nor 'all'"),
        ([MODEL, "--fail-on", "fatal"], "'fatal' is not one of"),
        ([MODEL, "-o", "report.pdf"], "the suffix says no format (known: .txt, .json,"),
        ([MODEL, "-o", "/nowhere/report.json"], "cannot be written"),
        ([MODEL, "--input-shape", "8x30", "--input-shape", "4x30"], "given twice for the only input"),
        ([MODEL, "--input-shape", "x:8x30", "--input-shape", "x:8x30"], "twice for the input 'x'"),
        (["nosuch.onnx"], "nosuch.onnx: no such file"),
        ([DATA], "numpy arrays (.npz), not a model"),
        ([MLP / "state_dict.pt"], "is a PyTorch checkpoint file"),
        ([MODEL, "--device", "tpu"], "unknown device 'tpu'"),
        ([MODEL, "--device", "cuda:99"], "no device 'cuda:99' here"),
        ([MODEL, "--loss", "hubert"], "unknown loss 'hubert'"),
        ([MODEL, "--loss", "mse"], "the loss mse needs labels"),
        ([MODEL, "--labels", "y"], "labels without data"),
        ([MODEL, "--data", "nosuch.npz"], "nosuch.npz: no such file"),
        ([MODEL, "--metrics", ""], "'--metrics': an empty text says nothing"),
        ([MODEL, "--metrics", " , "], "' , ' names no metric"),
        ([MODEL, "--data", ""], "an empty text says nothing"),
        ([MODEL, "--data", MODEL], "is none of .npy, .npz, "),
        ([MODEL, "--data", RESNET / "batch.npz"], "x: has 4 dimensions"),
        ([MODEL, "--data", DATA, "--batch-size", 1000], "the data has 143 rows, fewer than 1 x 1000"),
        ([MODEL, "--data", DATA, "--loss", "mse"], "do not fit the model's output"),
        ([MODEL, "--data", DATA, "--input-shape", "8x30"], "the data has shapes of its own"),
        ([MLP / "scripted.pt"], "the shape of input 'x' is not in the model"),
        ([MODEL, "--input-shape", "8000000000000x30"], "no memory for 4 synthetic batches"),
    ],
)  # fmt: skip
def test_usage_and_input_errors_are_2(
    cli: Callable[..., Outcome], args: list[object], message: str
) -> None:
    outcome = cli("check", *args)
    assert message in failed(outcome, 2)
    assert outcome.out == ""


@pytest.mark.parametrize("model", ["folded.onnx"])
def test_nothing_to_audit_is_3(cli: Callable[..., Outcome], model: str) -> None:
    table = cli("check", MLP / model)
    assert table.code == 3
    assert table.verdict.startswith("NOTHING TO AUDIT (exit 3)")
    outcome = cli("check", MLP / model, "--format", "json")
    assert outcome.code == outcome.document["summary"]["exit_code"] == 3
    assert outcome.document["failure"] is None
    assert outcome.document["layers"] == []
    assert [f["rule"] for f in outcome.document["findings"]] == ["BN001"]
    never = cli("check", MLP / model, "--fail-on", "never")
    assert never.code == 3
    allowed = cli("check", MLP / model, "--allow-no-bn")
    assert allowed.code == 0
    assert allowed.verdict.startswith("PASS (--allow-no-bn)")


def test_what_cannot_be_run_is_4(cli: Callable[..., Outcome]) -> None:
    args = ("check", MLP / "scripted.pt", "--input-shape", "8x29")
    outcome = cli(*args)
    assert "cannot be run on inputs of shape 8x29" in failed(outcome, 4)
    assert outcome.out == ""
    outcome = cli(*args, "--format", "json")
    failure = outcome.document["failure"]
    assert outcome.document["summary"]["verdict"] == "failed"
    assert outcome.lines == [f"error: {failure['message']}", f"hint: {failure['hint']}"]
    assert outcome.code == failure["exit_code"] == 4


def test_a_model_without_gradients_is_4(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    class Argmax(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bn(x).argmax(1).float()

    path = script(Argmax().eval(), tmp_path / "m.pt")
    assert "no gradient flows" in failed(cli("check", path, "--input-shape", "8x4"), 4)


def test_a_report_without_measurements_is_4(cli: Callable[..., Outcome]) -> None:
    two = ("check", MODEL, "--data", DATA, "--batch-size", 2, "--batches", 2)
    outcome = cli(*two, "--format", "json")
    assert outcome.code == outcome.document["summary"]["exit_code"] == 4
    assert outcome.document["summary"]["measured"] == 0


def test_a_failure_after_loading_is_a_document_whatever_its_code(
    cli: Callable[..., Outcome],
) -> None:
    outcome = cli("check", MODEL, "--data", "nosuch.npz", "--format", "json")
    assert outcome.code == outcome.document["failure"]["exit_code"] == 2
    assert outcome.document["model"]["format"] == "onnx"
    failed(outcome, 2)
    before = cli("check", "nosuch.onnx", "--format", "json")
    assert (before.code, before.out) == (2, "")


def test_a_bug_is_70_and_asks_for_a_report(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("in\nbnaudit")

    monkeypatch.setattr("bnaudit.pipeline.audit_loaded", broken)
    outcome = cli("check", MODEL)
    assert failed(outcome, 70) == "error: bug in bnaudit: ZeroDivisionError: in bnaudit"
    assert "-vv" in outcome.lines[1]
    loud = cli("check", MODEL, "-vv")
    assert loud.code == 70
    assert "Traceback (most recent call last)" in loud.err


def test_an_interrupt_is_130(cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bnaudit.pipeline.audit_loaded", interrupt)
    outcome = cli("check", MODEL)
    assert (outcome.code, outcome.out, outcome.err.strip()) == (130, "", "interrupted")


def test_ctrl_c_in_a_terminal_is_130(tmp_path: Path) -> None:
    code = "import time\ndef slow():\n    open('started', 'w').close()\n    time.sleep(60)\n"
    (tmp_path / "slow.py").write_text(code)
    command = [sys.executable, "-m", "bnaudit", "check", str(MODEL), "--data", "slow.py:slow"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background is started with SIGINT ignored, which its children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509  # no threads
    ) as process:
        until = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip()) == (130, "", "interrupted")


@pytest.mark.parametrize("flags", [["-vv"], ["-v", "-v"], ["--verbose", "--verbose"], ["-vqv"]])
def test_a_traceback_is_for_those_who_ask(cli: Callable[..., Outcome], flags: list[str]) -> None:
    assert "Traceback" in cli("check", "nosuch.onnx", *flags).err
    assert "Traceback" not in cli("check", "nosuch.onnx", flags[0][:2]).err


def test_the_forgotten_command_is_guessed(cli: Callable[..., Outcome]) -> None:
    line = failed(cli("model.onnx", "--data", "x.npz"), 2)
    assert "did you mean `bnaudit check model.onnx`?" in line
    assert "no command 'chek'; did you mean `bnaudit check`?" in failed(cli("chek", "m.onnx"), 2)
    assert failed(cli("xyzzy"), 2) == "error: no command 'xyzzy'"


def test_no_arguments_show_the_help(cli: Callable[..., Outcome]) -> None:
    outcome = cli()
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("Usage: bnaudit")


def test_control_characters_do_not_reach_the_terminal(cli: Callable[..., Outcome]) -> None:
    outcome = cli("check", "no\x1b[31m\nsuch\udcff.onnx")
    assert failed(outcome, 2) == r"error: no\x1b[31m such\udcff.onnx: no such file"


def test_a_batch_with_nan_is_refused(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", x=np.full((32, 30), np.nan, np.float32))
    line = failed(cli("check", MODEL, "--data", tmp_path / "b.npz"), 2)
    assert re.search(r"b\.npz: x: holds NaN or infinite values \(row 0 and 31 more rows\)$", line)


def test_a_model_that_nan_stops_is_judged_by_what_it_stores(
    cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    import json

    norm = nn.BatchNorm1d(6)
    net = nn.Sequential(nn.Linear(4, 6), norm, nn.Linear(6, 3))
    with torch.no_grad():
        norm.weight[2] = float("nan")
    path = script(net.eval(), tmp_path / "nan.pt")
    outcome = cli("check", path, "--input-shape", "32x4", "--format", "json")
    failed(outcome, 4)
    document = json.loads(outcome.out)
    assert ("BN006", "1") in [(f["rule"], f["layer"]) for f in document["findings"]]
    assert "not finite" in document["failure"]["message"]
    table = cli("check", path, "--input-shape", "32x4")
    failed(replace(table, out=""), 4)
    assert "BN006 1: NaN or Inf: gamma in channel 2" in table.out
    assert "FAILED (exit 4)" in table.out
    # A slip of the keyboard is no reason for a page; a healthy file has none either way.
    np.savez(tmp_path / "b.npz", x=np.full((32, 4), np.nan, np.float32))
    stopped = cli("check", path, "--data", tmp_path / "b.npz")
    assert (stopped.code, "BN006" in stopped.out) == (2, True)
    healthy = cli("check", MODEL, "--data", tmp_path / "b.npz")
    assert (healthy.code, healthy.out) == (2, "")
