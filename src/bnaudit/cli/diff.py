"""`bnaudit diff`: two reports or models in, what changed out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bnaudit.cli.check import audit_options
from bnaudit.cli.configured import config_options, configuration, settled, tell_notes
from bnaudit.cli.limits import limited
from bnaudit.cli.options import Command, FileName, options_of
from bnaudit.cli.present import present, presentation_of
from bnaudit.cli.streams import stdout_reserved
from bnaudit.config.options import BY_PARAMETER, OPTIONS
from bnaudit.errors import InputError

if TYPE_CHECKING:
    from bnaudit.records.diff import Diff
    from bnaudit.records.inspection import Inspection
    from bnaudit.records.snapshot import Snapshot

_OWN_OUTPUT = ("format", "output")
"""Options that speak of reports, not of comparisons, where they are not typed."""


class _OwnOption(click.Option):
    heading = "Comparison"


@click.command(
    "diff",
    cls=Command,
    short_help="Compare two reports, or two models.",
    params=[
        _OwnOption(
            ["--run"],
            is_flag=True,
            help="Audit models as check does, with the options below (each of which implies it). "
            "Default: read them without running them, as inspect does.",
        ),
        _OwnOption(
            ["--frozen"],
            metavar="GLOB",
            multiple=True,
            help="These layers must not have moved: any change of their stored values fails. Repeatable.",
        ),
        *options_of("diff", typed=_OWN_OUTPUT),
        *config_options(typed=_OWN_OUTPUT),
    ],
    examples=(
        "bnaudit diff old.json new.json",
        "bnaudit diff pretrained.pt finetuned.pt --frozen 'backbone.*'",
        "bnaudit diff old.onnx new.onnx --data batch.npz --fail-on warning",
    ),
)
@click.argument("old", type=FileName("file", Path))
@click.argument("new", type=FileName("file", Path))
def command(old: Path, new: Path, **given: Any) -> int:
    """Compare OLD with NEW: reports that `-o report.json` wrote, or model files.

    Findings that appeared, went, got worse or better; layers added, removed, renamed; numbers that changed
    by more than their spread; and, between two models, how far stored parameters and statistics moved.
    Exits with 1 for new or worse findings at or above --fail-on; a removed layer counts as a warning.
    """
    tell_notes(quiet=given["quiet"])
    given = settled(given)
    presentation = presentation_of("diff", given, (old, new))
    with limited(given):
        diff = _compared(old, new, given)
    present(diff, presentation)
    return diff.exit_code


def _compared(old: Path, new: Path, given: dict[str, Any]) -> Diff:
    from bnaudit.compare.diff import compare
    from bnaudit.documents import is_document, read_snapshot

    documents = {path: read_snapshot(path) for path in (old, new) if is_document(path)}
    ctx = click.get_current_context()
    of_a_run = {
        o.parameter for o in OPTIONS if "diff" in o.commands and "inspect" not in o.commands
    }
    typed = (n for n in of_a_run if ctx.get_parameter_source(str(n)) is ParameterSource.COMMANDLINE)
    audits = given["run"] or any(typed) or "audit" in {d.kind for d in documents.values()}
    read = _audited if audits else _inspected
    sides = [documents.get(path) or read(path, given) for path in (old, new)]
    return compare(
        sides[0],
        sides[1],
        fail_on=BY_PARAMETER["fail_on"].accept(given["fail_on"]),
        stored=None if documents else _stored(old, new, needed=not audits),
        frozen=given["frozen"],
    )


def _audited(path: Path, given: dict[str, Any]) -> Snapshot:
    """The model's audit; what stops it stops the comparison."""
    from bnaudit.cli.execute import load_and_audit, quiet_libraries
    from bnaudit.cli.progress import shown
    from bnaudit.compare.snapshot import snapshot_of

    with stdout_reserved(), quiet_libraries(given["verbose"]):
        options = audit_options(given)
        with shown(given["progress"] and not given["quiet"]) as progress:
            progress.stage(f"loading {path.name}")
            report, error = load_and_audit(str(path), options, progress)
    if error is not None:
        raise error
    return snapshot_of(report, str(path))


def _inspected(path: Path, given: dict[str, Any]) -> Snapshot:
    from bnaudit.compare.snapshot import snapshot_of
    from bnaudit.config.policy import policy_of
    from bnaudit.inspecting import inspect

    policy = policy_of(configuration(), given["select"], given["ignore"])
    report = inspect(path, layers=given["layers"], policy=policy)
    return snapshot_of(report, str(path))


def _stored(old: Path, new: Path, *, needed: bool) -> tuple[Inspection, Inspection] | None:
    """What both files store; audits can do without."""
    from bnaudit.inspection import inspect_file

    try:
        return inspect_file(old), inspect_file(new)
    except InputError:
        if needed:
            raise
        return None
