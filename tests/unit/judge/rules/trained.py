"""The trained networks of `fixtures/` as inspections, and functions that change their layers."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bnaudit.judge.verdicts import judge_inspection
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import BatchNormStatics, Feeder, Inspection

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.records.finding import Finding

    Change = Callable[[BatchNormStatics], BatchNormStatics]

FIXTURES = Path(__file__).parents[4] / "fixtures"
NETS = ("digits_resnet", "tabular_mlp")


@cache
def trained(net: str, state: str = "state_dict.pt") -> Inspection:
    """What a scripted file of the network stores."""
    weights = torch.load(FIXTURES / net / state, weights_only=True)
    names = [key.removesuffix(".running_var") for key in weights if key.endswith("running_var")]
    return Inspection(net, "torchscript", batchnorms=tuple(_layer(weights, n) for n in names))


def _layer(weights: dict[str, torch.Tensor], name: str) -> BatchNormStatics:
    gamma, beta, mean, variance = (
        tuple(weights[f"{name}.{part}"].double().tolist())
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return BatchNormStatics(
        name,
        name,
        len(gamma),
        eps=1e-5,
        momentum=0.1,
        training=False,
        batches_tracked=int(weights[f"{name}.num_batches_tracked"]),
        dtype="float32",
        gamma=gamma,
        beta=beta,
        running_mean=mean,
        running_var=variance,
        feeder=Feeder(f"{name}.weight", "Conv", bias=False, sole_reader=True),
        preceded_by="Conv",
    )


def everywhere(net: str, change: Change) -> Inspection:
    """The network with every layer changed."""
    whole = trained(net)
    return replace(whole, batchnorms=tuple(change(bn) for bn in whole.batchnorms))


def at(net: str, place: int, change: Change) -> Inspection:
    """The network with one layer changed."""
    layers = list(trained(net).batchnorms)
    layers[place] = change(layers[place])
    return replace(trained(net), batchnorms=tuple(layers))


def judged(inspection: Inspection, least: Severity = Severity.INFO) -> list[Finding]:
    """Findings of at least this severity."""
    return [f for f in judge_inspection(inspection).findings if f.severity >= least]


def of(rule: str, inspection: Inspection) -> list[Finding]:
    """Findings of one rule."""
    return [f for f in judged(inspection) if f.rule == rule]


def scaled(k: float, *, with_eps: bool = False) -> Change:
    """The layer after its incoming weights were multiplied by k, statistics included."""

    def change(bn: BatchNormStatics) -> BatchNormStatics:
        return replace(
            bn,
            running_mean=tuple(k * v for v in bn.running_mean or ()),
            running_var=tuple(k * k * v for v in bn.running_var or ()),
            eps=(bn.eps or 0.0) * (k * k if with_eps else 1),
        )

    return change


def channel_scaled(channel: int, k: float) -> Change:
    """The same for the weights of one channel."""

    def change(bn: BatchNormStatics) -> BatchNormStatics:
        factor = [k if c == channel else 1.0 for c in range(bn.channels or 0)]
        mean, variance = bn.running_mean or (), bn.running_var or ()
        return replace(
            bn,
            running_mean=tuple(f * v for f, v in zip(factor, mean, strict=True)),
            running_var=tuple(f * f * v for f, v in zip(factor, variance, strict=True)),
        )

    return change


def permuted(bn: BatchNormStatics) -> BatchNormStatics:
    """The layer with its channels in another order."""
    order = list(range(bn.channels or 0))
    random.Random(0).shuffle(order)  # noqa: S311

    def moved(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if values is None else tuple(values[c] for c in order)

    return replace(
        bn,
        gamma=moved(bn.gamma),
        beta=moved(bn.beta),
        running_mean=moved(bn.running_mean),
        running_var=moved(bn.running_var),
    )


def flipped(bn: BatchNormStatics) -> BatchNormStatics:
    """The layer after the weights of every other channel changed their sign, compensated by gamma."""

    def signed(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if values is None else tuple(v if c % 2 else -v for c, v in enumerate(values))

    return replace(bn, gamma=signed(bn.gamma), running_mean=signed(bn.running_mean))


def set_values(**values: object) -> Change:
    """A change that sets fields."""
    return lambda bn: replace(bn, **values)  # type: ignore[arg-type]  # fields by name


def set_channels(part: str, channels: tuple[int, ...], value: float) -> Change:
    """A change that sets one array in some channels."""

    def change(bn: BatchNormStatics) -> BatchNormStatics:
        kept = list(getattr(bn, part))
        for channel in channels:
            kept[channel] = value
        return set_values(**{part: tuple(kept)})(bn)

    return change
