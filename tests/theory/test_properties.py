"""What must not change the numbers, and what must change them in a known way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnaudit.measure import moments
from bnaudit.measure.moments import Moments, channel_moments, stable_moments
from bnaudit.measure.theory import FirstOrderChannels, first_order
from tests import reference

EPS = 1e-5


def layer(
    x: Tensor, gamma: Tensor, big_g: Tensor, eps: float = EPS
) -> tuple[FirstOrderChannels, Moments]:
    own = x.detach().clone().requires_grad_()
    z = torch.ops.aten.native_batch_norm.default(own, gamma, None, None, None, True, 0.0, eps)[0]
    (g,) = torch.autograd.grad(z, own, big_g)
    sums, _ = channel_moments(x, big_g, g)
    m = x.numel() // x.shape[1]
    return first_order(sums, gamma.double(), eps, m), sums


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    n, c = draw(st.integers(3, 12)), draw(st.integers(1, 5))
    spatial = draw(st.sampled_from([(), (3,), (2, 3), (2, 2, 2)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    scale = draw(st.sampled_from([1e-3, 1.0, 1e3]))
    offset = draw(st.sampled_from([0.0, 1.0, 30.0]))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = scale * (normal(n, c, *spatial) + offset)
    return x, normal(c), normal(n, c, *spatial)


@given(problems())
@settings(max_examples=80, deadline=None)
def test_closed_form_equals_autograd_and_the_textbook(
    problem: tuple[Tensor, Tensor, Tensor],
) -> None:
    x, gamma, big_g = problem
    found, _ = layer(x, gamma, big_g)
    assert float(found.residual.max()) <= 1e-12
    ref = reference.first_order(x, big_g, gamma, EPS)
    torch.testing.assert_close(found.predicted_sq.sqrt(), ref.grad_in, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(found.mean_term, ref.mean_term, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(found.xhat_term, ref.xhat_term, rtol=1e-7, atol=1e-11)


@given(problems(), st.floats(-5, 5))
@settings(max_examples=30, deadline=None)
def test_shifting_the_input_leaves_the_gradient(
    problem: tuple[Tensor, Tensor, Tensor], shift: float
) -> None:
    x, gamma, big_g = problem
    _, before = layer(x, gamma, big_g)
    _, after = layer(x + shift, gamma, big_g)
    size = float(before.grad_in_sq.max()) + 1e-30
    torch.testing.assert_close(after.grad_in_sq, before.grad_in_sq, rtol=1e-5, atol=1e-8 * size)


@given(problems(), st.floats(-4, 4).filter(lambda k: abs(k) > 0.05))
@settings(max_examples=30, deadline=None)
def test_scaling_gamma_scales_the_gradient(
    problem: tuple[Tensor, Tensor, Tensor], k: float
) -> None:
    x, gamma, big_g = problem
    _, before = layer(x, gamma, big_g)
    found, after = layer(x, k * gamma, big_g)
    torch.testing.assert_close(after.grad_in_sq, k * k * before.grad_in_sq, rtol=1e-9, atol=0.0)
    assert float(found.residual.max()) <= 1e-12


@given(problems(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_permuting_the_batch_changes_nothing(
    problem: tuple[Tensor, Tensor, Tensor], random: object
) -> None:
    x, gamma, big_g = problem
    order = list(range(x.shape[0]))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis types it as object's subclass
    found, _ = layer(x, gamma, big_g)
    permuted, _ = layer(x[order], gamma, big_g[order])
    for name in ("sigma", "gain", "predicted_sq", "grad_out_sq", "mean_term"):
        torch.testing.assert_close(
            getattr(permuted, name), getattr(found, name), rtol=1e-9, atol=1e-12
        )


def test_stable_form_survives_where_the_textbook_form_cancels() -> None:
    """G almost entirely along 1 and xhat, in float32: the survivors are 1e-5 of |G|."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 8, generator=generator)
    xhat = (x - x.mean(0)) / x.std(0)
    big_g = 1 + xhat + 1e-5 * torch.randn(512, 8, generator=generator)
    gamma = torch.ones(8)
    found, _ = layer(x, gamma, big_g)
    exact = reference.first_order(x, big_g, gamma, EPS)
    assert float(found.residual.max()) <= 1e-5
    relative = (found.predicted_sq.sqrt() - exact.grad_in).abs() / exact.grad_in
    assert float(relative.max()) < 0.05


def test_a_constant_channel_has_only_the_mean_taken_out() -> None:
    """v = 0: xhat = 0, |D| = |gamma|/sqrt(eps), g = D (G - Gbar)."""
    x = torch.full((10, 2), 0.1, dtype=torch.float64)
    big_g = torch.randn(10, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, _ = layer(x, torch.tensor([2.0, -3.0], dtype=torch.float64), big_g)
    expected = torch.tensor([2.0, 3.0]) / EPS**0.5 * (big_g - big_g.mean(0)).norm(dim=0)
    torch.testing.assert_close(found.predicted_sq.sqrt(), expected, rtol=1e-7, atol=0.0)
    assert found.leak.tolist() == pytest.approx([1.0, 1.0])
    assert float(found.residual.max()) <= 1e-12


def test_two_values_leave_only_leak() -> None:
    """m = 2: what survives of any G is its xhat part times leak."""
    x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    big_g = torch.tensor([[0.7], [-0.2]], dtype=torch.float64)
    found, moments = layer(x, torch.ones(1, dtype=torch.float64), big_g, eps=0.1)
    assert float(moments.grad_rest_sq) == pytest.approx(0, abs=1e-15)
    expected = found.gain * found.leak * moments.grad_along.abs()
    assert float(found.predicted_sq.sqrt()) == pytest.approx(float(expected), rel=1e-7)


def test_a_random_gradient_keeps_m_minus_2_of_m() -> None:
    generator = torch.Generator().manual_seed(2)
    x, big_g = (torch.randn(20, 4000, generator=generator, dtype=torch.float64) for _ in range(2))
    found, _ = layer(x, torch.ones(4000, dtype=torch.float64), big_g)
    kept = found.predicted_sq / (found.gain**2 * found.grad_out_sq)
    assert float(kept.mean()) == pytest.approx(18 / 20, abs=0.01)


def test_a_wrong_capture_shows_as_a_residual() -> None:
    """The integrity check can fail: a gradient that includes a skip connection does."""
    x, gamma, big_g = (torch.randn(s, dtype=torch.float64) for s in ((9, 3), (3,), (9, 3)))
    own = x.clone().requires_grad_()
    z = torch.nn.functional.batch_norm(own, None, None, gamma, None, training=True)
    (g,) = torch.autograd.grad(z + 0.5 * own, own, big_g)
    found = first_order(channel_moments(x, big_g, g)[0], gamma, EPS, 9)
    assert float(found.residual.max()) > 1e-2


@given(problems(), st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=60, deadline=None)
def test_the_fast_sums_agree_with_the_stable_form(
    problem: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype
) -> None:
    """One pass of sums, exact where it is trusted; the doubtful channels come from the stable form."""
    x, _, big_g = (t.to(dtype) for t in problem)
    fast, exact = channel_moments(x, big_g, big_g)[0], stable_moments(x, big_g, big_g)
    for name in ("mean", "var", "grad_mean", "grad_along", "grad_out_sq", "grad_in_sq"):
        a, b = getattr(fast, name), getattr(exact, name)
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5 * float(b.abs().max()))
    size = exact.grad_out_sq
    assert float(((fast.grad_rest_sq - exact.grad_rest_sq).abs() / size).max()) < 1e-6


def test_channels_that_cancel_are_taken_from_the_stable_form() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(64, 4, 6, generator=generator)
    x[:, 1] += 1e4  # far from zero
    x[:, 2] = 0.1  # constant
    big_g = torch.randn(64, 4, 6, generator=generator)
    big_g[:, 3] = 1 + 1e-5 * big_g[:, 3]  # almost all along 1
    found, exact = channel_moments(x, big_g, big_g)[0], stable_moments(x, big_g, big_g)
    for field in ("mean", "var", "grad_rest_sq"):
        assert getattr(found, field)[1:].tolist() == getattr(exact, field)[1:].tolist()
        assert getattr(found, field)[0] == pytest.approx(float(getattr(exact, field)[0]), rel=1e-6)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [(4, 4), (31, 37), (48, 64)])
def test_sums_in_float32_have_the_digits_of_float64(
    size: tuple[int, int], last: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels that are far from zero, small, huge, constant, dead, or cancel, among others that are not."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    generator = torch.Generator().manual_seed(3)
    x, big_g, g = (torch.randn(4, 9, *size, generator=generator) for _ in range(3))
    x[:, 1] += 1e3
    x[:, 2], big_g[:, 2], g[:, 2] = 0.1, 0.0, 0.0
    big_g[:, 3] = 1 + 1e-4 * big_g[:, 3]
    big_g[:, 4] *= 1e-25
    g[:, 4] *= 1e-30
    x[:, 5] *= 1e20
    g[:, 6] *= 1e19
    if last:
        x, big_g, g = (t.contiguous(memory_format=torch.channels_last) for t in (x, big_g, g))
    found, rows = channel_moments(x, big_g, g)
    exact = stable_moments(x.double(), big_g.double(), g.double())
    for name in ("mean", "var", "grad_out_sq", "grad_in_sq", "grad_rest_sq"):
        ours, theirs = getattr(found, name), getattr(exact, name)
        scale = {"mean": exact.var.sqrt() + exact.mean.abs(), "grad_rest_sq": exact.grad_out_sq}
        off = (ours - theirs).abs() / scale.get(name, theirs).clamp(min=1e-300)
        assert (
            float(off.max()) < 2e-6 if name != "var" else float(off[[0, 3, 4, 5, 6]].max()) < 2e-6
        )
    assert rows is not None
    torch.testing.assert_close(rows[0, :, 0], x[:, 0].double().sum((1, 2)), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        rows[1, :, 0], x[:, 0].double().square().sum((1, 2)), rtol=1e-6, atol=0
    )


def test_fast_sums_are_taken_where_they_pay() -> None:
    for x in (torch.randn(8, 3), torch.randn(8, 3, 15), torch.randn(4, 3, 5, 5).double()):
        assert channel_moments(x, x, x)[1] is None
    assert channel_moments(*[torch.randn(4, 3, 4, 4)] * 3)[1] is not None


def test_a_fault_of_the_fast_sums_shows_as_a_residual(monkeypatch: pytest.MonkeyPatch) -> None:
    """They judge BatchNorm's backward, and share nothing with it."""
    torch.manual_seed(0)
    x, gamma, big_g = torch.randn(4, 6, 8, 8), torch.rand(6) + 0.5, torch.randn(4, 6, 8, 8)
    assert float(layer(x, gamma, big_g)[0].residual.max()) < 1e-6
    right = moments.row_sums

    for row in range(6):

        def wrong(*given: Tensor, row: int = row) -> Tensor:
            found = right(*given)
            assert found is not None
            found[row] *= 1.001
            found[row] += 0.1
            return found

        monkeypatch.setattr(moments, "row_sums", wrong)
        assert float(layer(x, gamma, big_g)[0].residual.max()) > 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 7), (2, 3, 31), (2, 3, 12, 10), (3, 4, 2, 4, 4)])
@pytest.mark.parametrize("last", [False, True])
def test_products_by_channel(shape: tuple[int, ...], dtype: torch.dtype, last: bool) -> None:
    """What the sweep needs of a BatchNorm, in every layout."""
    x, big_g = (torch.randn(shape, dtype=dtype) for _ in range(2))
    if last and len(shape) == 4:
        x, big_g = (t.contiguous(memory_format=torch.channels_last) for t in (x, big_g))
    product, total = moments.product_and_sum(x, big_g)
    dims = [d for d in range(len(shape)) if d != 1]
    wide = x.double(), big_g.double()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(product, (wide[0] * wide[1]).sum(dims), rtol=0, atol=tolerance)
    torch.testing.assert_close(total, wide[1].sum(dims), rtol=0, atol=tolerance)
