"""A document of every kind, and audits of many layers."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from bnaudit.records.layer import ChannelValues
from tests.unit.compare.test_diff import everything as difference
from tests.unit.initialisation.samples import with_run
from tests.unit.render import (
    inspect_samples,
    landscape_samples,
    recalibration_samples,
    samples,
)
from tests.unit.render.sick import sick

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.documents import Report

DOCUMENTS: dict[str, Callable[[], Any]] = {
    "audit": samples.everything,
    "sick": sick,
    "hostile": samples.hostile,
    "not-run": samples.not_run,
    "no-batchnorm": samples.no_batchnorm,
    "stopped": samples.stopped_midway,
    "not-finite": samples.not_finite,
    "drifted": samples.drifted,
    "inspection": inspect_samples.sick,
    "inspection-hostile": inspect_samples.hostile,
    "folded": inspect_samples.folded,
    "init": with_run,
    "diff": difference,
    "landscape": landscape_samples.smoother,
    "landscape-overflowing": landscape_samples.overflowing,
    "recalibration": recalibration_samples.averaged_weights,
}


def deep(layers: int) -> Report:
    """An audit of so many layers, each with all that an audit can measure."""
    report = samples.everything()
    repeated = [
        replace(layer, name=f"stage{n}.{layer.name}")
        for n in range(-(-layers // len(report.layers)))
        for layer in report.layers
    ]
    return replace(report, layers=tuple(repeated[:layers]))


def by_channel(report: Report, channels: int) -> Report:
    """The same with arrays of so many channels in each layer, all of them different."""
    names = [field.name for field in fields(ChannelValues)]
    layers = []
    for n, layer in enumerate(report.layers):
        arrays = {
            name: tuple(1 / (1 + n + 7 * k + 0.123 * c) ** 3 for c in range(channels))
            for k, name in enumerate(names)
        }
        layers.append(replace(layer, channels=channels, channel_values=ChannelValues(**arrays)))
    return replace(report, layers=tuple(layers))


def renamed(report: Report, name: str) -> Report:
    """The same audit of a file that calls everything as it likes."""
    layers = tuple(
        replace(layer, name=name + str(n), origin=name) for n, layer in enumerate(report.layers)
    )
    findings = tuple(
        replace(f, layer=name + "0" if f.layer else None, message=name, fix=name)
        for f in report.findings
    )
    model = replace(report.model, path=name, producer=name, notes=(name,))
    return replace(report, layers=layers, findings=findings, model=model)
