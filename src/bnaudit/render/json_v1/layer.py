"""A layer's entry in the document, field by field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.json_v1.values import Json, Skips, array, metric, metrics, nulls, number

if TYPE_CHECKING:
    from bnaudit.records.layer import (
        ChannelValues,
        Extent,
        FiniteDifference,
        FirstOrder,
        Gain,
        LayerReport,
    )

GAIN = ("min", "median", "max", "fraction_le_1")
EXTENT = ("min", "median", "max")
FINITE_DIFFERENCE = ("measured", "predicted", "relative_error", "step")


def layer_entry(layer: LayerReport, *, channels: bool) -> Json:
    """One BatchNorm call; `skipped` is filled while the other keys are mapped, so it comes last."""
    skips = Skips()
    return {
        "name": layer.name,
        "call": layer.call,
        "kind": layer.kind,
        "channels": layer.channels,
        "m": layer.m,
        "eps": number(layer.eps, "eps", skips),
        "affine": layer.affine,
        "tracks_running_stats": layer.tracks_running_stats,
        "training_flag": layer.training_flag,
        "origin": layer.origin,
        "gain": {
            "batch": _gain(layer.gain_batch, "gain.batch", skips),
            "running": _gain(layer.gain_running, "gain.running", skips),
        },
        "first_order": _first_order(layer.first_order, "first_order", skips),
        "statistics": {
            "sigma": _extent(layer.sigma, "statistics.sigma", skips),
            "leak": _extent(layer.leak, "statistics.leak", skips),
        },
        "channel_values": _channel_values(layer.channel_values, skips) if channels else None,
        "skipped": skips.entries,
    }


def _gain(gain: Gain | Skipped, path: str, skips: Skips) -> Json:
    if isinstance(gain, Skipped):
        return nulls(GAIN, gain, path, skips)
    values = (gain.minimum, gain.median, gain.maximum, gain.fraction_le_1)
    return metrics(dict(zip(GAIN, values, strict=True)), path, skips)


def _extent(extent: Extent | Skipped, path: str, skips: Skips) -> Json:
    if isinstance(extent, Skipped):
        return nulls(EXTENT, extent, path, skips)
    values = (extent.minimum, extent.median, extent.maximum)
    return metrics(dict(zip(EXTENT, values, strict=True)), path, skips)


def _first_order(order: FirstOrder | Skipped, path: str, skips: Skips) -> Json:
    if isinstance(order, Skipped):
        skips.add(path, order.reason)
        return _no_first_order()
    return {
        "statistics": order.statistics,
        "predicted": metric(order.predicted, f"{path}.predicted", skips),
        "measured": metric(order.measured, f"{path}.measured", skips),
        "residual": _residual(order.residual, f"{path}.residual", skips),
        "tolerance": number(order.tolerance, f"{path}.tolerance", skips),
        "finite_difference": _finite_difference(
            order.finite_difference, f"{path}.finite_difference", skips
        ),
        "scale": metric(order.scale, f"{path}.scale", skips),
        "projection": metric(order.projection, f"{path}.projection", skips),
        "removed_mean": metric(order.removed_mean, f"{path}.removed_mean", skips),
        "removed_xhat": metric(order.removed_xhat, f"{path}.removed_xhat", skips),
        "grad_out_norm": metric(order.grad_out_norm, f"{path}.grad_out_norm", skips),
        "grad_in_norm": metric(order.grad_in_norm, f"{path}.grad_in_norm", skips),
    }


def _residual(residual: float | Skipped, path: str, skips: Skips) -> float | None:
    if isinstance(residual, Skipped):
        skips.add(path, residual.reason)
        return None
    return number(residual, path, skips)


def _no_first_order() -> Json:
    return {
        "statistics": None,
        "predicted": None,
        "measured": None,
        "residual": None,
        "tolerance": None,
        "finite_difference": dict.fromkeys(FINITE_DIFFERENCE),
        "scale": None,
        "projection": None,
        "removed_mean": None,
        "removed_xhat": None,
        "grad_out_norm": None,
        "grad_in_norm": None,
    }


def _finite_difference(quotient: FiniteDifference | Skipped, path: str, skips: Skips) -> Json:
    if isinstance(quotient, Skipped):
        return nulls(FINITE_DIFFERENCE, quotient, path, skips)
    return {
        "measured": number(quotient.measured, f"{path}.measured", skips),
        "predicted": number(quotient.predicted, f"{path}.predicted", skips),
        "relative_error": number(quotient.relative_error, f"{path}.relative_error", skips),
        "step": number(quotient.step, f"{path}.step", skips),
    }


def _channel_values(values: ChannelValues | None, skips: Skips) -> Json | None:
    path = "channel_values"
    if values is None:
        skips.add(path, "the run did not keep per-channel arrays")
        return None
    return {
        "gain_batch": array(values.gain_batch, f"{path}.gain_batch", skips),
        "gain_running": array(values.gain_running, f"{path}.gain_running", skips),
        "sigma": array(values.sigma, f"{path}.sigma", skips),
        "leak": array(values.leak, f"{path}.leak", skips),
        "predicted": array(values.predicted, f"{path}.predicted", skips),
        "measured": array(values.measured, f"{path}.measured", skips),
        "grad_out_norm": array(values.grad_out_norm, f"{path}.grad_out_norm", skips),
        "grad_in_norm": array(values.grad_in_norm, f"{path}.grad_in_norm", skips),
    }
