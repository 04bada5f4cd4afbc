"""Pages without a browser: what is on them, and that nothing of the model's file can add to them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from bnaudit.records.layer import ChannelValues
from bnaudit.render.html import document_to_frame, document_to_html
from tests.pages.samples import DOCUMENTS, by_channel, deep, renamed
from tests.unit.render import samples
from tests.unit.render.sick import sick

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'onmouseover='alert(1)",
    "--></style><svg onload=alert(1)>{{script}}",
    "&lt;b&gt;\u202e\x1b[31m\ud800",
    "' + alert(1) + '\\",
)


class Structure(HTMLParser):
    """The elements of a page, with the names of their attributes; and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", HOSTILE)
def test_names_add_no_element_and_no_attribute(name: str) -> None:
    plain = document_to_html(renamed(sick(), "layer"), channels=True)
    page = document_to_html(renamed(sick(), name), channels=True)
    found, wanted = Structure(page), Structure(plain)
    # How a label is cut into lines is the picture's business.
    strip = [e for e in found.elements if e[0] not in {"tspan", "text"}]
    assert strip == [e for e in wanted.elements if e[0] not in {"tspan", "text"}]
    assert not any(a.startswith("on") for _, attributes in found.elements for a in attributes)
    assert sum(tag == "script" for tag, _ in found.elements) == 2
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", page)


def test_the_structure_would_show_an_element() -> None:
    assert Structure("<p title='a'><img src=x onerror=y>").elements[1] == (
        "img",
        ("src", "onerror"),
    )


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_document_has_a_page(name: str) -> None:
    page = document_to_html(DOCUMENTS[name](), channels=True)
    assert page == document_to_html(DOCUMENTS[name](), channels=True)
    found = Structure(page)
    assert sum(tag == "h1" for tag, _ in found.elements) == 1
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all("scope" in names for tag, names in found.elements if tag == "th")
    pictures = [names for tag, names in found.elements if tag == "svg"]
    assert all({"role", "aria-label"} <= set(names) for names in pictures)
    assert "NaN" not in page.partition("<section")[2].partition("<script")[0].replace("nan", "")
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"|http-equiv', "", page)


def test_the_verdict_and_the_findings_come_first() -> None:
    page = document_to_html(sick())
    places = [page.index(text) for text in ("<h1>", "FAIL", ">Findings<", ">Pictures<", ">Layers<")]
    assert places == sorted(places)
    text = Structure(page).text
    for finding in sick().findings:
        assert finding.message in text
        assert finding.fix in text


def test_the_table_has_every_layer_whole_and_every_number() -> None:
    report = deep(500)
    page = document_to_html(report)
    for layer in report.layers:
        assert f'<th scope="row">{layer.label}</th>' in page
    assert len(set(re.findall('<tr id="(r[0-9]+)" data-label="stage', page))) == 500
    # To three digits, with the value itself beside it for sorting.
    layer = report.layers[0]
    measured = layer.first_order.measured.median  # type: ignore[union-attr]
    assert f'data-v="{measured:.6g}">{measured:.3g}<' in page


def test_numbers_by_channel_are_there_on_demand() -> None:
    report = by_channel(samples.everything(), 3)

    def values(page: str) -> dict[str, dict[str, list[float]]]:
        text = re.search('id="channels">(.*?)</script>', page)
        assert text is not None
        found: dict[str, dict[str, list[float]]] = json.loads(text[1])
        return found

    assert values(document_to_html(report)) == {}
    found = values(document_to_html(report, channels=True))["r0"]
    kept = report.layers[0].channel_values
    assert isinstance(kept, ChannelValues)
    assert found["|γ|/σ batch"] == [float(f"{value:.4g}") for value in kept.gain_batch]
    assert found["|g|"] == [float(f"{value:.4g}") for value in kept.grad_in_norm]
    # Where there are too many numbers the first titles are kept, for all layers.
    much = values(document_to_html(by_channel(deep(200), 256), channels=True))
    assert len(much) == 200
    assert all({"|γ|/σ batch", "|g|/|G| measured"} <= columns.keys() for columns in much.values())
    assert not any("σ" in columns for columns in much.values())


def test_a_page_in_a_notebook_is_a_frame_of_its_own() -> None:
    frame = document_to_frame(sick())
    found = Structure(frame)
    assert [tag for tag, _ in found.elements] == ["iframe"]
    assert found.elements[0][1] == ("sandbox", "title", "style", "srcdoc")
    assert "allow-same-origin" not in frame.partition("srcdoc")[0]


def test_without_the_library_a_notebook_has_all_but_the_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bnaudit.render.figures.draw.find_spec", lambda name: None)
    frame = document_to_frame(sick())
    assert "pip install &amp;#x27;bnaudit[report]&amp;#x27;" in frame
    assert "&lt;svg" not in frame
