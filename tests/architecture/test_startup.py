"""Commands without a framework feel instant: processor time here, for busy machines; wall time in `bench`."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.startup import COMMANDS, processor_seconds

LENIENT = 0.25


@pytest.fixture(autouse=True)
def _source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_starts_quickly(name: str) -> None:
    best = float("inf")
    for _ in range(8):
        best = min(best, processor_seconds(COMMANDS[name]))
        if best <= LENIENT:
            return
    pytest.fail(f"the best of 8 runs took {best:.2f} s")
