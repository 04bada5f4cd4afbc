"""A browser for all tests of pages, and pages for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.pages.browser import NAMES, Browser, executable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def started() -> Iterator[Browser]:
    """One for the session: starting it takes a second."""
    path = executable()
    if path is None:
        pytest.skip(f"no browser here (looked for {', '.join(NAMES)}); .ci/run installs one")
    browser = Browser(path)
    yield browser
    browser.close()


@pytest.fixture
def browser(started: Browser, tmp_path: Path) -> Callable[..., Browser]:
    """Opens a page of this text; whatever it logs, and whatever it asks a network for, is wrong."""

    def opened(text: str, **size: int) -> Browser:
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
        started.open(path, **size)
        assert started.requests == [path.as_uri()]
        assert started.errors == []
        return started

    return opened
