"""A short campaign of the fuzzer with a fixed seed, over the readers that need no PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench.fuzz import campaign, child
from bench.fuzz.canary import FIRED
from bench.fuzz.targets import TARGETS, Target

ROOT = Path(__file__).parents[2]
LIGHT = [name for name, target in TARGETS.items() if not target.torch]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_nothing_falls_out_of_a_short_campaign(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "bench.fuzz", "--files", "300", "--seed", "5"]
    command += ["--workers", "1", "--state", str(tmp_path), "--readers", *LIGHT]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.stdout == first.stdout  # all was done
    assert (
        f"| all | {sum(line['end'] - line['first'] for line in campaign.done(tmp_path))} | 0 |"
        in first.stdout
    )


def test_a_file_is_a_function_of_its_number() -> None:
    for name in LIGHT:
        seeds = TARGETS[name].seeds()
        files = [campaign.mutated(name, seeds, 0, number) for number in range(20)]
        assert files == [campaign.mutated(name, seeds, 0, number) for number in range(20)]
        assert len(set(files)) > 10


def test_every_ending_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself: each of the things that may not happen, made to happen."""
    monkeypatch.setattr(child, "_SECONDS", 0.3)
    endings = {
        "bug": "raise ZeroDivisionError",
        "traceback": "import sys; sys.exit('gone')",
        "signal": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "hang": "while True: pass",
        "memory": "bytearray(2**34)",
        "written": "open('made', 'w').close()",
        "canary": f"open({FIRED!r}, 'w').close()",
        "exit 2": "raise InputError('no')",
    }
    target = Target(lambda: {"m": b""}, ("{}",), ())

    def invoke(args: list[str]) -> int:
        from bnaudit.cli import commands
        from bnaudit.errors import InputError

        try:
            exec(Path(args[0]).read_text(), {"InputError": InputError})  # noqa: S102
        except Exception as error:
            code, message, _ = commands._told(error)
            sys.stderr.write(message)
            commands._trace(args)
            return code
        return 0

    monkeypatch.setattr("bnaudit.cli.commands.invoke", invoke)
    files = [("m", text.encode()) for text in endings.values()]
    assert [kind for kind, _ in child.children(target, files)] == list(endings)


def test_a_failure_is_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(_: Target, name: str, content: bytes) -> tuple[str, str]:
        assert name == "m.onnx"
        return ("bug", "here") if b"bad" in content else ("exit 2", "")

    monkeypatch.setattr(campaign, "judged", judged)
    path = tmp_path / "00-000001-m.onnx"
    path.write_bytes(bytes(1000) + b"bad" + bytes(77))
    assert campaign.minimised(path) == b"bad"
