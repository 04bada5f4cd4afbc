"""`bnaudit diff`: two reports or models in, what changed out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bnaudit.cli import common
from bnaudit.cli.check import audit_options
from bnaudit.cli.check import command as check
from bnaudit.cli.configured import configuration, configured, settled, tell_notes
from bnaudit.cli.streams import (
    color_wanted,
    stdout_reserved,
    table_width,
    unicode_stdout,
    write_stdout,
)
from bnaudit.errors import InputError, UsageError

if TYPE_CHECKING:
    from bnaudit.cli.params import Output
    from bnaudit.records.diff import Diff
    from bnaudit.records.inspection import Inspection
    from bnaudit.records.snapshot import Snapshot

_FORMATS = ("table", "json")
_OWN_OUTPUT = ("format", "output", "baseline", "channels")
"""Keys of the configuration that speak of reports, not of comparisons."""

_ALSO_STATIC = {"layers", "select", "ignore", "fail_on", "color", "progress", "quiet", "verbose"}
"""Options that mean something without a run."""

_NOT_HERE = {"models", "baseline", "allow_no_bn", "channels", "stdout_format", "outputs"}


@click.command("diff", short_help="Compare two reports, or two models.")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--run",
    is_flag=True,
    help="Audit models as check does, with the options below (each of which implies it). Default: "
    "read them without running them, as inspect does.",
)
@click.option(
    "--frozen",
    metavar="GLOB",
    multiple=True,
    help="These layers must not have moved: any change of their stored values fails. Repeatable.",
)
@click.option(
    "--format",
    "stdout_format",
    type=click.Choice([*_FORMATS, "none"]),
    default="table",
    show_default=True,
    help="What goes to stdout.",
)
@common.outputs
@configured(without=_OWN_OUTPUT)
def command(old: Path, new: Path, **given: Any) -> int:
    """Compare OLD with NEW: reports that `-o report.json` wrote, or model files.

    Findings that appeared, went, got worse or better; layers added, removed, renamed; numbers that changed
    by more than their spread; and, between two models, how far stored parameters and statistics moved.
    Exits with 1 for new or worse findings at or above --fail-on; a removed layer counts as a warning.

    \b
      bnaudit diff old.json new.json
      bnaudit diff pretrained.pt finetuned.pt --frozen 'backbone.*'
      bnaudit diff old.onnx new.onnx --data batch.npz --fail-on warning
    """  # noqa: D301  # \b is the character by which click keeps lines as they are
    tell_notes(configuration(), quiet=given["quiet"])
    given = settled(given)
    for output in given["outputs"]:
        if output.format not in _FORMATS:
            raise UsageError(f"{output.path}: diff writes .json and .txt only")
    diff = _compared(old, new, given)
    _present(diff, given)
    return diff.exit_code


command.params += [
    param
    for param in check.params
    if param.name not in _NOT_HERE | {p.name for p in command.params}
]


def _compared(old: Path, new: Path, given: dict[str, Any]) -> Diff:
    from bnaudit.compare.diff import compare
    from bnaudit.compare.read import is_document, read_snapshot

    documents = {path: read_snapshot(path) for path in (old, new) if is_document(path)}
    kinds = {document.kind for document in documents.values()}
    audits = _run_wanted(given) or "audit" in kinds
    read = _audited if audits else _inspected
    sides = [documents.get(path) or read(path, given) for path in (old, new)]
    return compare(
        sides[0],
        sides[1],
        fail_on=common.FAIL_ON.get(given["fail_on"]),
        stored=None if documents else _stored(old, new, needed=not audits),
        frozen=given["frozen"],
    )


def _run_wanted(given: dict[str, Any]) -> bool:
    """--run, or a typed option that only a run has a use for."""
    ctx = click.get_current_context()
    of_a_run = {p.name for p in check.params} - _ALSO_STATIC - _NOT_HERE
    typed = (n for n in of_a_run if n and n in given)
    return given["run"] or any(
        ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in typed
    )


def _audited(path: Path, given: dict[str, Any]) -> Snapshot:
    """The model's audit; what stops it stops the comparison."""
    from bnaudit.cli.execute import load_and_audit, quiet_libraries
    from bnaudit.cli.progress import shown
    from bnaudit.compare.read import snapshot_of

    with stdout_reserved(), quiet_libraries(given["verbose"]):
        options = audit_options(
            {**given, "channels": False, "allow_no_bn": False, "baseline": None}
        )
        with shown(given["progress"] and not given["quiet"]) as progress:
            progress.stage(f"loading {path.name}")
            report, error = load_and_audit(str(path), options, progress)
    if error is not None:
        raise error
    return snapshot_of(json.loads(report.to_json()), str(path))


def _inspected(path: Path, given: dict[str, Any]) -> Snapshot:
    from bnaudit.compare.read import snapshot_of
    from bnaudit.config.policy import policy_of
    from bnaudit.inspecting import inspect

    select, ignore = common.joined(given["select"]), common.joined(given["ignore"])
    policy = policy_of(configuration(), select, ignore)
    report = inspect(path, layers=given["layers"], policy=policy)
    return snapshot_of(json.loads(report.to_json()), str(path))


def _stored(old: Path, new: Path, *, needed: bool) -> tuple[Inspection, Inspection] | None:
    """What both files store; audits can do without."""
    from bnaudit.inspection import inspect_file

    try:
        return inspect_file(old), inspect_file(new)
    except InputError:
        if needed:
            raise
        return None


def _present(diff: Diff, given: dict[str, Any]) -> None:
    failed: UsageError | None = None
    outputs: tuple[Output, ...] = given["outputs"]
    for output in outputs:
        text = _text(diff, output.format)
        try:
            output.path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            failed = UsageError(
                f"{output.path}: cannot be written ({error.strerror})",
                hint="name another file for it",
            )
    wanted = given["stdout_format"]
    if wanted != "none":
        color = color_wanted(given["color"])
        style = {"width": table_width(), "color": color, "unicode": unicode_stdout()}
        write_stdout(_text(diff, wanted, **style))
    if failed is not None:
        raise failed


def _text(diff: Diff, name: str, **style: Any) -> str:
    if name == "json":
        from bnaudit.render.diff_json_v1 import diff_to_json

        return diff_to_json(diff)
    from bnaudit.render.text import diff_to_text

    return diff_to_text(diff, **style)
