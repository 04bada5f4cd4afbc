"""Inputs that are prepared otherwise than in training: the first layers tell how, without labels."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bench.preparation import CAUSES, audited, healthy, inputs, told
from torch import Tensor, nn

from bnaudit.data.preprocessing import after, elsewhere, fitted, plain, standardised

if TYPE_CHECKING:
    from bnaudit.records.report import Report

COUNTED = [(name, cause.nets[0]) for name, cause in CAUSES.items()]
"""The others: python -m bench.preparation."""


def test_at_least_nine_of_ten_are_told_what_was_done() -> None:
    missed = [(name, net) for name, net in COUNTED if not told(CAUSES[name], net)]
    assert len(COUNTED) >= 15
    assert len(missed) <= len(COUNTED) / 10, missed


@pytest.mark.parametrize(
    "net", ["conv", "tabular", "raw_features", "sequence", "autoencoder", "colour", "raw", "last"]
)
def test_nothing_is_told_of_inputs_as_in_training(net: str) -> None:
    module, x = healthy(net)
    assert audited(module, x).preparation == ()
    noisy = tuple(part + 0.05 * part.std() * torch.randn_like(part) for part in x)
    assert audited(module, noisy).preparation == ()


def stale(net: nn.Module) -> nn.Module:
    """The first layer's statistics of other weights, signs at random."""
    norm = next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    draw = torch.Generator().manual_seed(1)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean += norm.running_var.sqrt() * torch.randn(norm.num_features, generator=draw)
    norm.running_var *= torch.exp(torch.randn(norm.num_features, generator=draw))
    return net


def halved(net: nn.Module) -> nn.Module:
    """All weights: the first layer alone would look like inputs of half the size."""
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            m.weight.data /= 2
    return net


@pytest.mark.parametrize("change", [stale, halved])
@pytest.mark.parametrize("net", ["conv"])
def test_statistics_of_other_weights_are_no_other_inputs(net: str, change: object) -> None:
    module, x = healthy(net)
    report = audited(change(copy.deepcopy(module)), x)  # type: ignore[operator]
    assert any(f.rule in {"BN201", "BN202"} for f in report.findings)
    assert report.preparation == ()


def drift_of(report: Report) -> str:
    (finding,) = [f for f in report.findings if f.rule in {"BN201", "BN202"}]
    return f"{finding.message}\n{finding.fix}"


def test_the_finding_has_the_cause_how_much_it_explains_and_code() -> None:
    module, (x,) = healthy("raw")
    said = drift_of(audited(module, (255 * x,)))
    assert (
        "these inputs are 255 times those of training (explains 100% of the drift of the first"
        in said
    )
    assert said.endswith(
        "divide the inputs of the deployed network by 255, as training had them: x = x / 255"
    )


def test_each_input_of_several_by_its_own_layers() -> None:
    module, _ = healthy("both")
    (x, table), _ = inputs("both", 128, 1)
    (evidence,) = audited(module, (255 * x, table)).preparation
    assert (evidence.inputs, evidence.cause) == (("image",), "inputs-scaled")
    assert evidence.layers[0] == "image.bn1"
    raw = table * torch.arange(1, 7) + torch.arange(6)
    found = audited(module, (x.flip(1), raw)).preparation
    assert [(e.inputs, e.cause) for e in found] == [
        (("image",), "channels-reversed"),
        (("table",), "inputs-not-standardised"),
    ]


class Pixels(nn.Module):
    """A network that takes bytes, and divides them itself."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x.float() / 255)
        return out


def test_bytes_whose_colours_are_reversed() -> None:
    module, (x,) = healthy("raw")
    pixels = (255 * x).round().to(torch.uint8)
    assert audited(Pixels(module), (pixels,)).preparation == ()
    (evidence,) = audited(Pixels(module), (pixels.flip(1),)).preparation
    assert (evidence.cause, evidence.code) == ("channels-reversed", "x = x.flip(1)")


@pytest.mark.parametrize(
    "shape", [(4, 3, 5, 5), (4, 5, 6, 3), (4, 3, 4, 6), (4, 6, 6), (4, 3, 5), (4, 7)]
)
def test_the_code_is_what_was_tried(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    mean, std = (
        f(x, [d for d in range(x.dim()) if d != 1], keepdim=True) for f in (torch.mean, torch.std)
    )
    values = [*plain(x), fitted(1, 255.04, 0.0), fitted(-1, 2.0, 0.5), fitted(1, 1.0, -0.75)]
    moves = list(elsewhere(x))
    for preparation in (*values, *moves, *(after(m, v) for m in moves for v in values[:3])):
        known: dict[str, Any] = {"x": x, "torch": torch, "mean": mean, "std": std}
        exec(preparation.code, known)  # noqa: S102  # the code that a user would paste
        assert torch.allclose(known["x"], preparation.apply(x), atol=1e-5), preparation.code
    for preparation in standardised(x):
        y = preparation.apply(x)
        assert float(y.mean().abs()) < 1e-5
        assert "mean" in preparation.code
