"""Commands without a framework feel instant: processor time here, for busy machines; wall time in `bench`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench.startup import COMMANDS, processor_seconds

LENIENT = 0.35


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


FIXTURES = Path(__file__).parents[2] / "fixtures"
WITHOUT_SYMPY = """
import sys
from bnaudit.cli import run
try:
    run(sys.argv[1:])
except SystemExit:
    pass
heavy = ("sympy", "torch.fx.experimental.symbolic_shapes", "torch._dynamo", "torch._inductor")
print("imported:", *[name for name in heavy if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("options", [[], ["--channels"]], ids=["default", "channels"])
@pytest.mark.parametrize(
    "file", ["tabular_mlp/model.onnx", "tabular_mlp/scripted.pt", "digits_resnet/traced.pt"]
)
def test_a_check_imports_no_symbolic_algebra(file: str, options: list[str]) -> None:
    """PyTorch's own checks of shapes bring sympy along, 480 modules and a fifth of the start."""
    path = FIXTURES / file
    data = path.with_name("batch.npz")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SYMPY, "check", path, "--data", data, *options],
        check=False,
        capture_output=True,
        text=True,
    )
    assert "theory and autograd agree" in " ".join(done.stdout.split()), done.stderr
    assert done.stderr.strip().splitlines()[-1] == "imported:", done.stderr
