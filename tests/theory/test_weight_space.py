"""Weight space against explicit matrices, on layers of every kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bnaudit.measure.weight_space.bound import weight_gradients, weight_space
from bnaudit.measure.weight_space.spectral import spectral_norms
from bnaudit.measure.weight_space.unfolded import UnfoldedProduct
from bnaudit.records.values import Skipped
from tests.theory.weight_space_reference import OneLayer, define, numbers, only, run

if TYPE_CHECKING:
    from collections.abc import Callable

CONV: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.Module]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, Tensor, int]:
    """A convolution of any kind, an input that fits, and its number of groups."""
    rank = draw(st.integers(1, 3))

    def sizes(low: int, high: int) -> Any:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    groups = draw(st.integers(1, 3))
    inputs, outputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    options: dict[str, Any] = {
        "kernel_size": sizes(1, 3),
        "stride": sizes(1, 2),
        "dilation": sizes(1, 2),
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    transposed = draw(st.booleans())
    mode = (
        "zeros"
        if transposed
        else draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    )
    padding = sizes(0, 1)
    options |= {"padding": padding, "padding_mode": mode}
    if transposed:
        room = zip(options["stride"], options["dilation"], strict=True)
        extra = [draw(st.integers(0, max(pair) - 1)) for pair in room]
        options["output_padding"] = tuple(extra)
    elif mode == "zeros" and set(options["stride"]) == {1} and draw(st.booleans()):
        options["padding"] = "same"
    torch.manual_seed(draw(st.integers(0, 10**6)))
    layer = (TRANSPOSED if transposed else CONV)[rank](inputs, outputs, **options).double()
    x = torch.randn(draw(st.integers(3, 5)), inputs, *sizes(5, 6), dtype=torch.float64)
    return layer, torch.relu(x) if draw(st.booleans()) else x, groups


def assert_matches(layer: nn.Module, x: Tensor, groups: int = 1) -> None:
    net = OneLayer(layer, x)
    expected = define(net, x, groups)
    assert expected.measured.allclose(expected.adjoint, rtol=1e-10, atol=1e-14)
    space = only(run(net, x))
    assert numbers(space) == pytest.approx(expected.numbers, rel=1e-6)
    found = numbers(space)
    for exact in ("grad_norm", "weight_ratio", "projection"):
        assert found[exact] == pytest.approx(expected.numbers[exact], rel=1e-10), exact
    assert space.violations == 0
    assert isinstance(space.residual, float)
    assert space.residual <= 1e-10 == space.tolerance
    assert space.feeder == f"{type(layer).__name__} layer.weight"


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(convolutions())
def test_convolutions_match_explicit_matrices(case: tuple[nn.Module, Tensor, int]) -> None:
    layer, x, groups = case
    with torch.no_grad():
        image = layer(x)
    assume(image.numel() // image.shape[1] >= 8)
    assert_matches(layer, x, groups)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("width", [1, 2])
def test_depthwise(transposed: bool, width: int) -> None:
    torch.manual_seed(0)
    cls = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = cls(4, 4 * width, 3, stride=2, padding=1, groups=4).double()
    assert_matches(layer, torch.randn(5, 4, 7, 6, dtype=torch.float64), groups=4)


CUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "chomp": lambda y: y[..., :-2],
    "middle": lambda y: y[:, :, 1:-1, 1:-1],
    "every second": lambda y: y[:, :, ::2, 1::2],
    "narrow": lambda y: y.narrow(2, 0, 3),
    "negative padding": lambda y: F.pad(y, (-1, 0, 0, -2)),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("base", "groups"), [(nn.Conv2d, 1), (nn.Conv2d, 2), (nn.ConvTranspose2d, 2)]
)
def test_a_crop_leaves_out_rows_of_u(base: type[nn.Module], groups: int, cut: str) -> None:
    """The bound is that of the positions that the BatchNorm reads, which is smaller than the whole one."""
    torch.manual_seed(2)

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return CUTS[cut](base.forward(self, x))

    layer = type(base.__name__, (base,), {"forward": forward})(4, 6, 3, groups=groups)
    assert_matches(layer.double(), torch.randn(5, 4, 7, 8, dtype=torch.float64), groups=groups)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(4, 12),
    inputs=st.integers(1, 14),
    outputs=st.integers(1, 5),
    bias=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_linear_layers_match_explicit_matrices(
    rows: int, inputs: int, outputs: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = nn.Linear(inputs, outputs, bias=bias).double()
    assert_matches(layer, torch.randn(rows, inputs, dtype=torch.float64))


class Sequence(nn.Module):
    """A fully connected layer along the last axis of (N, L, d), written in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.weight = nn.Parameter(torch.randn(4, 6, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "linear":
            return nn.functional.linear(x, self.weight, self.bias).transpose(1, 2)
        if self.how == "linear without bias":
            return nn.functional.linear(x, self.weight).transpose(1, 2)
        if self.how == "right product":
            return (x @ self.weight.T + self.bias).permute(0, 2, 1).contiguous()
        if self.how == "left product":
            return self.weight @ x.transpose(1, 2) + self.bias[:, None]
        assert self.how == "einsum"
        return torch.einsum("oc,blc->bol", self.weight, x) + self.bias.view(1, -1, 1)


WAYS = ["linear", "linear without bias", "right product", "left product", "einsum"]


@pytest.mark.parametrize("how", WAYS)
def test_layers_along_a_sequence(how: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 7, 6, dtype=torch.float64)
    net = OneLayer(Sequence(how), x)
    space = only(run(net, x))
    assert numbers(space) == pytest.approx(define(net, x, 1).numbers, rel=1e-6)
    assert space.violations == 0
    assert space.feeder == "Linear layer.weight"


def test_channels_last_memory() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3).double()
    layer.weight.data = layer.weight.data.to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 6, 6, dtype=torch.float64).to(memory_format=torch.channels_last)
    assert_matches(layer, x)


def test_float32_is_close_to_float64() -> None:
    torch.manual_seed(0)
    x = torch.relu(torch.randn(16, 8, 12, 12, dtype=torch.float64))
    net = OneLayer(nn.Conv2d(8, 16, 3, padding=1), x)
    narrow = only(run(net, x, dtype="float32"))
    assert isinstance(narrow.residual, float)
    assert narrow.residual <= 1e-5 < narrow.tolerance
    assert narrow.violations == 0
    assert numbers(narrow) == pytest.approx(numbers(only(run(net, x))), rel=1e-5)


def test_rounding_noise_is_not_reported_as_a_ratio() -> None:
    """Nearly constant inputs and 1'g = 0: U'g cancels to below float32's precision."""
    torch.manual_seed(0)
    u = 1 + 1e-6 * torch.randn(4096, 6, dtype=torch.float64)
    g = torch.randn(4096, 4, dtype=torch.float64)
    spaces = {}
    for dtype in (torch.float32, torch.float64):
        own = UnfoldedProduct(u.to(dtype))
        centred = (g - g.mean(0)).to(dtype)
        gradients = weight_gradients(own, centred.T @ own.inputs, centred, centred)
        norms = spectral_norms(own, u.device)
        spaces[dtype] = weight_space("Linear w", gradients, norms, torch.ones(4), dtype)
    narrow = spaces[torch.float32]
    for metric in (narrow.tightness, narrow.weight_ratio, narrow.projection):
        assert isinstance(metric, Skipped)
        assert "float64" in metric.reason
    assert numbers(spaces[torch.float64])["weight_ratio"] == 1
