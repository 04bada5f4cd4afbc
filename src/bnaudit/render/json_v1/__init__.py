"""Schema `bnaudit.report/1`: a change of shape or meaning is a new version beside it."""

from bnaudit.render.json_v1.document import report_to_json

__all__ = ["report_to_json"]
