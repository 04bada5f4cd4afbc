"""Drift: what the batches show of a channel against what the model stored, with an interval.

    mean:      d = (mean - running_mean) / sigma_run,            sigma_run^2 = running_var + eps
    variance:  d = log2((var + eps) / (running_var + eps))

over the values of all B batches, pooled as mean = mean(mean_B), var = mean(var_B) + var(mean_B): the
variance of all values together, as long as the batches are of one size.

Both sides are samples. Values of one image are not independent, so the number of values says little;
the batches are, and leaving one out at a time gives the jackknife's standard error

    s^2 = (B - 1)/B sum_b (d_(b) - mean d_(b))^2,

never taken below that of independent near-Gaussian values, 1/sqrt(M) and sqrt(2/M)/ln 2. The running
side is an average over training batches with weights a (1 - a)^k: its variance is a/(2 - a) of one
batch's, B a/(2 - a) of s^2. Batches of the size in training are assumed, and a = 0.1. The interval is
|d| -+ t s sqrt(1 + B a/(2 - a)), t the two-sided 95 % quantile of Student's t with B - 1 degrees of freedom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bnaudit.records.drift import Drift
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from torch import Tensor

# Standard deviation of log2(v1/v2) for two variances of M near-Gaussian values each, times sqrt(M):
# sd of ln v is sqrt(2/M), and log2 adds 1/ln 2. The stored one is taken as exact.
_LOG2_VARIANCE_SD = math.sqrt(2) / math.log(2)

_MOMENTUM = 0.1
_RUNNING_SHARE = _MOMENTUM / (2 - _MOMENTUM)

# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; the expansion behind them
# (Abramowitz and Stegun 26.7.5) is right to 1e-4 from 6 on.
_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706)
_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Stored:
    """What the model stored of a layer: (C,) float64 tensors."""

    mean: Tensor
    var: Tensor
    eps: float


def drifts(
    means: Tensor, variances: Tensor, stored: Stored, values: int
) -> tuple[Drift | Skipped, Drift | Skipped]:
    """Drift of the means and of the variances.

    Args:
        means: (B, C), of each batch.
        variances: (B, C), biased.
        stored: the running statistics.
        values: M, values per channel in all batches.
    """
    batches = len(means)
    if values == batches:
        reason = Skipped("one value per channel (m = 1)")
        return reason, reason
    error = 1 / math.sqrt(values)
    mean, log_var = _compare(means, variances, stored)
    # What each batch shows by itself.
    per_batch = [_compare(means[b : b + 1], variances[b : b + 1], stored) for b in range(batches)]
    left_out = [
        _compare(*_without(means, variances, b), stored) for b in range(batches) if batches > 1
    ]
    spread = ((variances.mean(0) + stored.eps) / (stored.var + stored.eps)).sqrt()
    return (
        _drift(mean, [m for m, _ in per_batch], [m for m, _ in left_out], error, error * spread),
        _drift(
            log_var,
            [v for _, v in per_batch],
            [v for _, v in left_out],
            _LOG2_VARIANCE_SD * error,
            torch.full_like(log_var, _LOG2_VARIANCE_SD * error),
        ),
    )


def student_t(degrees: int) -> float:
    """The two-sided 95 % quantile of Student's t."""
    if degrees <= len(_T):
        return _T[degrees - 1]
    z, n = _Z, float(degrees)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3


def _without(means: Tensor, variances: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    kept = [b for b in range(len(means)) if b != batch]
    return means[kept], variances[kept]


def _compare(means: Tensor, variances: Tensor, stored: Stored) -> tuple[Tensor, Tensor]:
    """Signed drift of the mean and of log2 variance, (C,) each."""
    var = variances.mean(0) + means.var(0, correction=0)
    scale = stored.var + stored.eps
    # eps keeps a channel that is constant in training and on the batches at zero.
    return (means.mean(0) - stored.mean) / scale.sqrt(), ((var + stored.eps) / scale).log2()


def _drift(
    signed: Tensor, per_batch: list[Tensor], left_out: list[Tensor], error: float, floor: Tensor
) -> Drift | Skipped:
    size = signed.abs()
    if not bool(torch.isfinite(size).all()):
        return Skipped("running statistics or activations are not finite")
    towards = torch.stack(per_batch) * torch.sign(signed)
    return Drift(
        median=float(size.quantile(0.5)),
        p95=float(size.quantile(0.95)),
        maximum=float(size.max()),
        channel=int(size.argmax()),
        sampling_error=error,
        signed=tuple(signed.tolist()),
        margin=tuple(_margin(left_out, floor).tolist()) if left_out else (),
        least=tuple(towards.amin(0).clamp(min=0).tolist()),
        batches=len(per_batch),
    )


def _margin(left_out: list[Tensor], floor: Tensor) -> Tensor:
    """Half the width of the interval; see the top of the file."""
    drawn = torch.stack(left_out)
    batches = len(drawn)
    jackknife = ((drawn - drawn.mean(0)).square().sum(0) * (batches - 1) / batches).sqrt()
    error = torch.maximum(jackknife, floor) * math.sqrt(1 + batches * _RUNNING_SHARE)
    return student_t(batches - 1) * error
