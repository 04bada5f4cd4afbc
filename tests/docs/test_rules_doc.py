"""docs/rules.md is what the rules say of themselves."""

from __future__ import annotations

import re
from pathlib import Path

from bnaudit.judge.catalogue import catalogue
from bnaudit.judge.rules import RULES
from bnaudit.render.markdown import document_to_markdown

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")


def anchors(page: str) -> set[str]:
    """The anchors that a Markdown renderer makes of headings."""
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_it_is_up_to_date() -> None:
    assert document_to_markdown(catalogue()) == PAGE, (
        "bnaudit rules --format markdown > docs/rules.md"
    )


def test_every_rule_has_a_section_and_a_row() -> None:
    for rule in RULES:
        assert PAGE.count(f"\n## {rule.id} {rule.name}\n") == 1
        assert PAGE.count(f"\n| [{rule.id}](#") == 1


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", PAGE)
    assert len(links) > len(RULES)
    for target, anchor in links:
        page = (ROOT / "docs" / target).read_text(encoding="utf-8") if target else PAGE
        assert anchor in anchors(page), anchor


def test_tables_have_one_width() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        rows = [re.sub(r"\\\|", "", row).count("|") for row in table.splitlines()]
        assert len(set(rows)) == 1, table.splitlines()[0]
