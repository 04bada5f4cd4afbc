"""The pictures of a landscape, as specifications and drawn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bnaudit.render.figures import figures_of
from bnaudit.render.figures.draw import as_file, missing

from . import landscape_samples as samples

if TYPE_CHECKING:
    from bnaudit.render.figures.figure import Figure


def drawn(name: str) -> list[Figure]:
    return figures_of(samples.ALL[name]())


def rows(figure: Figure, **wanted: object) -> list[Any]:
    return [r for r in figure.rows if all(r[key] == value for key, value in wanted.items())]


def test_a_row_for_every_step_of_every_walk() -> None:
    walks, layers = drawn("smoother")
    assert len(walks.rows) == 2 * 2 * len(samples.STEPS)
    (one,) = rows(walks, form="raw", of="statistics frozen", step=0.03)
    assert (one["loss"], one["change"], one["beta"]) == pytest.approx((0.084, 2.88, 120.0))
    assert (one["beta_low"], one["beta_high"]) == pytest.approx((96.0, 180.0))
    panels = [panel for row in walks.spec["vconcat"] for panel in row["hconcat"]]
    assert len(panels) == 6
    assert [row["ratio"] for row in layers.rows] == pytest.approx([7.5, 7.5, 7.5])
    assert [row["of"] for row in layers.rows] == [
        "in front of a BatchNorm",
        "gamma and beta",
        "other",
    ]
    assert "12.0 with BatchNorm, 180 frozen" in walks.alt


def test_what_is_not_finite_is_marked_and_no_number() -> None:
    walks, layers = drawn("overflowing")
    json.dumps([walks.spec, layers.spec], allow_nan=False)
    (last,) = rows(walks, of="with BatchNorm", step=1.0)
    assert last["loss"] is None
    assert "loss not finite" in last["about"]
    # The layer that does not move has no ratio.
    assert [row["name"] for row in layers.rows] == ["layer1.0.conv1", "fc"]
    assert "no step is finite in both networks" in drawn("unequal")[0].alt


@pytest.mark.skipif(missing() is not None, reason="vl-convert-python is not installed")
@pytest.mark.parametrize("name", samples.ALL)
def test_they_can_be_drawn(name: str) -> None:
    walks, *_ = drawn(name)
    text = as_file(walks, png=False)
    assert isinstance(text, str)
    assert text.count("✗") == {"smoother": 0, "overflowing": 9, "unequal": 18}[name]
