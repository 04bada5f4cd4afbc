"""Ctrl-C at any moment, memory that runs out, libraries that cannot be imported: one line, never a bug."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import MLP, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Cli = Callable[..., Outcome]

MODEL = str(MLP / "model.onnx")
SLEEP = "import time\nfrom pathlib import Path\nPath('here').touch()\n"
IN_IMPORT = SLEEP + "time.sleep(60)\n"
SWALLOWED = (
    SLEEP + "try:\n    time.sleep(60)\nexcept BaseException:\n    pass\nraise RuntimeError\n"
)
IN_CALL = SLEEP.replace("Path('here')", "def net():\n    Path('here')") + "    time.sleep(60)\n"
LOST = SLEEP.replace("Path('here')", "def net():\n    Path('here')") + (
    "    try:\n        time.sleep(60)\n"
    "    except KeyboardInterrupt:\n        raise ValueError('lost') from None\n"
)
AT_EXIT = SLEEP.replace(
    "Path('here')", "import atexit\n@atexit.register\ndef end():\n    Path('here')"
) + ("    time.sleep(60)\ndef net():\n    raise ValueError('so')\n")


def start(path: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bnaudit", *args],
        cwd=path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(path / "lib"), str(ROOT / "src")))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def interrupted(process: subprocess.Popen[str], path: Path) -> tuple[int, str, str]:
    """What is left after one Ctrl-C, sent as soon as the file `here` is there."""
    while process.poll() is None and not (path / "here").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


@pytest.mark.parametrize("code", [IN_IMPORT, SWALLOWED])
@pytest.mark.parametrize("library", ["torch", "click"])
def test_inside_an_import(tmp_path: Path, code: str, library: str) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / f"{library}.py").write_text(code)
    process = start(tmp_path, "check", MODEL)
    assert interrupted(process, tmp_path) == (130, "", "interrupted\n")


@pytest.mark.parametrize("code", [IN_IMPORT, IN_CALL, LOST, AT_EXIT])
def test_inside_code_of_the_users_own(tmp_path: Path, code: str) -> None:
    (tmp_path / "file.py").write_text(code)
    process = start(tmp_path, "check", "file.py:net", "-q")
    status, _, err = interrupted(process, tmp_path)
    assert status == 130
    assert err.splitlines()[-1] == "interrupted"
    assert err.count("\n") == (3 if code == AT_EXIT else 1)  # its own error came before
    assert "Traceback" not in err


def test_one_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """Shells start background jobs so."""
    (tmp_path / "file.py").write_text(
        "import signal\nassert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
        "def net(): raise ValueError('on')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "bnaudit", "check", "file.py:net"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert done.returncode == 2
    assert "fails (ValueError: on)" in done.stderr


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "raise ImportError('libtorch.so: no such file')",
            "(ImportError: libtorch.so: no such file)",
        ),
        ("raise OSError('failed to map segment')", "(OSError: failed to map segment)"),
        ("import numpi", "cannot be imported (ModuleNotFoundError: No module named 'numpi')"),
    ],
)
def test_a_library_that_cannot_be_imported(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "torch.py").write_text(code)
    process = start(tmp_path, "check", MODEL)
    _, err = process.communicate()
    assert process.returncode == 4
    assert said in err
    assert err.splitlines()[0].startswith("error: torch cannot be") or "numpi cannot be" in err
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_memory_that_runs_out(cli: Cli, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("bnaudit.pipeline.audit_loaded", broken)
    outcome = cli("check", MODEL)
    assert outcome.code == 4
    assert outcome.lines[0] == "error: there is not enough memory for this"
    assert outcome.lines[1].startswith("hint: pass a smaller --batch-size")


def test_a_process_that_ends_tells_all(tmp_path: Path) -> None:
    """Its last step skips the modules' teardown, and nothing else."""
    (tmp_path / "file.py").write_text(
        "import atexit, sys\natexit.register(lambda: print('exit', file=sys.stderr, end=''))\n"
        "def net():\n    raise ValueError('so')\n"
    )
    process = start(tmp_path, "check", "file.py:net")
    _, err = process.communicate()
    assert process.returncode == 2
    assert err.endswith("exit")
    process = start(tmp_path, "inspect", MODEL, "--format", "json")
    out, _ = process.communicate()
    assert out.endswith("}\n")
