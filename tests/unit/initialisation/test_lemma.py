"""Lemma 4.5 against its definitions, written out in numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnaudit.initialisation.lemma import alignment, row_alignments, rows_of
from bnaudit.load.weights.model import Layout
from bnaudit.records.initialisation import Alignment, Range, Rows
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SEEDS = st.integers(0, 2**32 - 1)
SHAPES = st.sampled_from([(4, 3), (6, 2, 3, 3), (1, 5), (5, 1), (3, 4, 2)])


def weights(seed: int, shape: tuple[int, ...]) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    start = rng.normal(size=shape)
    return start, 0.7 * start + rng.normal(size=shape) * rng.uniform(0.01, 2)


def aligned(start: Array, trained: Array) -> Alignment:
    found = alignment(start, trained)
    assert isinstance(found, Alignment)
    return found


def in_rows(start: Array, trained: Array, layout: Layout | None = None) -> Rows:
    found = row_alignments(start, trained, layout or Layout(0))
    assert isinstance(found, Rows)
    return found


@given(SEEDS, SHAPES)
def test_definitions(seed: int, shape: tuple[int, ...]) -> None:
    start, trained = weights(seed, shape)
    a = aligned(start, trained)
    k = (start * trained).sum() / (trained**2).sum()
    cosine = (start * trained).sum() / np.sqrt((start**2).sum() * (trained**2).sum())
    assert a.k == pytest.approx(k, rel=1e-12)
    assert a.cosine == pytest.approx(cosine, rel=1e-12)
    assert a.start_norm == pytest.approx(np.sqrt((start**2).sum()), rel=1e-14)
    assert a.trained_norm == pytest.approx(np.sqrt((trained**2).sum()), rel=1e-14)
    if k <= 0:
        assert isinstance(a.gain, Skipped)
        assert a.ray_distance == a.start_norm
        return
    nearer = ((start - trained) ** 2).sum() - ((start - k * trained) ** 2).sum()
    assert a.gain == pytest.approx(nearer, rel=1e-9, abs=1e-12)
    assert a.gain_share == pytest.approx(
        nearer / ((start - trained) ** 2).sum(), rel=1e-9, abs=1e-12
    )
    sine = np.sqrt(1 - cosine**2)
    assert a.ray_distance == pytest.approx(np.sqrt((start**2).sum()) * sine, rel=1e-6)


@given(SEEDS, SHAPES, st.floats(1e-3, 1e3))
def test_k_of_a_scaled_weight(seed: int, shape: tuple[int, ...], factor: float) -> None:
    start, trained = weights(seed, shape)
    before, after = aligned(start, trained), aligned(start, factor * trained)
    assert not isinstance(before.k, Skipped)
    assert after.k == pytest.approx(before.k / factor, rel=1e-11)
    assert after.cosine == pytest.approx(before.cosine, rel=1e-11)
    assert after.ray_distance == pytest.approx(before.ray_distance, rel=1e-9)
    itself = aligned(start, factor * start)
    assert itself.k == pytest.approx(1 / factor, rel=1e-12)
    assert itself.ray_distance == pytest.approx(0, abs=1e-12 * itself.start_norm)


@given(SEEDS)
def test_no_point_of_the_ray_is_nearer(seed: int) -> None:
    start, trained = weights(seed, (4, 5))
    a = aligned(start, trained)
    for c in np.geomspace(1e-3, 1e3, 200):
        assert np.linalg.norm(start - c * trained) >= float(str(a.ray_distance)) - 1e-12


@given(SEEDS, SHAPES)
def test_rows_are_weights_of_their_own(seed: int, shape: tuple[int, ...]) -> None:
    start, trained = weights(seed, shape)
    found = in_rows(start, trained)
    each = [aligned(s, t) for s, t in zip(start, trained, strict=True)]
    ks = [float(str(a.k)) for a in each]
    assert found.count == found.used == shape[0]
    assert isinstance(found.k, Range)
    expected = (min(ks), np.median(ks), max(ks))
    assert (found.k.minimum, found.k.median, found.k.maximum) == pytest.approx(expected)
    gains = [a.gain for a in each if not isinstance(a.gain, Skipped)]
    assert found.positive == pytest.approx(len(gains) / shape[0])
    assert found.gaining == pytest.approx(len(gains) / shape[0])
    if gains:
        assert found.gain_total == pytest.approx(sum(gains))
    # Projecting every row by itself comes at least as near as one k for all.
    whole = aligned(start, trained)
    if len(gains) == shape[0]:
        assert not isinstance(whole.gain, Skipped)
        assert not isinstance(found.gain_total, Skipped)
        assert found.gain_total >= whole.gain * (1 - 1e-9)


@given(SEEDS)
def test_squares_of_rows_add_up(seed: int) -> None:
    start, trained = weights(seed, (3, 7))
    whole = aligned(start, trained)
    rows = [aligned(s, t) for s, t in zip(start, trained, strict=True)]
    assert sum(a.distance**2 for a in rows) == pytest.approx(whole.distance**2)
    dots = sum(float(str(a.k)) * a.trained_norm**2 for a in rows)
    assert dots == pytest.approx(float(str(whole.k)) * whole.trained_norm**2)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_rows_of_a_transposed_convolution_make_its_channels(groups: int) -> None:
    layer = torch.nn.ConvTranspose2d(6, 3 * groups, 2, groups=groups, bias=False).double()
    rows = rows_of(layer.weight.detach().numpy(), Layout(1, groups))
    x = torch.randn(1, 6, 4, 4, dtype=torch.float64)
    plain = layer(x)
    for channel in range(3 * groups):
        doubled = torch.tensor(rows.copy())
        doubled[channel] *= 2
        back = doubled.reshape(groups, 3, 6 // groups, 4).transpose(1, 2).reshape(6, 3, 2, 2)
        with torch.no_grad():
            layer.weight.copy_(back)
        changed = (layer(x) - plain).abs().amax((0, 2, 3)) > 1e-12
        assert changed.nonzero().flatten().tolist() == [channel]
        with torch.no_grad():
            layer.weight.copy_(
                torch.tensor(rows)
                .reshape(groups, 3, 6 // groups, 4)
                .transpose(1, 2)
                .reshape(6, 3, 2, 2)
            )


def test_zero_weights() -> None:
    zero, one = np.zeros((2, 3)), np.ones((2, 3))
    to_zero = aligned(one, zero)
    assert to_zero.k == Skipped("the trained weight is zero")
    assert to_zero.distance == pytest.approx(np.sqrt(6))
    from_zero = aligned(zero, one)
    assert from_zero.k == 0
    assert from_zero.cosine == Skipped("the start weight is zero")
    assert isinstance(from_zero.gain, Skipped)
    half = np.array([[0.0, 0, 0], [1, 1, 1]])
    rows = in_rows(one, half)
    assert (rows.count, rows.used, rows.positive, rows.gaining) == (2, 1, 1, 0)


def test_equal_weights_gain_nothing() -> None:
    start, _ = weights(0, (3, 4))
    a = aligned(start, start.copy())
    assert a.k == pytest.approx(1, rel=1e-15)
    assert a.gain == pytest.approx(0, abs=1e-25)
    assert a.gain_share == Skipped("start and trained weight are equal")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(bad: float) -> None:
    start, trained = weights(0, (3, 4))
    trained[1, 2] = bad
    reason = Skipped("1 of 12 values of the trained weight are not finite")
    assert alignment(start, trained) == reason
    assert row_alignments(start, trained, Layout(0)) == reason


def test_float32_rounding_does_not_reach_the_result() -> None:
    start, _ = weights(0, (64, 64))
    nearly = start * (1 + 1e-9)
    assert aligned(start, nearly).gain == pytest.approx((start**2).sum() * 1e-18, rel=1e-5)
