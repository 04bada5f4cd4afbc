"""Values that training never gave: one statistic at its initial value, placeholders, infinities."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bnaudit.judge.examples import inspection as examples
from bnaudit.records.finding import Finding, Severity

from .trained import of

N = examples.CHANNELS
ZEROS, ONES = (0.0,) * N, (1.0,) * N


def sole(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"running_mean": ZEROS}, "running_mean is exactly 0"),
        ({"running_var": ONES}, "running_var is exactly 1"),
    ],
)
def test_one_statistic_at_its_initial_value(
    values: dict[str, tuple[float, ...]], said: str
) -> None:
    found = sole(of("BN005", examples.changed("block1.bn", **values)))
    assert (found.layer, found.severity) == ("block1.bn", Severity.ERROR)
    assert said in found.message


def test_three_channels_may_agree_by_chance() -> None:
    layer = replace(
        examples.statics("block1.bn"),
        channels=3,
        gamma=(1.0, 0.9, 1.1),
        beta=(0.0, 0.1, 0.2),
        running_mean=(0.0, 0.0, 0.0),
        running_var=(0.5, 0.4, 0.3),
    )
    assert of("BN005", replace(examples.inspection(), batchnorms=(layer,))) == []


def test_gamma_at_infinity_is_not_dead() -> None:
    infinite = (float("inf"),) * N
    assert of("BN009", examples.changed("block1.bn", gamma=infinite)) == []


def test_placeholders_do_not_lower_what_a_usual_gamma_is() -> None:
    placeholder = (0.02,) * N
    subject = examples.everywhere(gamma=placeholder, beta=placeholder)
    gamma = (1e-4, 1e-4, *((0.3,) * (N - 2)))
    layer = replace(examples.statics("block1.bn"), gamma=gamma)
    layers = tuple(layer if bn.name == "block1.bn" else bn for bn in subject.batchnorms)
    assert sole(of("BN009", replace(subject, batchnorms=layers))).channels == (0, 1)
