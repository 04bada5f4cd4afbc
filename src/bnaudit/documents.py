"""What bnaudit says, as objects that can print themselves, and be read back from their JSON."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from bnaudit.errors import InputError
from bnaudit.files import content, opened
from bnaudit.records import inspection, landscape, recalibration, report, training

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bnaudit.records.snapshot import Snapshot
    from bnaudit.records.wire.forms import Json
    from bnaudit.render.columns import View

Found = TypeVar("Found")
T = TypeVar("T", bound="report.Report | inspection.InspectionReport")

HINT = "write one with `bnaudit check MODEL -o report.json`"
_TWO = "diff takes two reports (-o report.json), or two model files"
_START = 64
_LARGEST = 2**28
"""Bytes. A report of a thousand layers with all their channels has some 10 MB."""
_READ = ("bnaudit.report/1", "bnaudit.inspect/1")


class Document:
    """What the reports of all commands can do.

    Attributes:
        document: its name in `bnaudit.render.formats.DOCUMENTS`.
        rows: the key of its JSON whose entries are the rows of a data frame.
    """

    __slots__ = ()
    document: ClassVar[str]
    rows: ClassVar[str] = "layers"

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
        columns: Sequence[str] = (),
        top: int | None = None,
        sort: str = "",
    ) -> str:
        """The text that the command line prints.

        Args:
            width: columns to fit into (at least 60).
            color: whether to emit ANSI colour.
            unicode: whether letters and lines beyond ASCII may be used.
            verbose: list what is otherwise counted: suppressed findings, rules that did not run.
            columns: names of the main table's columns, as for --columns.
            top: how many of its rows, None for all.
            sort: the column to sort it by, as for --sort.

        Raises:
            UsageError: there is no such column.
        """
        from bnaudit.render.text import document_to_text

        view = self._view(columns, top, sort)
        return document_to_text(
            self, width=width, color=color, unicode=unicode, verbose=verbose, view=view
        )

    def to_html(
        self,
        *,
        channels: bool = True,
        verbose: bool = False,
        columns: Sequence[str] = (),
        top: int | None = None,
        sort: str = "",
    ) -> str:
        """One page for a browser, with pictures, that fetches nothing.

        Args:
            channels: with numbers by channel, where the audit kept them (see `to_json`).
            verbose: list what is otherwise counted.
            columns: names of the main table's columns.
            top: how many of its rows, None for all.
            sort: the column to sort it by.

        Raises:
            UsageError: there is no such column, or the library that draws is not installed.
        """
        from bnaudit.render.html import document_to_html

        view = self._view(columns, top, sort)
        return document_to_html(self, verbose=verbose, channels=channels, view=view)

    def to_svg(self) -> str:
        """The main picture.

        Raises:
            UsageError: the library that draws is not installed.
        """
        from bnaudit.render.pictures import document_to_svg

        return str(document_to_svg(self))

    def to_frame(self) -> Any:
        """A row a layer and a column a number, as a data frame of pandas, or else of polars.

        The columns are the keys of the JSON's layers (a landscape's groups), joined by dots; arrays are not
        in it.

        Raises:
            UsageError: neither is installed.
        """
        from bnaudit.render.frame import frame_of

        return frame_of(json.loads(self.to_json())[self.rows])

    def _view(self, columns: Sequence[str], top: int | None, sort: str) -> View:
        from bnaudit.render.columns import View, column_of, order_of

        if top is not None and top < 1:
            from bnaudit.errors import UsageError

            raise UsageError(f"top is {top}", hint="1 or more rows are shown, or all without it")
        columns = columns.split(",") if isinstance(columns, str) else columns
        keys = tuple(column_of(self.document, key) for key in columns)
        return View(keys, top, order_of(self.document, sort) if sort else "")

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from bnaudit.render.html import document_to_frame

        return document_to_frame(self)

    def __repr__(self) -> str:
        """One line: which model, and what of it."""
        from bnaudit.render.oneline import line_of

        return f"<bnaudit.{type(self).__name__} {line_of(self)}>"


class Report(Document, report.Report):
    """One audit, of `bnaudit check` and `bnaudit.audit`."""

    __slots__ = ()
    document = "report"

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
    document = "inspect"


class Recalibration(Document, recalibration.Recalibration):
    """One recalibration, of `bnaudit recalibrate` and `bnaudit.recalibrate`."""

    __slots__ = ()
    document = "recalibration"


class Landscape(Document, landscape.Landscape):
    """One landscape, of `bnaudit landscape` and `bnaudit.landscape`."""

    __slots__ = ()

    document = "landscape"
    rows = "groups"


class TrendReport(Document, training.Trend):
    """One training run, of `bnaudit trend` and `bnaudit.trend`."""

    __slots__ = ()

    document = "trend"


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
