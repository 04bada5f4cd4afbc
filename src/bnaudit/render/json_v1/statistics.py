"""`statistics`: how the channels of one layer behave on the sample batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.json_v1.values import Json, Skips, array, metric, metrics, nulls, number

if TYPE_CHECKING:
    from bnaudit.records.drift import Channels, Drift
    from bnaudit.records.layer import Extent, LayerReport

EXTENT = ("min", "median", "max")
DRIFT = ("median", "p95", "max", "channel", "sampling_error", "lower", "per_channel")


def statistics_entry(layer: LayerReport, path: str, skips: Skips, *, channels: bool) -> Json:
    """Extents of the batch statistics, then what stands out among the channels."""
    return {
        "sigma": _extent(layer.sigma, f"{path}.sigma", skips),
        "leak": _extent(layer.leak, f"{path}.leak", skips),
        **_channels(layer.statistics, path, skips, arrays=channels),
    }


def _extent(extent: Extent | Skipped, path: str, skips: Skips) -> Json:
    if isinstance(extent, Skipped):
        return nulls(EXTENT, extent, path, skips)
    values = (extent.minimum, extent.median, extent.maximum)
    return metrics(dict(zip(EXTENT, values, strict=True)), path, skips)


def _channels(channels: Channels | Skipped, path: str, skips: Skips, *, arrays: bool) -> Json:
    """Each key names its reason: `sigma` and `leak` beside them may well have been measured."""
    if isinstance(channels, Skipped):
        return {
            "dead_gamma": _indices(channels, f"{path}.dead_gamma", skips),
            "dead_gradient": _indices(channels, f"{path}.dead_gradient", skips),
            "gain_outlier": number(channels, f"{path}.gain_outlier", skips),
            "mean_drift": nulls(DRIFT, channels, f"{path}.mean_drift", skips),
            "variance_drift": nulls(DRIFT, channels, f"{path}.variance_drift", skips),
            "constant": _indices(channels, f"{path}.constant", skips),
            "not_finite": _indices(channels, f"{path}.not_finite", skips),
            "grad_xhat_norm": metric(channels, f"{path}.grad_xhat_norm", skips),
        }
    drifts = {"mean_drift": channels.mean_drift, "variance_drift": channels.variance_drift}
    return {
        "dead_gamma": _indices(channels.dead_gamma, f"{path}.dead_gamma", skips),
        "dead_gradient": _indices(channels.dead_gradient, f"{path}.dead_gradient", skips),
        "gain_outlier": number(channels.gain_outlier, f"{path}.gain_outlier", skips),
        **{
            key: _drift(drift, f"{path}.{key}", skips, arrays=arrays)
            for key, drift in drifts.items()
        },
        "constant": _indices(channels.constant, f"{path}.constant", skips),
        "not_finite": _indices(channels.not_finite, f"{path}.not_finite", skips),
        "grad_xhat_norm": metric(channels.grad_xhat_norm, f"{path}.grad_xhat_norm", skips),
    }


def _indices(channels: tuple[int, ...] | Skipped, path: str, skips: Skips) -> list[int] | None:
    if isinstance(channels, Skipped):
        skips.add(path, channels.reason)
        return None
    return list(channels)


def _drift(drift: Drift | Skipped, path: str, skips: Skips, *, arrays: bool) -> Json:
    if isinstance(drift, Skipped):
        return nulls(DRIFT, drift, path, skips)
    return {
        "median": number(drift.median, f"{path}.median", skips),
        "p95": number(drift.p95, f"{path}.p95", skips),
        "max": number(drift.maximum, f"{path}.max", skips),
        "channel": drift.channel,
        "sampling_error": number(drift.sampling_error, f"{path}.sampling_error", skips),
        "lower": number(drift.lower, f"{path}.lower", skips),
        "per_channel": _per_channel(drift, f"{path}.per_channel", skips) if arrays else None,
    }


def _per_channel(drift: Drift, path: str, skips: Skips) -> Json:
    """An array of one batch's margins is empty: it has none."""
    return {
        "signed": array(drift.signed, f"{path}.signed", skips),
        "margin": array(drift.margin, f"{path}.margin", skips),
        "least": array(drift.least, f"{path}.least", skips),
    }
