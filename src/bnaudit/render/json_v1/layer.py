"""A layer's entry in the document: what it is, and one group for each metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.json_v1.first_order import first_order_entry
from bnaudit.render.json_v1.second_order import second_order_entry
from bnaudit.render.json_v1.statistics import statistics_entry
from bnaudit.render.json_v1.values import Json, Skips, array, metrics, nulls, number
from bnaudit.render.json_v1.weight_space import weight_space_entry

if TYPE_CHECKING:
    from bnaudit.records.layer import ChannelValues, Gain, LayerReport

GAIN = ("min", "median", "max", "fraction_le_1")


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
        "first_order": first_order_entry(layer.first_order, "first_order", skips),
        "second_order": second_order_entry(
            layer.second_order, "second_order", skips, channels=channels
        ),
        "weight_space": weight_space_entry(layer.weight_space, "weight_space", skips),
        "statistics": statistics_entry(layer, "statistics", skips, channels=channels),
        "channel_values": _channel_values(layer.channel_values, skips) if channels else None,
        "skipped": skips.entries,
    }


def _gain(gain: Gain | Skipped, path: str, skips: Skips) -> Json:
    if isinstance(gain, Skipped):
        return nulls(GAIN, gain, path, skips)
    values = (gain.minimum, gain.median, gain.maximum, gain.fraction_le_1)
    return metrics(dict(zip(GAIN, values, strict=True)), path, skips)


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
