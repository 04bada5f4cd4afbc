"""Columns, order and number of rows of a document's main table, as a person asks for them."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from bnaudit.errors import UsageError
from bnaudit.render.columns import ALL, COLUMNS, View, column_of, order_of
from bnaudit.render.html import document_to_html
from bnaudit.render.markdown import document_to_markdown
from bnaudit.render.text import document_to_text
from tests.unit.initialisation.samples import with_run
from tests.unit.render import inspect_samples, recalibration_samples, samples
from tests.unit.render.sick import sick

MODULES = {
    "report": "layers",
    "inspect": "inspection",
    "init": "initialisation",
    "recalibration": "recalibration",
}
SAMPLES = {
    "report": samples.everything,
    "inspect": inspect_samples.sick,
    "init": with_run,
    "recalibration": recalibration_samples.averaged_weights,
}


@pytest.mark.parametrize("document", COLUMNS)
def test_every_column_is_listed(document: str) -> None:
    module = import_module(f"bnaudit.render.text.{MODULES[document]}")
    names = tuple(dict.fromkeys(column.name for column in module._COLUMNS))
    assert names == COLUMNS[document]
    assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in names)


@pytest.mark.parametrize("document", COLUMNS)
def test_every_column_can_be_asked_for_and_sorted_by(document: str) -> None:
    record, width = SAMPLES[document](), 60
    whole = document_to_text(record, width=width)
    for key in COLUMNS[document]:
        text = document_to_text(record, width=width, view=View((key,), None, key))
        assert text.splitlines()[:3] == whole.splitlines()[:3]
        assert len(text.splitlines()) <= len(whole.splitlines()) + 4
    document_to_text(record, width=width, view=View(COLUMNS[document]))
    assert document_to_text(record, width=width, view=View()) == whole


def rows(text: str) -> list[list[str]]:
    """The cells of the first table."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line and set(line) == {"─"}) + 1
    return [line.split() for line in lines[start : lines.index("", start)]]


def test_numbers_fall_and_names_rise_unless_it_is_said() -> None:
    report = samples.everything()
    measured = {
        layer.label: layer.first_order.measured.median  # type: ignore[union-attr]
        for layer in report.layers
    }

    def shown(sort: str, top: int | None = None) -> list[str]:
        text = document_to_text(report, view=View(("measured",), top, sort))
        return [cells[0] for cells in rows(text) if cells[0] in measured]

    falling = sorted(measured, key=lambda name: -measured[name])
    assert shown("measured") == shown("measured:down") == falling
    assert shown("measured:up") == falling[::-1]
    assert shown("layer") == sorted(measured)
    assert shown("layer:down") == sorted(measured, reverse=True)
    assert shown("", 3) == list(measured)[:3]
    assert shown("measured", 2) == falling[:2]
    text = document_to_text(report, view=View((), 2, ""))
    assert "and 8 more (all in the JSON)" in text


def test_what_has_no_value_is_last_either_way() -> None:
    report = sick()
    without = {layer.label for layer in report.layers if not layer.measured}
    for sort in ("measured:up", "measured:down"):
        text = document_to_text(report, width=200, view=View((), None, sort))
        table = text.partition("─\n")[2].partition("\n\n")[0]
        labels = [re.sub("^[EW ] ", "", line).split()[0] for line in table.splitlines()]
        last = labels[-len(without) :]
        assert set(last) == without


def test_the_columns_asked_for_are_there_in_any_width_and_order() -> None:
    keys = ("own", "leak", "mean_drift", "gain")
    for width in (60, 200):
        lines = document_to_text(samples.everything(), width=width, view=View(keys)).splitlines()
        titles = next(line for line in lines if line.startswith("  layer"))
        assert titles.split() == ["layer", "own", "leak", "mean", "median"]


def test_markdown_and_html_show_the_same() -> None:
    for record, key in ((samples.everything(), "own"), (inspect_samples.healthy(), "eps")):
        keys = View(("gain", key), 2, "gain")
        markdown = document_to_markdown(record, view=keys)
        cells = [line for line in markdown.splitlines() if line.startswith("| `")]
        assert len(cells) == 2
        page = document_to_html(record, view=keys)
        table = page.partition("<tbody>")[2].partition("</tbody>")[0]
        names = re.findall('<th scope="row">([^<]*)', table)
        assert [line.split("`")[1] for line in cells] == [name.strip() for name in names]
        assert "more" in markdown
        assert "more (all in the JSON)" in page
    assert "| layer |" not in document_to_markdown(inspect_samples.healthy(), view=ALL)


def test_what_there_is_not_is_said() -> None:
    with pytest.raises(UsageError, match="no column 'mesured', did you mean 'measured'"):
        column_of("report", "mesured")
    with pytest.raises(UsageError, match=r"no order 'upwards' \(there are: up, down\)"):
        order_of("report", "gain:upwards")
    with pytest.raises(UsageError, match="no column 'k'"):
        samples.everything().to_table(columns=["k"])
    assert samples.everything().to_table(columns=["gain"], top=1, sort="gain:up").count("\n") > 5
