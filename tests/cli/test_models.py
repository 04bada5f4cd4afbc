"""`check` on everything that can be named: files, factories, weights, and values on the command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from tests.cli.conftest import MLP, ROOT, shell
from tests.load.files import export, script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

FAST = ("--metrics", "first_order", "--batches", "1")


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(30)

    def forward(self, x: Tensor, scale: float, mode: str = "plain") -> Tensor:
        y: Tensor = self.bn(x) * scale
        return y if mode == "plain" else -y


def failed(outcome: Outcome, code: int = 2) -> tuple[str, str]:
    assert outcome.code == code
    error, hint = outcome.lines
    assert (error[:7], hint[:6]) == ("error: ", "hint: ")
    assert "Traceback" not in outcome.err
    return error, hint


def test_an_exported_program_needs_trust(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(30, 8), nn.BatchNorm1d(8)).eval()
    path = export(net, tmp_path / "m.pt2", torch.randn(24, 30))
    error, hint = failed(cli("check", path, *FAST))
    assert "can run code out of it" in error
    assert "--trust" in hint
    table = cli("check", path, "--trust", *FAST)
    assert table.code == 0
    assert "the example inputs inside the file, not your data: 1 batch of 24" in table.out
    outcome = cli("check", path, "--trust", *FAST, "--format", "json")
    assert outcome.document["run"]["data"]["source"] == "example"
    assert outcome.document["model"]["format"] == "exported"


def test_a_factory_with_weights(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    args = ("--weights", MLP / "state_dict.pt", "--data", MLP / "batch.npz", *FAST)
    outcome = cli("check", "fixtures.nets:TabularMlp", *args, "--format", "json")
    wanted = cli("check", MLP / "scripted.pt", *args[2:], "--format", "json")
    assert outcome.code == wanted.code == 0
    assert outcome.document["model"]["path"] == "fixtures.nets:TabularMlp"
    for layer, other in zip(outcome.document["layers"], wanted.document["layers"], strict=True):
        assert layer["name"] == other["name"]
        assert layer["first_order"]["measured"]["median"] == pytest.approx(
            other["first_order"]["measured"]["median"], rel=1e-5
        )


def test_the_command_that_a_checkpoint_asks_for_works(tmp_path: Path) -> None:
    """In a folder of its own, as the installed command runs: nothing but the code beside it."""
    (tmp_path / "my nets.py").write_text((ROOT / "fixtures" / "nets.py").read_text())
    (tmp_path / "w s.pt").write_bytes((MLP / "state_dict.pt").read_bytes())
    asked = shell(f"cd '{tmp_path}' && $BN check 'w s.pt'")
    assert asked.code == 2
    command = asked.lines[1].split("hint: ")[1].split("bnaudit ")[1].split(";")[0]
    assert command == "check package.module:factory --weights 'w s.pt'"
    command = command.replace("package.module:factory", "'my nets.py:TabularMlp'")
    done = shell(f"cd '{tmp_path}' && $BN {command} --input-shape 24x30 -m first_order -q")
    assert (done.code, done.err) == (0, "")
    assert "3 of 3 defined layers executed" in done.out


def test_arguments_of_a_factory_are_typed(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    code = (
        "import torch\n"
        "def make(width, flag, names, rate, nothing):\n"
        "    assert (flag, names, rate, nothing) == (True, ['a', 'b'], 0.001, None)\n"
        "    print('made')\n"
        "    return torch.nn.BatchNorm1d(width)\n"
    )
    (tmp_path / "made_here.py").write_text(code)
    given = ["width=30", "flag=true", "names=[a, b]", "rate=1e-3", "nothing=none"]
    args = [part for text in given for part in ("--arg", text)]
    outcome = cli(
        "check", tmp_path / "made_here.py:make", *args, "--input-shape", "24x30", *FAST,
        "--format", "json",
    )  # fmt: skip
    sys.modules.pop("made_here", None)
    assert outcome.code == 0
    assert outcome.document["layers"][0]["channels"] == 30  # and what it printed is not in there


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (["--arg", "width"], "'width' has no name", "--help"),
        (["--arg", "=3"], "'=3' has no name", "--help"),
        (["--arg", "a=1", "--arg", "a=2"], "--arg is given twice for 'a'", ""),
        (["--arg", "a=[1"], "'[1' cannot be read", ""),
        (["--input", "x"], "'x' has no name", "--help"),
        (["--input", "x=1", "--input", "x=2"], "--input is given twice for 'x'", ""),
        (["--arg", "a=1"], "arguments of a factory for a model that has its own", "--weights"),
        (["--weights", "w.pt"], "weights for a model that has its own", "--weights"),
    ],
)
def test_options_that_cannot_be_meant(
    cli: Callable[..., Outcome], args: list[str], error: str, hint: str
) -> None:
    found, help_line = failed(cli("check", MLP / "model.onnx", *args))
    assert error in found
    assert hint in help_line


def test_values_of_a_scripted_model(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    path = script(Scaled().eval(), tmp_path / "m.pt")
    shape = ("--input-shape", "24x30")
    error, hint = failed(cli("check", path, *shape, *FAST))
    assert "needs a value for its argument 'scale' (float)" in error
    assert "--input scale=VALUE" in hint
    outcome = cli("check", path, *shape, *FAST, "--input", "scale=2", "--input", "mode=1")
    assert outcome.code == 0
    assert 'given      scale=2.0, mode="1"' in outcome.out
    document = cli("check", path, *shape, *FAST, "--input", "scale=2", "--format", "json").document
    assert document["run"]["inputs"] == {"scale": 2.0}
    error, hint = failed(cli("check", path, *shape, "--input", "scale=2", "--input", "mod=1"))
    assert "did you mean 'mode'?" in error


def test_a_file_with_a_colon_in_its_name(
    cli: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").write_bytes((MLP / "model.onnx").read_bytes())
    assert cli("check", "a:b", *FAST).code == 0
    error, _ = failed(cli("check", "a:c"))
    assert "no Python module 'a' is installed or in this folder" in error
    error, _ = failed(cli("check", "nets.py"))
    assert "no such file" in error
    (tmp_path / "nets.py").write_text("x = 1\n")
    assert "nets.py:FACTORY" in failed(cli("check", "nets.py"))[1]


def test_traceback_of_a_factory_for_those_who_ask(
    cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "bad_here.py").write_text("def make():\n    raise ValueError('deep inside')\n")
    text = f"{tmp_path / 'bad_here.py'}:make"
    assert "deep inside" in failed(cli("check", text))[0]
    assert "line 2, in make" in cli("check", text, "-vv").err
    sys.modules.pop("bad_here", None)


def test_an_argument_that_makes_the_model_fail_is_named_in_the_hint(
    cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor, pieces: int) -> torch.Tensor:
            return self.bn(x).reshape(pieces, -1)

    torch.jit.script(Cut().eval()).save(str(tmp_path / "cut.pt"))
    for given, code in (("3", 4), ("4", 0)):
        outcome = cli(
            "check", tmp_path / "cut.pt", "--input-shape", "8x4", "--input", f"pieces={given}",
            "--fail-on", "never",
        )  # fmt: skip
        assert outcome.code == code
        assert ("hint: check --data, --input pieces against" in outcome.err) == (given == "3")
