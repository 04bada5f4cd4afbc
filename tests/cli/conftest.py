"""Running the command line in this process or as its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bnaudit.cli import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
MLP = ROOT / "fixtures" / "tabular_mlp"
RESNET = ROOT / "fixtures" / "digits_resnet"


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Stdout as the one strict JSON document it has to be."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        return json.loads(self.out, parse_constant=refuse)

    @property
    def lines(self) -> list[str]:
        """Stderr's lines."""
        return self.err.splitlines()

    @property
    def verdict(self) -> str:
        """The last sentence of the table, which may run over several lines."""
        return " ".join(self.out.rsplit("\n\n", 1)[-1].split())


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """These networks are small: threads only wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """`cli("check", path, ...)` in this process, in a plain environment."""
    own = (name for name in os.environ if name.startswith("BNAUDIT_"))
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM", *own):
        monkeypatch.delenv(name, raising=False)

    def call(*args: object) -> Outcome:
        capsys.readouterr()
        code = run([str(a) for a in args])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


def shell(command: str, **env: str) -> Outcome:
    """A command line in bash, as its own process; $BN is bnaudit."""
    plain = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "NO_COLOR", "FORCE_COLOR"}}
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={
            **plain,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT / "src"),
            "BN": f"{sys.executable} -m bnaudit",
            **env,
        },
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
