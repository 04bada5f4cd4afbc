"""Whatever a report holds: strict valid JSON, and text that fits and cannot harm a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from bnaudit.render.json_v1 import document_text
from bnaudit.render.text import document_to_text

from .strategies import REPORT
from .test_json_v1 import VALIDATOR, strict

if TYPE_CHECKING:
    from bnaudit.records.report import Report

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@SETTINGS
@given(report=REPORT, channels=st.booleans())
def test_json_is_strict_and_valid(report: Report, channels: bool) -> None:
    VALIDATOR.validate(strict(document_text(report, channels=channels)))


@SETTINGS
@given(report=REPORT, width=st.integers(60, 200), unicode=st.booleans())
def test_text_fits_and_is_printable(report: Report, width: int, unicode: bool) -> None:
    text = document_to_text(report, width=width, unicode=unicode)
    assert unicode or text.isascii()
    # Not splitlines: a line separator that slipped through would hide behind it.
    for line in text.split("\n"):
        assert cell_len(line) <= width
        assert line == line.rstrip(" ")
        assert all(char.isprintable() or char.isspace() for char in line)
    assert "\x1b" not in text
    assert "\r" not in text


@SETTINGS
@given(report=REPORT)
def test_a_document_is_the_same_every_time(report: Report) -> None:
    assert document_text(report) == document_text(report)
    assert document_to_text(report) == document_to_text(report)
