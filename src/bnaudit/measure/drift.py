"""Drift: what the batches show of a channel against what the model stored, with an interval.

    mean:      d = (mean - running_mean) / sigma_run,            sigma_run^2 = running_var + eps
    variance:  d = log2((var + eps) / (running_var + eps))

over the values of all B batches, pooled as mean = mean(mean_B), var = mean(var_B) + var(mean_B): the
variance of all values together, as long as the batches are of one size.

Both sides are samples. Values of one image are not independent, so the number of values says little;
the batches are, and leaving one out at a time gives the jackknife's standard error

    s^2 = (B - 1)/B sum_b (d_(b) - mean d_(b))^2,

never taken below that of independent near-Gaussian values, 1/sqrt(M) and sqrt(2/M)/ln 2, nor, for the
variance, below sqrt(1/N - 1/n)/ln 2, that of n independent rows of which N make up the variance. Where N is
below 6 the interval of the variance reaches 0: it hangs on a few rare values, of which the next rows may
have none. With fewer than 4 batches, groups of their rows are left out instead. The running
side is an average over training batches with weights a (1 - a)^k: its variance is a/(2 - a) of one
batch's, B a/(2 - a) of s^2. Batches of the size in training are assumed, and a = 0.1. The interval is
|d| -+ t s', s' = s sqrt(1 + B a/(2 - a)), t the two-sided 95 % quantile of Student's t with B - 1 degrees
of freedom.

A layer as a whole has D = median |d| over its channels, of which noise alone would make 0.6745 median s'.
What goes beyond it is the excess sqrt(D^2 - (0.6745 median s')^2). Its interval comes from leaving batches
out of D, so that channels which vary together are not taken for independent evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bnaudit.measure.spread import in_order, quantile
from bnaudit.records.drift import Drift, Excess
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from torch import Tensor

# Standard deviation of log2(v1/v2) for two variances of M near-Gaussian values each, times sqrt(M):
# sd of ln v is sqrt(2/M), and log2 adds 1/ln 2. The stored one is taken as exact.
_LOG2_VARIANCE_SD = math.sqrt(2) / math.log(2)

_MOMENTUM = 0.1
_RUNNING_SHARE = _MOMENTUM / (2 - _MOMENTUM)

# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; the expansion behind them
# (Abramowitz and Stegun 26.7.5) is right to 1e-4 from 10 on.
_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)
_Z = 1.959964
_MEDIAN_OF_NOISE = 0.6744898  # of |z|, z standard normal


@dataclass(frozen=True, slots=True)
class Stored:
    """What the model stored of a layer: (C,) float64 tensors, and which channels have a gamma."""

    mean: Tensor
    var: Tensor
    eps: float
    living: Tensor


@dataclass(frozen=True, slots=True)
class Sample:
    """What the batches show of a layer.

    Attributes:
        means: (B, C), of each batch.
        variances: (B, C), biased.
        groups: the same of the groups of rows that are left out one at a time: the batches, or parts of
            them where there are few.
        values: M, values per channel in all batches.
        rows: n, in all batches.
        made_of: (C,), how many rows the variance is made of (`bnaudit.measure.rows`).
    """

    means: Tensor
    variances: Tensor
    groups: tuple[Tensor, Tensor]
    values: int
    rows: int
    made_of: Tensor


def drifts(sample: Sample, stored: Stored) -> tuple[Drift | Skipped, Drift | Skipped]:
    """Drift of the means and of the variances.

    Args:
        sample: the batches.
        stored: the running statistics.
    """
    batches = len(sample.means)
    if sample.values == batches:
        reason = Skipped("one value per channel (m = 1)")
        return reason, reason
    pooled = _compare(sample.means, sample.variances, stored)
    # What each group of rows shows by itself, and what all but it show.
    count = len(sample.groups[0])
    each = torch.arange(count)
    others = each.expand(count, count)[~torch.eye(count, dtype=torch.bool)].view(count, count - 1)
    means, variances = sample.groups
    single = _compare(means[each[:, None]], variances[each[:, None]], stored)
    left_out = (torch.empty(0), torch.empty(0))
    if count > 1:
        left_out = _compare(means[others], variances[others], stored)
    error = 1 / math.sqrt(sample.values)
    spread = ((sample.variances.mean(0) + stored.eps) / (stored.var + stored.eps)).sqrt()
    uneven = (1 / sample.made_of.clamp(min=1) - 1 / max(sample.rows, 1)).clamp(min=0).sqrt()
    floors = (
        error * spread,
        torch.clamp(uneven / math.log(2), min=_LOG2_VARIANCE_SD * error),
    )
    errors = (error, _LOG2_VARIANCE_SD * error)
    heavy = (sample.made_of > 0) & (sample.made_of < _HEAVY * sample.rows)
    forgotten = _FORGOTTEN * heavy.double()
    known = (torch.ones_like(stored.living), _is_determined(sample, heavy, *pooled))
    mean, variance = (
        _drift(
            _Sampled(
                pooled[k], single[k], left_out[k], floors[k], known[k], k * forgotten, batches
            ),
            errors[k],
            stored.living,
        )
        for k in (0, 1)
    )
    return mean, variance


def _is_determined(
    sample: Sample, heavy: Tensor, mean_drift: Tensor, variance_drift: Tensor
) -> Tensor:
    """Whether the rows say enough of a channel's variance to hold it against the stored one.

    Rare large values say it once they occur, and where values are that unlike, larger ones than these rows
    have may be in the stored variance. A channel that is constant may wait for its first rare value: values
    b, and rarely another one, of mean mu and variance v occur with the frequency p = d^2/(1 + d^2),
    d = (b - mu)/sqrt(v); there should have been p n of them.
    """
    expected = sample.rows * mean_drift.square() / (1 + mean_drift.square())
    events = torch.where(sample.made_of > 0, sample.made_of, expected)
    return (events >= _EVENTS) & ~(heavy & (variance_drift < 0))


_EVENTS = 6
"""Rows that a variance is made of, below which it may be anything: of 6 expected events none occurs once in
400 times."""

_HEAVY = 0.125
"""Of the rows: Gaussian values make it a third, exponential ones a ninth, and Student's t of 2 degrees of
freedom, which has no variance at all, a twentieth of some hundred rows."""

_FORGOTTEN = 2.0
"""log2 of what a running average may lack of such a variance: it remembers some 19 batches, and where these
should have had 5 events, a quarter or fewer occur once in 25 times."""


@dataclass(frozen=True, slots=True)
class _Sampled:
    """Signed drift: pooled (C,), of k single groups and with one left out (k, C) or (0,), least error (C,).

    `known` says of which channels the rows tell enough; `forgotten` (C,) is added to their margin.
    """

    signed: Tensor
    single: Tensor
    left_out: Tensor
    floor: Tensor
    known: Tensor
    forgotten: Tensor
    batches: int

    @property
    def groups(self) -> int:
        return len(self.single)

    def margin(self) -> Tensor:
        """Half the width of each channel's interval; see the top of the file."""
        error = torch.maximum(_jackknife(self.left_out), self.floor)
        margin = student_t(self.groups - 1) * error * _with_running(self.batches) + self.forgotten
        return torch.where(self.known, margin, torch.maximum(margin, self.signed.abs()))

    def excess(self, living: Tensor, margin: Tensor) -> Excess | None:
        """Of the layer as a whole, as far as its channels are known."""
        if not bool((living & self.known).sum() >= _MOST * living.sum()):
            return None
        living = living & self.known
        noise = margin[living] / student_t(self.groups - 1)
        middle = float(_middle(self.signed[living]))
        expected = _MEDIAN_OF_NOISE * float(_middle(noise))
        drawn = _middle(self.left_out[:, living])
        error = float(_jackknife(drawn)) * _with_running(self.batches)
        reach = student_t(self.groups - 1) * error

        def beyond(distance: float) -> float:
            return math.sqrt(max(max(distance, 0) ** 2 - expected**2, 0))

        return Excess(beyond(middle), beyond(middle - reach), beyond(middle + reach))


_MOST = 0.75
"""Of a layer's channels: the others are the quieter ones, and would stand for all of them."""


def student_t(degrees: int) -> float:
    """The two-sided 95 % quantile of Student's t."""
    if degrees <= len(_T):
        return _T[degrees - 1]
    z, n = _Z, float(degrees)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3


def _compare(means: Tensor, variances: Tensor, stored: Stored) -> tuple[Tensor, Tensor]:
    """Signed drift of the mean and of log2 variance, (..., C) each from (..., B, C)."""
    spread, mean = torch.var_mean(means, -2, correction=0)
    var = variances.mean(-2) + spread
    scale = stored.var + stored.eps
    # eps keeps a channel that is constant in training and on the batches at zero.
    return (mean - stored.mean) / scale.sqrt(), ((var + stored.eps) / scale).log2()


def _middle(signed: Tensor) -> Tensor:
    return quantile(in_order(signed.abs()), 0.5)


def _jackknife(left_out: Tensor) -> Tensor:
    batches = len(left_out)
    squares = (left_out - left_out.mean(0)).square().sum(0)
    return (squares * (batches - 1) / batches).sqrt()


def _with_running(batches: int) -> float:
    return math.sqrt(1 + batches * _RUNNING_SHARE)


def _drift(sampled: _Sampled, error: float, living: Tensor) -> Drift | Skipped:
    signed = sampled.signed
    size = signed.abs()
    if not bool(torch.isfinite(size).all()):
        return Skipped("running statistics or activations are not finite")
    ordered = in_order(size)
    several = sampled.groups > 1
    judged = several and bool(living.any())
    margin = sampled.margin() if several else signed[:0]
    return Drift(
        median=float(quantile(ordered, 0.5)),
        p95=float(quantile(ordered, 0.95)),
        maximum=float(ordered[-1]),
        channel=int(size.argmax()),
        sampling_error=error,
        signed=tuple(signed.tolist()),
        margin=tuple(margin.tolist()),
        least=tuple((sampled.single * torch.sign(signed)).amin(0).clamp(min=0).tolist()),
        excess=sampled.excess(living, margin) if judged else None,
        batches=sampled.batches,
        groups=sampled.groups,
    )
