"""The JSON documents of version 1: written from records, read back, described by a schema.

All of them are strict JSON and pure ASCII: they survive any pipe, and a hostile layer name cannot reach a
terminal as an escape sequence.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from bnaudit._version import __version__
from bnaudit.judge.rule import RuleList
from bnaudit.records.diff import Diff
from bnaudit.records.finding import Severity
from bnaudit.records.fleet import Fleet, FleetRow
from bnaudit.records.initialisation import InitReport
from bnaudit.records.inspection import InspectionReport
from bnaudit.records.landscape import Landscape
from bnaudit.records.recalibration import Recalibration
from bnaudit.records.report import Report
from bnaudit.records.training import Trend, WatchRecord
from bnaudit.records.values import NOT_REQUESTED, Metric
from bnaudit.records.wire.forms import Form
from bnaudit.records.wire.read import MisfitError, read
from bnaudit.records.wire.schema import schema
from bnaudit.records.wire.write import write
from bnaudit.render.forms_v1 import FORMS, STARTS
from bnaudit.summary.gain import StoredGain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnaudit.records.wire.forms import Json

T = TypeVar("T", bound=Report | InspectionReport)


@dataclass(frozen=True, slots=True)
class Tool:
    """What wrote a document.

    Attributes:
        name: always bnaudit.
        version: of bnaudit.
    """

    name: Literal["bnaudit"]
    version: str


@dataclass(frozen=True, slots=True)
class Told:
    """What reports have beside their findings, and documents in their summary."""

    fail_on: Severity | None
    allow_no_bn: bool
    gradient_scale: Metric = NOT_REQUESTED


@dataclass(frozen=True, slots=True)
class Document:
    """One kind of document.

    Attributes:
        record: what it is written from.
        about: what it holds, a sentence for the schema.
        forms: how its records stand in it.
    """

    record: type
    about: str
    forms: Mapping[type, Form] = field(default_factory=lambda: FORMS)

    @property
    def title(self) -> str:
        """Name and version in documents."""
        known = {**DOCUMENTS, **LINES}
        return f"bnaudit.{next(name for name, kind in known.items() if kind is self)}/1"


DOCUMENTS = {
    "report": Document(
        Report,
        "One audit by bnaudit. Notation: x input and z output of a BatchNorm layer, G = dL/dz, g = dL/dx, m "
        "values per channel, sigma^2 = variance + eps, xhat = (x - mean)/sigma, leak = eps/sigma^2.",
    ),
    "inspect": Document(
        InspectionReport,
        "What a model file stores of its BatchNorm layers, read by bnaudit without running it.",
    ),
    "diff": Document(Diff, "What changed between two reports or two models, by bnaudit."),
    "init": Document(
        InitReport,
        "One comparison of a network's initial weights W0 with its trained weights W by bnaudit.",
        STARTS,
    ),
    "landscape": Document(
        Landscape,
        "The loss and its gradient along the gradient step, by bnaudit: the network with BatchNorm, and the "
        "same with the statistics of each batch frozen. g = dL/dw at the weights w; eta, r: see the points.",
    ),
    "recalibration": Document(
        Recalibration,
        "Running statistics computed again from data by bnaudit, and what they do to the network.",
    ),
    "trend": Document(Trend, "The BatchNorm layers of a network over a training run, by bnaudit."),
    "fleet": Document(Fleet, "Many models audited by bnaudit, worst first."),
    "fleet-row": Document(
        FleetRow,
        "One model of a fleet audited by bnaudit: a line of the file that --results names.",
    ),
    "rules": Document(
        RuleList,
        "The rules of bnaudit, as `bnaudit rules --json` and `bnaudit explain --json` write them.",
    ),
}
"""By the name that `bnaudit schema` takes."""

LINES = {
    "watch": Document(
        WatchRecord,
        "One training pass as bnaudit.watch saw it: a line of its file, a document by itself.",
    )
}
"""Documents of one line each, by the name that `bnaudit schema` takes."""

_SHAPE = (
    "Constant shape: every key is always present; a value that is not known is null, with its reason in the "
    "nearest `skipped`. Strict JSON: no NaN, no Infinity. Later versions of bnaudit may add keys; a key that "
    "goes or changes its meaning makes another version of this document."
)


def document_text(record: Any, *, channels: bool = False) -> str:
    """A record as one JSON document.

    Args:
        record: one of those in `DOCUMENTS`.
        channels: include values by channel.
    """
    return _text(_document(record, channels=channels))


def document_line(record: Any) -> bytes:
    """A record as one line of JSON Lines, with its end: the same document on one line."""
    text = json.dumps(_document(record), allow_nan=False, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def _document(record: Any, *, channels: bool = False) -> Json:
    kind = next(kind for kind in DOCUMENTS.values() if isinstance(record, kind.record))
    return {
        "schema": kind.title,
        "tool": {"name": "bnaudit", "version": __version__},
        **write(record, kind.forms, channels=channels),
    }


def read_row(document: Json) -> FleetRow:
    """The row that a line was written from, without its report.

    Raises:
        MisfitError: it is not one of its schema.
    """
    return read(FleetRow, document, FORMS)


def line_text(record: WatchRecord) -> str:
    """A record as one line of JSON, without its end."""
    kind = LINES["watch"]
    tool = {"name": "bnaudit", "version": __version__}
    whole = {"schema": kind.title, "tool": tool, **write(record, kind.forms)}
    return json.dumps(whole, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def read_line(document: Json) -> WatchRecord:
    """The record that a line was written from.

    Raises:
        MisfitError: it is not one of its schema.
    """
    kind = LINES["watch"]
    if document.get("schema") != kind.title:
        raise MisfitError("schema", f"has to be {kind.title}")
    return read(WatchRecord, document, kind.forms)


def read_document(cls: type[T], document: Json) -> tuple[T, str]:
    """The report that a document was written from, and the version of bnaudit that wrote it.

    Args:
        cls: `Report` or `InspectionReport`, or a class made from them.
        document: as `json` reads it.

    Raises:
        MisfitError: it is not one of its schema.
    """
    for key in ("tool", "summary", "layers"):
        if key not in document:
            raise MisfitError(key, "is missing")
    tool = read(Tool, document["tool"], FORMS)
    found: Any = read(cls, document, FORMS)
    # What the document tells with its summary the record has beside it.
    told = read(Told, document["summary"], {Told: Form(skipped=True)})
    beside: Any = {"fail_on": told.fail_on, "allow_no_bn": told.allow_no_bn}
    if issubclass(cls, Report):
        beside["gradient_scale"] = told.gradient_scale
    return replace(found, **beside), tool.version


def read_gains(document: Json) -> dict[str, StoredGain]:
    """|gamma|/sigma of the layers of an inspection, which follows from vectors that it need not hold.

    Args:
        document: one that `read_document` took.

    Raises:
        MisfitError: it is not one of its schema.
    """
    found = {}
    for index, layer in enumerate(document["layers"]):
        gain = layer.get("gain")
        if not isinstance(gain, dict):
            raise MisfitError(f"layers[{index}].gain", "is missing")
        if any(value is not None for value in gain.values()):
            found[layer["name"]] = read(StoredGain, gain, FORMS)
    return found


def schema_text(name: str = "report") -> str:
    """The JSON Schema (draft 2020-12) of a document, as text.

    Args:
        name: a key of `DOCUMENTS` or `LINES`.
    """
    kind = {**DOCUMENTS, **LINES}[name]
    made, tool = schema(kind.record, kind.forms), schema(Tool, {})
    properties = {
        "schema": {"description": "Name and version of this format.", "const": kind.title},
        "tool": {"description": "What wrote the document.", **tool},
        **made["properties"],
    }
    return _text(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:bnaudit:{name}:1",
            "title": kind.title,
            "description": f"{kind.about} {_SHAPE}",
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "$defs": made["$defs"],
        }
    )


def _text(document: Any) -> str:
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=True) + "\n"
