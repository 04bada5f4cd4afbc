"""What bnaudit says, as objects that can print themselves, and be read back from their JSON."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

from bnaudit.errors import InputError
from bnaudit.files import content, opened
from bnaudit.records import inspection, recalibration, report, training

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnaudit.records.snapshot import Snapshot
    from bnaudit.records.wire.forms import Json

Found = TypeVar("Found")
T = TypeVar("T", bound="report.Report | inspection.InspectionReport")

HINT = "write one with `bnaudit check MODEL -o report.json`"
_TWO = "diff takes two reports (-o report.json), or two model files"
_START = 64
_LARGEST = 2**28
"""Bytes. A report of a thousand layers with all their channels has some 10 MB."""
_READ = ("bnaudit.report/1", "bnaudit.inspect/1")


class Document:
    """What the reports of all commands can do."""

    __slots__ = ()

    def to_json(self, *, channels: bool = False) -> str:
        """One strict JSON document of the schema that `bnaudit schema` prints.

        Args:
            channels: include the per-channel arrays, which an audit keeps where it is asked to
                (`bnaudit.audit(..., channels=True)`).
        """
        from bnaudit.render.json_v1 import document_text

        return document_text(self, channels=channels)

    def to_table(
        self,
        *,
        width: int = 100,
        color: bool = False,
        unicode: bool = True,
        verbose: bool = False,
    ) -> str:
        """The text that the command line prints.

        Args:
            width: columns to fit into (at least 60).
            color: whether to emit ANSI colour.
            unicode: whether letters and lines beyond ASCII may be used.
            verbose: list what is otherwise counted: suppressed findings, rules that did not run.
        """
        from bnaudit.render.text import document_to_text

        return document_to_text(self, width=width, color=color, unicode=unicode, verbose=verbose)


class Report(Document, report.Report):
    """One audit, of `bnaudit check` and `bnaudit.audit`."""

    __slots__ = ()

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that `to_json` wrote.

        What only --channels writes is missing where it was not written. A drift's excess over its interval,
        by channel, is in no document: a table of what was read back has no channels worth a look by drift.

        Raises:
            InputError: it is no such document.
        """
        return _read(cls, _parsed(text.encode(), "the report"), "the report")[0]


class InspectionReport(Document, inspection.InspectionReport):
    """One inspection, of `bnaudit inspect` and `bnaudit.inspect`."""

    __slots__ = ()


class Recalibration(Document, recalibration.Recalibration):
    """One recalibration, of `bnaudit recalibrate` and `bnaudit.recalibrate`."""

    __slots__ = ()


class TrendReport(Document, training.Trend):
    """One training run, of `bnaudit trend` and `bnaudit.trend`."""

    __slots__ = ()


def is_document(path: Path) -> bool:
    """Whether a file is JSON rather than a model, by how it begins.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with opened(path) as file:
            head = file.read(_START)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", hint=_TWO) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", hint=_TWO) from error
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in {b"{", b"["}


def read_snapshot(path: Path) -> Snapshot:
    """What a comparison needs of a report that `-o report.json` wrote.

    Args:
        path: of a document of schema `bnaudit.report/1` or `bnaudit.inspect/1`.

    Raises:
        InputError: no such file, no JSON, another schema, a key that is missing or of another type,
            or the report of an audit that did not finish.
    """
    try:
        raw = content(path, _LARGEST, renewable=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", hint=HINT) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", hint=HINT) from error
    return snapshot_from(raw, str(path))


def snapshot_from(raw: bytes, name: str) -> Snapshot:
    """The same of a document that was read.

    Args:
        raw: the document.
        name: of its file, for errors.

    Raises:
        InputError: see `read_snapshot`.
    """
    from bnaudit.compare.snapshot import snapshot_of
    from bnaudit.render.json_v1 import read_gains

    document = _parsed(raw, name)
    if document["schema"] == "bnaudit.inspect/1":
        inspected, version = _read(InspectionReport, document, name)
        return snapshot_of(inspected, name, version, _checked(read_gains, document, name))
    read, version = _read(Report, document, name)
    if read.failure is not None:
        raise InputError(
            f"{name}: the report of an audit that did not finish ({read.failure.message})",
            hint="there is nothing in it to compare with",
        )
    return snapshot_of(read, name, version)


def _read(cls: type[T], document: Json, name: str) -> tuple[T, str]:
    """A report, and the version of bnaudit that wrote it."""
    from bnaudit.render.json_v1 import read_document

    return _checked(partial(read_document, cls), document, name)


def _checked(reader: Callable[[Json], Found], document: Json, name: str) -> Found:
    from bnaudit.records.wire.read import MisfitError

    try:
        return reader(document)
    except MisfitError as wrong:
        raise InputError(f"{name}: not a whole report: {wrong}", hint=HINT) from None


def _parsed(raw: bytes, name: str) -> Json:
    def refuse(constant: str) -> NoReturn:
        raise InputError(f"{name}: not strict JSON: it has {constant}", hint=HINT)

    try:
        document = json.loads(raw.decode("utf-8-sig"), parse_constant=refuse)
    except UnicodeDecodeError:
        raise InputError(f"{name}: not a report: not UTF-8", hint=HINT) from None
    except json.JSONDecodeError as error:
        raise InputError(f"{name}:{error.lineno}: not valid JSON: {error.msg}", hint=HINT) from None
    except (RecursionError, ValueError):  # endless nesting, or a number of endless digits
        raise InputError(f"{name}: not a report: JSON of no sensible size", hint=HINT) from None
    if not isinstance(document, dict) or not isinstance(document.get("schema"), str):
        raise InputError(f"{name}: JSON, but not a report of bnaudit", hint=HINT)
    if document["schema"] not in _READ:
        raise InputError(
            f"{name}: has the schema {document['schema']!r}, not {' or '.join(_READ)}",
            hint="write both reports with the same version of bnaudit",
        )
    return document
