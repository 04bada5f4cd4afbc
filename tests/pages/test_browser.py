"""Pages in a browser: nothing is logged, nothing is fetched, and what can be pressed works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bnaudit.records.layer import ChannelValues
from bnaudit.render.html import document_to_frame, document_to_html
from tests.pages.samples import DOCUMENTS, by_channel, deep, renamed
from tests.unit.render import samples
from tests.unit.render.sick import sick

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.pages.browser import Browser

    Opened = Callable[..., Browser]

HEADER = "[...document.querySelectorAll('thead th')].find((th) => th.textContent === '{}')"
COLUMN = (
    "(() => {{ const th = {}; const rows = [...th.closest('table').tBodies[0].rows]; "
    "return rows.map((row) => row.cells[th.cellIndex]?.textContent ?? null); }})()"
)
# WCAG 2: contrast of every piece of text against what is painted behind it.
CONTRAST = """(() => {
  const parse = (text) => (text.match(/[0-9.]+/g) ?? []).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  let worst = [99, ""];
  for (const element of document.querySelectorAll("main *, footer *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(parse(ink)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, element.outerHTML.slice(0, 200)];
  }
  return worst;
})()"""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_page_is_quiet(browser: Opened, name: str) -> None:
    page = browser(document_to_html(DOCUMENTS[name](), channels=True))
    assert page.run("document.documentElement.dataset.ready") == ""


@pytest.mark.parametrize("name", ["</script><script>document.title = 'x'</script>", "<img src=x>"])
def test_names_stay_names(browser: Opened, name: str) -> None:
    page = browser(document_to_html(renamed(sick(), name), channels=True))
    assert page.run("document.title") == "bnaudit check"
    assert page.run("document.images.length") == 0
    assert page.run("document.querySelector('tbody th').firstChild.data.trim()") == f"{name}0"


def numbers(cells: list[str | None]) -> list[float]:
    return [float(cell) for cell in cells if cell and cell[0].isdigit()]


def test_a_column_is_sorted_by_its_header(browser: Opened) -> None:
    page = browser(document_to_html(sick()))
    head = HEADER.format("median")
    order = page.run(COLUMN.format(head))
    page.run(f"{head}.querySelector('button').click()")
    assert page.run(f"{head}.getAttribute('aria-sort')") == "descending"
    falling = page.run(COLUMN.format(head))
    assert numbers(falling) == sorted(numbers(order), reverse=True) != numbers(order)
    assert not falling[-1][0].isdigit()  # what has no number is last
    page.run(f"{head}.querySelector('button').click()")
    rising = page.run(COLUMN.format(head))
    assert numbers(rising) == sorted(numbers(order))
    assert not rising[-1][0].isdigit()
    page.run(f"{head}.querySelector('button').click()")
    assert page.run(COLUMN.format(head)) == order
    assert page.run(f"{head}.getAttribute('aria-sort')") == "none"


def test_numbers_are_sorted_as_numbers_however_they_are_written(browser: Opened) -> None:
    page = browser(document_to_html(samples.everything()))
    head = HEADER.format("ρ")
    page.run(f"{head}.querySelector('button').click()")
    found = page.run(COLUMN.format(head))
    assert [float(cell) for cell in found] == sorted(map(float, found), reverse=True)
    assert any("e-05" in cell for cell in found)


def test_the_keyboard_is_enough(browser: Opened) -> None:
    page = browser(document_to_html(samples.everything()))
    head = HEADER.format("measured")
    page.run(f"{head}.querySelector('button').focus()")
    page.press("Enter")
    assert page.run(f"{head}.getAttribute('aria-sort')") == "descending"
    seen = set()
    page.run("document.activeElement.blur()")
    for _ in range(60):
        page.press("Tab")
        seen.add(page.run("document.activeElement.tagName + document.activeElement.className"))
    assert {"INPUT", "BUTTON", "DIVtable"} <= seen
    # Where it is, is seen.
    page.run(f"{head}.querySelector('button').focus()")
    style = f"getComputedStyle({head}.querySelector('button')).outlineStyle"
    assert page.run(style) != "none"


def test_rows_are_found(browser: Opened) -> None:
    page = browser(document_to_html(samples.everything()))
    page.run("document.querySelector('input').value = 'layer2 SHORTCUT'")
    page.run("document.querySelector('input').dispatchEvent(new Event('input'))")
    shown = "[...document.querySelectorAll('tbody')][0].querySelectorAll('tr:not([hidden]) th')"
    assert page.run(f"[...{shown}].map((th) => th.textContent)") == ["layer2.0.shortcut.bn"]
    assert page.run("document.querySelector('[aria-live]').textContent") == "1 of 10 rows"


def test_a_finding_leads_to_its_row_and_a_mark_too(browser: Opened) -> None:
    page = browser(document_to_html(sick()))
    page.run("document.querySelector('.findings a').click()")
    target = "document.querySelector('tr:target')"
    label = page.run("document.querySelector('.findings a').textContent")
    assert page.run(f"{target}.dataset.label") == label
    mark = "document.querySelector('.plot path[aria-label]')"
    said = page.run(f"{mark}.getAttribute('aria-label')")
    page.run(f"{mark}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")
    found = page.run("document.querySelector('tr.found').dataset.label")
    assert said.startswith(f"{found} — |γ|/σ median ")
    page.run(f"{mark}.dispatchEvent(new PointerEvent('pointermove', {{bubbles: true}}))")
    assert page.run("document.getElementById('tip').textContent") == said
    assert page.run("document.getElementById('tip').hidden") is False


def test_channels_open_and_close(browser: Opened) -> None:
    report = by_channel(samples.everything(), 5)
    page = browser(document_to_html(report, channels=True))
    page.run("document.querySelector('tbody button').click()")
    kept = report.layers[0].channel_values
    assert isinstance(kept, ChannelValues)
    cells = "[...document.querySelectorAll('dialog tbody td:nth-child(2)')]"
    found = page.run(f"{cells}.map((td) => Number(td.textContent))")
    assert found[:5] == [float(f"{value:.4g}") for value in kept.gain_batch]
    page.press("Escape")
    assert page.run("document.querySelector('dialog').open") is False


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["sick", "audit", "inspection", "diff", "recalibration"])
def test_text_is_read_in_light_and_dark(browser: Opened, name: str, scheme: str) -> None:
    page = browser(document_to_html(DOCUMENTS[name](), channels=True))
    page.media(scheme)
    ratio, where = page.run(CONTRAST)
    assert 4.5 <= ratio < 22, where  # AA; 21 is black on white
    dark = page.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark is (scheme == "dark")


def test_on_paper_it_is_dark_on_white_and_whole(browser: Opened) -> None:
    page = browser(document_to_html(sick()))
    page.media("dark", "print")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    ratio, where = page.run(CONTRAST)
    assert ratio >= 4.5, where
    assert page.run("getComputedStyle(document.querySelector('.tools')).display") == "none"
    assert page.run("getComputedStyle(document.querySelector('.table')).overflow") == "visible"


@pytest.mark.parametrize("width", [320, 768])
def test_a_narrow_page_scrolls_its_tables_and_not_itself(browser: Opened, width: int) -> None:
    page = browser(document_to_html(sick(), channels=True), width=width)
    assert page.run("document.documentElement.scrollWidth") <= width


def test_a_notebook_shows_it_as_it_is(browser: Opened) -> None:
    before = "<!DOCTYPE html><style>table {color: rgb(1, 2, 3)}</style><table><tr><td>mine</table>"
    page = browser(before + document_to_frame(sick()))
    assert page.run("getComputedStyle(document.querySelector('td')).color") == "rgb(1, 2, 3)"
    assert page.run("document.querySelectorAll('table').length") == 1


def test_many_layers_are_no_burden(browser: Opened) -> None:
    text = document_to_html(by_channel(deep(200), 256), channels=True)
    assert len(text.encode()) <= 2_500_000
    # Of the processor: the clock would measure what else the machine does.
    page = browser("<!DOCTYPE html>")
    before = page.busy()
    page = browser(text)
    assert page.run("document.documentElement.dataset.ready") == ""
    assert 0 < page.busy() - before < 1
    page = browser(document_to_html(deep(500)))
    before = page.busy()
    page.run(f"{HEADER.format('measured')}.querySelector('button').click()")
    page.run("document.body.offsetHeight")
    page.run("document.querySelector('input').dispatchEvent(new Event('input'))")
    assert page.busy() - before < 1
