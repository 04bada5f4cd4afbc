"""What the commands write on the shipped networks, place by place; numbers differ between machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.golden import documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Outcome

MLP = "fixtures/tabular_mlp"
DATA = ("--data", f"{MLP}/batch.npz")
RUNS = {
    "check": ("check", f"{MLP}/model.onnx", *DATA, "--metrics", "all", "--verify",
              "--verify-gradients", "1", "--verify-second-order", "1"),
    "check_synthetic": ("check", f"{MLP}/traced.pt", "--input-shape", "8x30"),
    "check_running": ("check", f"{MLP}/scripted.pt", *DATA, "--mode", "running"),
    "diff_audits": ("diff", f"{MLP}/model.onnx", f"{MLP}/scripted.pt", *DATA, "--metrics", "first_order"),
    "init": ("init", f"{MLP}/start.pt", f"{MLP}/model.onnx", *DATA),
}  # fmt: skip
READ = {
    "inspect": ("inspect", f"{MLP}/model.onnx"),
    "inspect_folded": ("inspect", "fixtures/digits_resnet/folded.onnx"),
    "diff_models": ("diff", f"{MLP}/start.pt", f"{MLP}/state_dict.pt"),
}  # fmt: skip
CHANNELS = {"check", "inspect"}


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("name", [*RUNS, *READ])
def test_run(cli: Callable[..., Outcome], name: str, channels: bool) -> None:
    if channels and name not in CHANNELS:
        return
    command = {**RUNS, **READ}[name]
    ran = cli(*command, *(["--channels"] if channels else []), "--format", "json")
    golden = f"run_{name}{'_channels' if channels else ''}"
    documents.check(golden, ran.out, exact=name in READ)
