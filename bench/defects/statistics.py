"""Defects of running statistics: stored values that do not belong to these weights or this data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bench.defects.cases import Defect, recompute

if TYPE_CHECKING:
    from bench.defects.cases import Change, Subject

_ANY = ("mean-drift", "variance-drift")
_MEAN = ("mean-drift",)
_VARIANCE = ("variance-drift",)


def shifted(layer: str, sigmas: float, channels: slice | list[int] = slice(None)) -> Change:
    """Running means off by so many sigma."""

    def change(case: Subject) -> None:
        mean, var = case.stored(layer)
        mean[channels] += sigmas * var[channels].sqrt()

    return change


def scaled(layer: str, factor: float, channels: slice | list[int] = slice(None)) -> Change:
    """Running variances off by a factor."""

    def change(case: Subject) -> None:
        case.stored(layer)[1][channels] *= factor

    return change


def _square_root(layer: str) -> Change:
    def change(case: Subject) -> None:
        case.stored(layer)[1].sqrt_()

    return change


def _inverse_sigma(layer: str) -> Change:
    def change(case: Subject) -> None:
        case.stored(layer)[1].rsqrt_()

    return change


def _negated_means(layer: str) -> Change:
    def change(case: Subject) -> None:
        case.stored(layer)[0].neg_()

    return change


def _swapped(one: str, other: str) -> Change:
    def change(case: Subject) -> None:
        for a, b in zip(case.stored(one), case.stored(other), strict=True):
            kept = a.clone()
            a.copy_(b)
            b.copy_(kept)

    return change


def _rotated(layer: str) -> Change:
    """Statistics in another order than the weights' channels."""

    def change(case: Subject) -> None:
        for t in case.stored(layer):
            t.copy_(t.roll(1))

    return change


def _fresh_means(layer: str) -> Change:
    def change(case: Subject) -> None:
        case.stored(layer)[0].zero_()

    return change


def _grown(conv: str, factor: float) -> Change:
    """Weights that went on after the statistics were taken."""

    def change(case: Subject) -> None:
        case.weight(conv).mul_(factor)

    return change


def _corrupted(conv: str) -> Change:
    def change(case: Subject) -> None:
        generator = torch.Generator().manual_seed(0)
        weight = case.weight(conv)
        weight.copy_(torch.randn(weight.shape, generator=generator) * weight.std())

    return change


def _of_other_weights(share: float) -> Change:
    """Every layer's statistics, from weights that differ by noise: an average of checkpoints, say."""

    def change(case: Subject) -> None:
        generator = torch.Generator().manual_seed(0)
        kept = {name: p.clone() for name, p in case.net.named_parameters() if p.dim() > 1}
        for name, p in case.net.named_parameters():
            if name in kept:
                p.add_(share * p.std() * torch.randn(p.shape, generator=generator))
        recompute(case)
        for name, p in case.net.named_parameters():
            if name in kept:
                p.copy_(kept[name])

    return change


def _of_scaled(factor: float) -> Change:
    """Statistics of inputs in another range."""
    return lambda case: recompute(case, factor * case.x)


def _of_one_class(case: Subject) -> None:
    recompute(case, case.x[case.labels == 1])


def _of_noise(case: Subject) -> None:
    """Statistics calibrated on random inputs."""
    recompute(case, torch.randn(case.x.shape, generator=torch.Generator().manual_seed(0)))


DEFECTS = (
    Defect(
        "one running mean off by 4 sigma",
        "conv",
        ("bns.2",),
        _MEAN,
        shifted("bns.2", 4.0, [5]),
    ),
    Defect("all means off by 1 sigma", "conv", ("bns.1",), _MEAN, shifted("bns.1", 1.0)),
    Defect(
        "a quarter of the means off by -2 sigma",
        "depthwise",
        ("blocks.1.bn2",),
        _MEAN,
        shifted("blocks.1.bn2", -2.0, slice(0, 9)),
    ),
    Defect(
        "means of the last layer reset to 0",
        "preactivation",
        ("bn",),
        (*_MEAN, "statistics-at-init"),
        _fresh_means("bn"),
    ),
    Defect("means negated", "sequence", ("bn1",), _MEAN, _negated_means("bn1")),
    Defect("one mean off by 1.5 sigma", "tabular", ("bn2",), _MEAN, shifted("bn2", 1.5, [7])),
    Defect("means off by 0.5 sigma", "autoencoder", ("bn2",), _MEAN, shifted("bn2", 0.5)),
    Defect("variances 16 times too large", "conv", ("bns.3",), _VARIANCE, scaled("bns.3", 16.0)),
    Defect(
        "one variance 20 times too small",
        "sequence",
        ("bn2",),
        _VARIANCE,
        scaled("bn2", 0.05, [3]),
    ),
    Defect(
        "one variance 20 times too large",
        "raw_features",
        ("body.1",),
        _VARIANCE,
        scaled("body.1", 20.0, [3]),
    ),
    Defect(
        "three variances 8 times too large",
        "concat",
        ("bns.2",),
        _VARIANCE,
        scaled("bns.2", 8.0, [0, 9, 20]),
    ),
    Defect(
        "variances halved", "depthwise", ("blocks.0.bn1",), _VARIANCE, scaled("blocks.0.bn1", 0.5)
    ),
    Defect("sigma stored as variance", "conv", ("bns.2",), _VARIANCE, _square_root("bns.2")),
    Defect(
        "1/sigma stored as variance",
        "autoencoder",
        ("bn3",),
        _ANY,
        _inverse_sigma("bn3"),
    ),
    Defect(
        "two layers' statistics swapped", "sequence", ("bn1", "bn2"), _ANY, _swapped("bn1", "bn2")
    ),
    Defect(
        "two distant layers' statistics swapped",
        "preactivation",
        ("block1.bn1", "block2.bn2"),
        _ANY,
        _swapped("block1.bn1", "block2.bn2"),
    ),
    Defect(
        "channels in another order", "depthwise", ("blocks.2.bn1",), _ANY, _rotated("blocks.2.bn1")
    ),
    Defect("channels in another order", "tabular", ("bn1",), _ANY, _rotated("bn1")),
    Defect("weights grown by half since", "conv", ("bns.1",), _ANY, _grown("convs.1", 1.5)),
    Defect(
        "weights shrunk to a third since",
        "depthwise",
        ("blocks.1.bn3",),
        _VARIANCE,
        _grown("blocks.1.project", 1 / 3),
    ),
    Defect(
        "weights overwritten by noise",
        "preactivation",
        ("block2.bn2",),
        _ANY,
        _corrupted("block2.conv1"),
    ),
    Defect("weights overwritten by noise", "conv", ("bns.2",), _ANY, _corrupted("convs.2")),
    Defect("statistics of other weights", "conv", ("bns.0",), _ANY, _of_other_weights(0.5)),
    Defect("statistics of other weights", "tabular", ("bn1",), _ANY, _of_other_weights(0.7)),
    Defect(
        "one variance 6,000 times too small",
        "conv",
        ("bns.1",),
        _VARIANCE,
        scaled("bns.1", 1 / 6000, [5]),
    ),
    Defect(
        "three variances 64,000 times too small",
        "depthwise",
        ("blocks.1.bn2",),
        _VARIANCE,
        scaled("blocks.1.bn2", 1 / 64000, [1, 7, 30]),
    ),
    Defect(
        "one variance 10,000 times too small",
        "tabular",
        ("bn3",),
        _VARIANCE,
        scaled("bn3", 1e-4, [2]),
    ),
    Defect("one mean off by 2 sigma", "sequence", ("bn3",), _MEAN, shifted("bn3", -2.0, [11])),
    Defect(
        "one variance 64,000 times too large",
        "preactivation",
        ("block3.bn2",),
        _VARIANCE,
        scaled("block3.bn2", 64000.0, [3]),
    ),
    Defect("calibrated on one class", "sequence", ("bn1",), _ANY, _of_one_class),
    Defect("calibrated on 0..255", "conv", ("bns.0",), _ANY, _of_scaled(255.0)),
    Defect("calibrated on 0..1/255", "depthwise", ("bn",), _ANY, _of_scaled(1 / 255)),
    Defect("calibrated on noise", "concat", ("bns.0",), _ANY, _of_noise),
)
