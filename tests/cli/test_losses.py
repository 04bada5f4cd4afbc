"""Losses, their options and targets from the command line, a configuration and the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.conftest import MLP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.cli.conftest import Outcome

FAST = ("--metrics", "first_order", "--format", "json")
CODE = """
import torch
BOXES = [{"boxes": torch.rand(n, 4)} for n in (1, 3, 0, 2)]
def data():
    for seed in range(2):
        x = torch.randn(4, 30, generator=torch.Generator().manual_seed(seed))
        yield {"x": x, "target": BOXES, "file": "a.png"}
def loss(outputs, batch):
    assert batch["file"] == "a.png"
    rows = [outputs[i, :1].expand(len(t["boxes"])) - t["boxes"].sum(1) for i, t in enumerate(batch["target"])]
    return torch.cat(rows).square().mean()
def smooth(output, labels, share=0.0):
    return torch.nn.functional.cross_entropy(output, labels, label_smoothing=share)
"""


def test_from_the_command_line(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    code = tmp_path / "boxes.py"
    code.write_text(CODE)

    outcome = cli(
        "check", MLP / "model.onnx", "-d", f"{code}:data", "--loss", f"{code}:loss", *FAST
    )
    assert outcome.code == 0, outcome.err
    assert outcome.document["run"]["loss"]["name"] == "loss"
    base = ("check", MLP / "model.onnx", "-d", MLP / "batch.npz", *FAST)
    named = cli(*base, "--loss-option", "label_smoothing=0.1").document["run"]["loss"]
    own = cli(*base, "--loss", f"{code}:smooth", "--loss-option", "share=0.1").document["run"][
        "loss"
    ]
    assert named["value"] == own["value"]
    assert named["options"] == {"label_smoothing": 0.1}
    refused = cli(*base, "--loss", "hubr")
    assert refused.code == 2
    assert "did you mean 'huber'?" in refused.err


def test_options_of_the_loss_in_a_file_and_in_the_environment(
    cli: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ("check", MLP / "model.onnx", "-d", MLP / "batch.npz", *FAST)
    typed = cli(*base, "--loss-option", "class_weights=[1, 3.5]").document["run"]["loss"]
    assert typed["options"] == {"class_weights": [1.0, 3.5]}
    (tmp_path / "bnaudit.yaml").write_text("loss-options:\n  class_weights: [1, 3.5]\n")
    assert cli(*base).document["run"]["loss"] == typed
    (tmp_path / "bnaudit.yaml").unlink()
    monkeypatch.setenv("BNAUDIT_LOSS_OPTION", "'class_weights=[1, 3.5]'")
    assert cli(*base).document["run"]["loss"] == typed


def test_what_has_no_meaning_ends_with_one_line(cli: Callable[..., Outcome]) -> None:
    base = ("check", MLP / "model.onnx", "-d", MLP / "batch.npz", *FAST)
    for option, message in (
        (("--loss-option", "ignore_index"), "write it like ignore_index=255"),
        (("--loss-option", "ignore=3"), "the loss cross_entropy has no option 'ignore'"),
        (("--loss-output", "nosuch"), "the model has no output 'nosuch'"),
        (("--loss", "mse"), "do not fit the model's output"),
    ):
        outcome = cli(*base, *option)
        assert outcome.code == 2
        assert message in outcome.err
