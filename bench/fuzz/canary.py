"""What hostile files of the campaign try to call. A reader that calls anything leaves a file behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FIRED = "CANARY"


def fire(*_: Any) -> dict[str, Any]:
    """Leaves its mark in the working directory."""
    Path(FIRED).touch()
    return {}


class Armed:
    """An object whose pickle says to call `fire`."""

    def __reduce__(self) -> Any:
        return fire, ("x",)
