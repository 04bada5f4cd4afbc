"""The interval of drift: against its definition, and whether it covers what it says it covers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bnaudit.measure.drift import Sample, Stored, drifts, student_t
from bnaudit.records.drift import Drift
from bnaudit.records.values import Skipped

EPS = 1e-5


def stored(channels: int) -> Stored:
    mean, var = torch.zeros(channels), torch.ones(channels)
    return Stored(mean.double(), var.double(), EPS, torch.ones(channels, dtype=torch.bool))


def found(x: Tensor, model: Stored | None = None) -> tuple[Drift, Drift]:
    """Of values (batches, m, channels)."""
    x = x.double()
    result = drifts(sample(x), model or stored(x.shape[2]))
    assert isinstance(result[0], Drift)
    assert isinstance(result[1], Drift)
    return result[0], result[1]


def sample(x: Tensor) -> Sample:
    """Of values (batches, rows, channels), one value a row."""
    means, variances = x.mean(1), x.var(1, correction=0)
    squares = (x - means[:, None]).square()
    events = squares.sum((0, 1)).square() / squares.square().sum((0, 1)).clamp(min=1e-300)
    count = x.shape[0] * x.shape[1]
    return Sample(means, variances, (means, variances), count, count, events)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.706), (4, 2.776), (6, 2.4469), (7, 2.3646), (15, 2.1314), (30, 2.0423), (1000, 1.9623)],
)
def test_quantiles_of_student(degrees: int, quantile: float) -> None:
    assert student_t(degrees) == pytest.approx(quantile, abs=2e-4 * quantile)


def test_the_margin_is_the_jackknife_of_all_values_together() -> None:
    x = noise(6, 40, 3) + 0.8 * noise(6, 1, 3, seed=1)  # values of a batch belong together
    drift, _ = found(x)
    batches = len(x)
    for channel in range(3):
        left_out = [
            float(x[[b for b in range(batches) if b != out], :, channel].mean())
            / math.sqrt(1 + EPS)
            for out in range(batches)
        ]
        middle = sum(left_out) / batches
        jackknife = (batches - 1) / batches * sum((v - middle) ** 2 for v in left_out)
        expected = 2.5706 * math.sqrt(jackknife) * math.sqrt(1 + batches * 0.1 / 1.9)
        assert drift.margin[channel] == pytest.approx(expected, rel=1e-4)


def test_the_margin_is_never_below_that_of_independent_values() -> None:
    # Every batch the same: no spread at all; and all rows share alike in the variance.
    alike = torch.sign(noise(1, 64, 5)).expand(8, 64, 5)
    mean, variance = found(alike)
    factor = student_t(7) * math.sqrt(1 + 8 * 0.1 / 1.9)
    assert variance.margin == pytest.approx([factor * 2.0402 / math.sqrt(512)] * 5, rel=1e-3)
    sigma = alike[0].std(0, correction=0)
    assert list(mean.margin) == pytest.approx((factor * sigma / math.sqrt(512)).tolist(), rel=1e-3)


@pytest.mark.parametrize("together", [0.0, 0.5])
def test_healthy_channels_lie_inside_the_interval(together: float) -> None:
    """Running statistics as training leaves them; values of one row may hang together."""
    channels, rows, pixels = 400, 64, 4

    def batches(count: int, seed: int) -> Tensor:
        rowwise = together * noise(count, rows, 1, channels, seed=seed)
        values = rowwise + noise(count, rows, pixels, channels, seed=seed + 1)
        return values.reshape(count, rows * pixels, channels)

    trained = batches(80, 10)
    mean, var = torch.zeros(channels).double(), torch.ones(channels).double()
    for batch in trained:
        mean = 0.9 * mean + 0.1 * batch.mean(0)
        var = 0.9 * var + 0.1 * batch.var(0)
    model = replace(stored(channels), mean=mean, var=var)
    for drift in found(batches(8, 20), model):
        inside = [abs(s) <= m for s, m in zip(drift.signed, drift.margin, strict=True)]
        assert 0.93 <= sum(inside) / channels <= 0.995
        assert drift.excess is not None
        assert drift.excess.lower == 0


def test_the_excess_is_what_sampling_does_not_explain() -> None:
    x = noise(8, 32, 200)
    signs = torch.sign(noise(200, seed=3))
    mean, _ = found(x + 0.2 * signs)
    assert mean.excess is not None
    assert mean.excess.value == pytest.approx(0.2, rel=0.1)
    assert 0.1 < mean.excess.lower < 0.2 < mean.excess.upper < 0.3


def test_channels_that_vary_together_are_one_piece_of_evidence() -> None:
    apart = 2 * noise(8, 32, 64)
    one = 2 * noise(8, 32, 1, seed=5).expand(8, 32, 64)
    widths = [e.upper - e.lower for x in (one, apart) if (e := found(x)[1].excess) is not None]
    assert widths[0] > 2 * widths[1]


def test_channels_without_gamma_are_not_in_the_excess() -> None:
    x = noise(8, 32, 10)
    x[:, :, :6] += 5
    living = torch.tensor([False] * 6 + [True] * 4)
    mean, _ = found(x, replace(stored(10), living=living))
    assert mean.excess is not None
    assert mean.excess.value < 0.1
    assert mean.median > 4
    nothing, _ = found(x, replace(stored(10), living=torch.zeros(10, dtype=torch.bool)))
    assert nothing.excess is None


def test_signs_and_the_least_over_single_batches() -> None:
    x = noise(4, 100, 2)
    x[:, :, 0] += 3
    x[2, :, 1] -= 4
    mean, _ = found(x)
    per_batch = x.mean(1) / math.sqrt(1 + EPS)
    assert list(mean.signed) == pytest.approx(per_batch.mean(0).tolist())
    assert mean.signed[1] < 0 < mean.signed[0]
    assert mean.least[0] == pytest.approx(float(per_batch[:, 0].min()))
    assert mean.least[1] == pytest.approx(max(float((-per_batch[:, 1]).min()), 0.0))


def test_one_batch_has_no_interval() -> None:
    mean, variance = found(noise(1, 100, 3) + 9)
    assert mean.margin == variance.margin == ()
    assert mean.surely(0) == 0.0
    assert isinstance(mean.lower, Skipped)
    assert mean.excess is None


def test_one_value_a_channel_has_no_variance() -> None:
    nothing = drifts(sample(noise(8, 1, 3)), stored(3))
    assert nothing == (Skipped("one value per channel (m = 1)"),) * 2


def test_what_is_not_finite_is_skipped() -> None:
    model = replace(stored(3), var=torch.tensor([1.0, math.nan, 1.0]).double())
    x = noise(4, 20, 3)
    result = drifts(sample(x), model)
    assert all(isinstance(drift, Skipped) for drift in result)


def rare(frequency: float, seed: int, batches: int = 8, rows: int = 32) -> Tensor:
    """400 channels that are 0 but for a rare 1."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batches, rows, 400)
    return (torch.rand(shape, generator=generator, dtype=torch.float64) < frequency).double()


@pytest.mark.parametrize("frequency", [0.002, 0.01, 0.03, 0.1, 0.3])
def test_rare_values_are_no_drift_of_the_variance(frequency: float) -> None:
    """Running statistics of 80 batches of 64 rows, and 256 other rows; a warning takes 2 below, 1 above."""
    mean, var = torch.full((400,), frequency).double(), torch.full((400,), frequency).double()
    for batch in rare(frequency, 1, 80, 64):
        mean, var = 0.9 * mean + 0.1 * batch.mean(0), 0.9 * var + 0.1 * batch.var(0)
    _, drift = found(rare(frequency, 2), replace(stored(400), mean=mean, var=var))
    wrong = [c for c in range(400) if drift.surely(c) > (1.0 if drift.signed[c] > 0 else 2.0)]
    assert len(wrong) <= 1
    assert drift.excess is None or drift.excess.lower < 0.2


def test_a_constant_channel_drifts_where_values_should_have_been_seen() -> None:
    """p = d^2/(1 + d^2) of the rows: at d = 0.5 a fifth, at 0.1 a hundredth."""
    for distance, drifts_away in ((0.5, True), (0.1, False)):
        model = replace(stored(3), mean=torch.full((3,), distance).double())
        _, drift = found(torch.zeros(8, 32, 3), model)
        assert (drift.surely(0) > 0) is drifts_away


def test_values_that_are_very_unlike_may_have_had_larger_ones_in_training() -> None:
    heavy = noise(8, 32, 50).mul(2).exp()
    var = heavy.reshape(-1, 50).var(0)
    below, above = (
        found(heavy, replace(stored(50), var=var * factor, mean=heavy.mean((0, 1))))[1]
        for factor in (64.0, 1 / 4096.0)
    )
    assert max(below.surely(c) for c in range(50)) == 0
    assert (
        sum(above.surely(c) > 2 for c in range(50)) < 50
    )  # of those that hang on one row nothing is said


def test_the_error_of_uneven_rows_is_that_of_their_variance() -> None:
    """Of n independent rows: sd(v)/v = sqrt((kurtosis - 1)/n); against 2,000 samples of 200 rows."""
    x = torch.empty(200, 2000, dtype=torch.float64).exponential_(
        generator=torch.Generator().manual_seed(0)
    )
    log2 = x.var(0, correction=0).log2()
    squares = (x - x.mean(0)).square()
    made_of = squares.sum(0).square() / squares.square().sum(0)
    assert float(made_of.mean()) / 200 == pytest.approx(
        1 / 9, rel=0.35
    )  # kurtosis 9, less in a sample
    error = (1 / made_of - 1 / 200).sqrt() / math.log(2)
    assert float(error.median()) == pytest.approx(float(log2.std()), rel=0.15)
