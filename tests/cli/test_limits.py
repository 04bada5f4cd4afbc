"""--timeout and --max-memory: exit code 4, one line and its remedy, whatever the process is busy with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bnaudit.cli import limits
from tests.cli.conftest import MLP, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Outcome

    Cli = Callable[..., Outcome]

MODEL = str(MLP / "model.onnx")
SLOW = """
import time, torch
class Slow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = torch.nn.BatchNorm1d(4)
    def forward(self, x):
        {body}
        return self.bn(x)
"""
ARGS = ("check", "slow.py:Slow", "--input-shape", "8x4", "-q", "--format", "json")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "slow", raising=False)


def test_the_time_is_over_in_the_middle_of_an_audit(cli: Cli) -> None:
    """What was found so far is a document, as of every audit that stops."""
    Path("slow.py").write_text(SLOW.format(body="time.sleep(60)"))
    outcome = cli(*ARGS, "--timeout", "1")
    assert outcome.code == 4
    assert outcome.lines[0] == "error: not done within --timeout 1 (seconds)"
    assert outcome.lines[1].startswith("hint: raise it, or ask for less")
    assert outcome.document["failure"]["exit_code"] == 4


def test_no_handler_of_errors_takes_it_for_its_own(cli: Cli) -> None:
    body = (
        "\n        try:\n            time.sleep(60)\n        except Exception:\n            pass\n"
    )
    Path("slow.py").write_text(SLOW.format(body=body))
    assert cli(*ARGS, "--timeout", "1").code == 4


@pytest.mark.parametrize(
    ("body", "args"),
    [
        ("\n        while True:\n            try:\n                time.sleep(60)\n"
         "            except BaseException:\n                pass\n", ("--timeout", "2")),
        ("torch.nn.functional.conv1d(torch.ones(1, 1, 2**28), torch.ones(1, 1, 2**12))", ("--timeout", "2")),
        ("self.kept = [torch.ones(2**26) for _ in range(40)]", ("--max-memory", "1.5GB")),
    ],
)  # fmt: skip
def test_what_does_not_end_in_order_is_ended(body: str, args: tuple[str, ...]) -> None:
    Path("slow.py").write_text(SLOW.format(body=body))
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "bnaudit", *ARGS, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=60)
    assert done.returncode == 4
    assert args[0] in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("command", ["recalibrate", "init", "diff"])
def test_every_command_that_takes_long_has_them(cli: Cli, command: str) -> None:
    sleeping = "import time\ndef data():\n    time.sleep(60)\n    yield {}\n"
    Path("slow.py").write_text(sleeping)
    own = {"recalibrate": ("--dry-run",), "init": (MODEL,), "diff": (MODEL, "--run")}[command]
    outcome = cli(command, MODEL, *own, "--data", "slow.py:data", "-q", "--timeout", "2")
    assert outcome.code == 4
    assert outcome.lines[0] == "error: not done within --timeout 2 (seconds)"


@pytest.mark.parametrize("command", ["check", "inspect"])
def test_a_configuration_may_set_them(
    cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[object, object]] = []
    real = limits._watch

    def watch(*args: object) -> None:
        seen.append((args[1], args[3]))
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(limits, "_watch", watch)
    Path("bnaudit.yaml").write_text("timeout: 600\nmax-memory: 100GB\n")
    assert cli(command, MODEL, "-q", "--fail-on", "never").code == 0
    assert seen == [(600, 10**11)]
    for odd in ("timeout: 0\n", "max-memory: lots\n"):
        Path("bnaudit.yaml").write_text(odd)
        assert cli(command, MODEL).code == 2


def test_nothing_is_left_behind(cli: Cli) -> None:
    import signal
    import threading

    before = signal.getsignal(signal.SIGALRM), threading.active_count()
    assert cli("inspect", MODEL, "-q", "--timeout", "600", "--max-memory", "100GB").code == 0
    assert (signal.getsignal(signal.SIGALRM), threading.active_count()) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert 10**7 < limits.resident() < 10**11
