"""Defects put into trained networks are found: by the right rule, at the right layer and channels."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import TYPE_CHECKING, NamedTuple

import pytest

from bnaudit.records.finding import Severity

from .trained import NETS, at, everywhere, of, scaled, set_channels, set_values, trained

if TYPE_CHECKING:
    from bnaudit.records.inspection import BatchNormStatics

    from .trained import Change

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


def reset(bn: BatchNormStatics) -> BatchNormStatics:
    count = bn.channels or 0
    return replace(bn, running_mean=(0.0,) * count, running_var=(1.0,) * count)


def times_gamma(channel: int, factor: float) -> Change:
    def change(bn: BatchNormStatics) -> BatchNormStatics:
        gamma = bn.gamma or ()
        return set_channels("gamma", (channel,), factor * gamma[channel])(bn)

    return change


def seen(batches: int) -> Change:
    """What the statistics are when only so many batches were averaged into the initial ones."""

    def change(bn: BatchNormStatics) -> BatchNormStatics:
        left = 0.9**batches
        return replace(
            bn,
            batches_tracked=batches,
            running_mean=tuple((1 - left) * v for v in bn.running_mean or ()),
            running_var=tuple(left + (1 - left) * v for v in bn.running_var or ()),
        )

    return change


class Defect(NamedTuple):
    rule: str
    severity: Severity
    change: Change
    channels: tuple[int, ...] | None = None


DEAD = (1, 3, 5, 7, 9, 11, 13)

DEFECTS = {
    "training mode": Defect("BN004", ERROR, set_values(training=True)),
    "statistics reset": Defect("BN005", ERROR, reset),
    "NaN in gamma": Defect("BN006", ERROR, set_channels("gamma", (2,), nan), (2,)),
    "Inf in the variance": Defect("BN006", ERROR, set_channels("running_var", (4, 5), inf), (4, 5)),
    "NaN in the mean": Defect("BN006", ERROR, set_channels("running_mean", (0,), nan), (0,)),
    "negative variance": Defect("BN007", ERROR, set_channels("running_var", (1,), -0.2), (1,)),
    "rounded below zero": Defect("BN007", WARNING, set_channels("running_var", (1,), -1e-8), (1,)),
    "eps 0": Defect("BN008", WARNING, set_values(eps=0.0)),
    "eps negative": Defect("BN008", ERROR, set_values(eps=-1e-5)),
    "eps 1": Defect("BN008", WARNING, set_values(eps=1.0)),
    "dead channels": Defect("BN009", WARNING, set_channels("gamma", DEAD, 1e-9), DEAD),
    "a dead channel": Defect("BN009", INFO, set_channels("gamma", (4,), 1e-9), (4,)),
    "a channel switched off": Defect("BN009", WARNING, set_channels("gamma", (4,), 0.0), (4,)),
    "gamma exploded": Defect("BN010", WARNING, times_gamma(7, 60.0), (7,)),
    "variance collapsed at once": Defect("BN018", WARNING, scaled(1e-4)),
    "inverted momentum": Defect("BN012", WARNING, set_values(momentum=0.99)),
    "last batch only": Defect("BN012", WARNING, set_values(momentum=1.0)),
    "momentum 0": Defect("BN012", INFO, set_values(momentum=0.0)),
    "5 batches": Defect("BN013", WARNING, seen(5)),
    "30 batches": Defect("BN013", INFO, seen(30)),
    "dropout": Defect("BN015", INFO, set_values(preceded_by="Dropout")),
    "behind another": Defect("BN016", WARNING, set_values(preceded_by="BatchNormalization")),
}


@pytest.mark.parametrize("name", DEFECTS)
@pytest.mark.parametrize("net", NETS)
def test_a_defect_is_found_at_its_layer(net: str, name: str) -> None:
    defect = DEFECTS[name]
    for place, bn in enumerate(trained(net).batchnorms):
        found = [f for f in of(defect.rule, at(net, place, defect.change)) if f.layer == bn.name]
        assert defect.severity in {f.severity for f in found}, bn.name
        if defect.channels is not None:
            assert defect.channels in {f.channels for f in found}


@pytest.mark.parametrize("name", DEFECTS)
def test_where_all_layers_have_it_the_model_does(name: str) -> None:
    defect = DEFECTS[name]
    found = of(defect.rule, everywhere("digits_resnet", defect.change))
    assert [f.layer for f in found] == [None]
    assert found[0].severity is defect.severity
    assert "all 10 BatchNorm layers" in found[0].message


@pytest.mark.parametrize("name", DEFECTS)
def test_a_small_network_has_a_finding_a_layer(name: str) -> None:
    found = of(DEFECTS[name].rule, everywhere("tabular_mlp", DEFECTS[name].change))
    assert {f.layer for f in found} == {bn.name for bn in trained("tabular_mlp").batchnorms}


@pytest.mark.parametrize("gamma", [0.0, 1e-12])
def test_a_dead_layer_is_an_error(gamma: float) -> None:
    healthy = trained("digits_resnet").batchnorms[3]
    count = healthy.channels or 0
    (found,) = of("BN009", at("digits_resnet", 3, set_values(gamma=(gamma,) * count)))
    assert (found.severity, found.layer) == (ERROR, healthy.name)
    assert found.channels == tuple(range(count))


def test_one_exploded_gamma_does_not_make_the_others_look_dead() -> None:
    sick = at("digits_resnet", 2, times_gamma(0, 1e5))
    assert [f.channels for f in of("BN010", sick)] == [(0,)]
    assert of("BN009", sick) == []


def test_caffe_statistics_are_told_of_the_model() -> None:
    def caffe(bn: BatchNormStatics) -> BatchNormStatics:
        return replace(
            bn,
            running_mean=tuple(999.98 * v for v in bn.running_mean or ()),
            running_var=tuple(999.98 * v for v in bn.running_var or ()),
        )

    (found,) = of("BN017", everywhere("digits_resnet", caffe))
    assert found.severity is WARNING
    assert found.layer is None
    assert "suggested" in found.confidence
