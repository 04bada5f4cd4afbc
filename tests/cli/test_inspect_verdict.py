"""What an inspection says last is the same in every format, and names the option that a pass rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import MLP, RESNET, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Cli = Callable[..., Outcome]

MODEL = MLP / "model.onnx"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ((MODEL,), "PASS: "),
        ((MODEL, "--fail-on", "info"), "FAIL: "),
        ((RESNET / "folded.onnx",), "NOTHING TO AUDIT (exit 3): "),
        ((RESNET / "folded.onnx", "--allow-no-bn"), "PASS (--allow-no-bn): "),
        ((RESNET / "folded.onnx", "--allow-no-bn", "--fail-on", "info"), "FAIL: "),
    ],
)
def test_every_format_has_the_verdict(cli: Cli, options: tuple[object, ...], word: str) -> None:
    verdict = cli("inspect", *options).verdict
    assert verdict.startswith(word)
    assert cli("inspect", *options, "--format", "github").out.endswith(f"\nbnaudit: {verdict}\n")
    escaped = verdict.replace("|", "\\|")
    assert f"**{escaped}**" in cli("inspect", *options, "--format", "markdown").out


def test_a_pass_that_rests_on_a_baseline(cli: Cli, tmp_path: Path) -> None:
    accepted = tmp_path / "accepted.json"
    assert cli("inspect", MODEL, "--format", "none", "-o", accepted).code == 0
    outcome = cli("inspect", MODEL, "--fail-on", "info", "--baseline", accepted)
    assert outcome.code == 0
    assert outcome.verdict.startswith("PASS (--baseline): 3 BatchNorm layers read")
    assert outcome.verdict.endswith("0 new, 0 worse, 1 known")
    assert "seems to be of another" not in outcome.out


def test_a_baseline_of_another_model_is_noted(cli: Cli, tmp_path: Path) -> None:
    accepted = tmp_path / "accepted.json"
    cli("inspect", RESNET / "dynamo.onnx", "--layers", "layer*", "-o", accepted)
    outcome = cli("inspect", MODEL, "--baseline", accepted)
    assert "no layer of the baseline is in this model" in " ".join(outcome.out.split())
