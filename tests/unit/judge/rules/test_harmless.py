"""What leaves a healthy network's function as it was gives no warning and no error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bnaudit.records.finding import Severity

from .trained import (
    NETS,
    at,
    channel_scaled,
    everywhere,
    flipped,
    judged,
    permuted,
    scaled,
    set_values,
    trained,
)

if TYPE_CHECKING:
    from .trained import Change

CHANGES: dict[str, Change] = {
    "weights x4": scaled(4),
    "weights x1/4": scaled(0.25),
    "weights x100": scaled(100),
    "weights and eps x16": scaled(4, with_eps=True),
    "weights and eps x1/16": scaled(0.25, with_eps=True),
    "channel x0.03": channel_scaled(3, 0.03),
    "channel x30": channel_scaled(3, 30),
    "channels permuted": permuted,
    "signs flipped": flipped,
    "float64": set_values(dtype="float64"),
    "bfloat16": set_values(dtype="bfloat16"),
    "no affine": set_values(gamma=None, beta=None),
    "no counter": set_values(batches_tracked=None),
    "counter reset": set_values(batches_tracked=0),
    "eps not stored": set_values(eps=None, momentum=None, training=None),
    "no graph": set_values(feeder=None, preceded_by=None),
}


@pytest.mark.parametrize("net", NETS)
def test_trained_networks_are_clean(net: str) -> None:
    assert judged(trained(net)) == []


@pytest.mark.parametrize("net", NETS)
def test_a_counter_below_zero_is_no_number_of_batches(net: str) -> None:
    """Files are what they are: (1 - momentum)^-1 at momentum 1 has no value."""
    found = judged(everywhere(net, set_values(batches_tracked=-1, momentum=1.0)))
    assert {finding.rule for finding in found} == {"BN012"}


@pytest.mark.parametrize("batches", [4, 8, 15, 29])
@pytest.mark.parametrize("net", NETS)
def test_recomputed_statistics_are_clean(net: str, batches: int) -> None:
    """update_bn leaves the number of its batches in every layer, and averages without the start."""
    assert judged(everywhere(net, set_values(batches_tracked=batches)), Severity.WARNING) == []


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("net", NETS)
def test_harmless_changes_are_clean_everywhere(net: str, name: str) -> None:
    assert judged(everywhere(net, CHANGES[name]), Severity.WARNING) == []


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("net", NETS)
def test_harmless_changes_are_clean_at_one_layer(net: str, name: str) -> None:
    for place in range(len(trained(net).batchnorms)):
        assert judged(at(net, place, CHANGES[name]), Severity.WARNING) == [], place
