"""`file.py:function` for --data and --loss: the user's own code, and every way it can fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import MLP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

MODEL = MLP / "model.onnx"
CODE = """
import numpy as np
import torch
from helper import ROWS

print("imported")

def array():
    print("called")
    return np.zeros((ROWS, 30), np.float32) + np.arange(30, dtype=np.float32) * np.arange(ROWS)[:, None]

def pairs():
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(16, 30, generator=generator)
        yield x, (x[:, 0] > 0).long()

def mappings():
    for x, y in pairs():
        yield {"x": x.numpy(), "target": y.numpy()}

def broken():
    raise RuntimeError("out of\\ncoffee")

def halfway():
    yield next(pairs())
    raise RuntimeError("out of tea")

def nothing():
    pass

def leaves():
    raise SystemExit(0)

def wrong():
    return torch.zeros(8, 29)

def loss(output, labels):
    return torch.nn.functional.cross_entropy(output, labels, label_smoothing=0.1)

def number(output, labels):
    return 1.0

VALUE = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("ROWS = 40\n")
    (tmp_path / "own_code.py").write_text(CODE)
    return tmp_path / "own_code.py"


@pytest.mark.parametrize(
    ("function", "batches", "size", "extra"),
    [
        ("array", 1, 32, []),
        ("pairs", 3, 16, []),
        ("pairs", 2, 16, ["--batches", "2"]),
        ("mappings", 3, 16, ["--labels", "target"]),
    ],
)
def test_data_from_a_function(
    cli: Callable[..., Outcome], own: Path, function: str, batches: int, size: int, extra: list[str]
) -> None:
    outcome = cli("check", MODEL, "--data", f"{own}:{function}", *extra, "--format", "json")
    assert outcome.code in {0, 1}
    data = outcome.document["run"]["data"]
    assert (data["batches"], data["batch_size"]) == (batches, size)
    labelled = function != "array"
    assert outcome.document["run"]["loss"]["name"] == ("cross_entropy" if labelled else "noise_mse")


def test_a_loss_from_a_function(cli: Callable[..., Outcome], own: Path) -> None:
    outcome = cli(
        "check", MODEL, "--data", MLP / "batch.npz", "--loss", f"{own}:loss", "--format", "json"
    )
    assert outcome.code == 0
    assert outcome.document["run"]["loss"]["name"] == "loss"
    assert outcome.document["run"]["loss"]["why"] == "given by the user"


@pytest.mark.parametrize(
    ("option", "function", "message"),
    [
        ("--data", "broken", "fails (RuntimeError: out of coffee)"),
        ("--data", "halfway", "the iterable failed after 1 batches (RuntimeError: out of tea)"),
        ("--data", "nothing", "returns nothing"),
        ("--data", "leaves", "fails (SystemExit: 0)"),
        ("--data", "wrong", "x: dimension 1 is 29"),
        ("--data", "nosuch", "has no function 'nosuch'"),
        ("--data", "VALUE", "has no function 'VALUE'"),
        ("--loss", "number", "the loss number returned no scalar tensor (float)"),
        ("--loss", "loss", "the loss loss failed (TypeError"),
    ],
)
def test_failures_are_told_as_the_users_own(
    cli: Callable[..., Outcome], own: Path, option: str, function: str, message: str
) -> None:
    outcome = cli("check", MODEL, option, f"{own}:{function}")
    assert (outcome.code, outcome.out) == (2, "")
    error = [line for line in outcome.lines if line.startswith("error: ")]
    assert len(error) == 1
    assert message in error[0]
    assert "bug in bnaudit" not in outcome.err


def test_files_that_do_not_import(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    for name, code in (("syntax", "def f(:"), ("leaving", "raise SystemExit(0)"), ("bad", "1 / 0")):
        (tmp_path / f"{name}.py").write_text(code)
        outcome = cli("check", MODEL, "--data", f"{tmp_path / name}.py:f")
        assert outcome.code == 2
        assert "fails to import" in outcome.lines[0]
    assert "no such file" in cli("check", MODEL, "--data", "nosuch.py:f").lines[0]


def test_a_function_is_the_only_data(cli: Callable[..., Outcome], own: Path) -> None:
    outcome = cli("check", MODEL, "--data", MLP / "batch.npz", "--data", f"{own}:array")
    assert outcome.code == 2
    assert "cannot be joined with other data" in outcome.err
