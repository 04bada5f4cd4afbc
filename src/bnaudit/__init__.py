"""Audit what BatchNorm does to the gradients of a trained model, layer by layer.

>>> import bnaudit
>>> report = bnaudit.audit(model, data=x, labels=y)   # doctest: +SKIP
>>> print(report.to_table())                          # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnaudit._version import __version__

if TYPE_CHECKING:
    from bnaudit.documents import InspectionReport, Landscape, Recalibration, Report, TrendReport
    from bnaudit.errors import BnauditError
    from bnaudit.inspecting import inspect
    from bnaudit.landscaping import landscape
    from bnaudit.options import AuditOptions
    from bnaudit.pipeline import audit
    from bnaudit.recalibrating import RefusedError, recalibrate
    from bnaudit.trending import trend
    from bnaudit.watching import Watch, watch

__all__ = [
    "AuditOptions",
    "BnauditError",
    "InspectionReport",
    "Landscape",
    "Recalibration",
    "RefusedError",
    "Report",
    "TrendReport",
    "Watch",
    "__version__",
    "audit",
    "inspect",
    "landscape",
    "recalibrate",
    "trend",
    "watch",
]

_HOMES = {
    "AuditOptions": "bnaudit.options",
    "BnauditError": "bnaudit.errors",
    "InspectionReport": "bnaudit.documents",
    "Landscape": "bnaudit.documents",
    "Recalibration": "bnaudit.documents",
    "RefusedError": "bnaudit.recalibrating",
    "Report": "bnaudit.documents",
    "TrendReport": "bnaudit.documents",
    "Watch": "bnaudit.watching",
    "audit": "bnaudit.pipeline",
    "inspect": "bnaudit.inspecting",
    "landscape": "bnaudit.landscaping",
    "recalibrate": "bnaudit.recalibrating",
    "trend": "bnaudit.trending",
    "watch": "bnaudit.watching",
}


def __getattr__(name: str) -> Any:
    """Imports on first use: `import bnaudit` and `bnaudit --help` do not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'bnaudit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
