"""`bnaudit trend`: the checkpoints of a run in, |gamma|/sigma over time out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bnaudit.cli.configured import tell_notes
from bnaudit.cli.limits import limited
from bnaudit.cli.options import Command, FileName, options_of
from bnaudit.cli.present import present, presentation_of
from bnaudit.cli.progress import shown
from bnaudit.cli.streams import stdout_reserved

if TYPE_CHECKING:
    from bnaudit.runs.measured import Measuring

_TYPED = ("layers", "format", "output", "batches", "data", "labels")
"""Options that have a meaning of their own here: a variable is set for audits."""


class _OwnOption(click.Option):
    heading = "Run"


_OWN = (
    _OwnOption(
        ["--code"],
        metavar="MODULE:FACTORY",
        help="Run each checkpoint: the network's code (package.module:factory or file.py:factory), with "
        "the checkpoint as its weights.",
    ),
    _OwnOption(
        ["--as-given"],
        is_flag=True,
        help="The files are in the order of the run, whatever numbers they have.",
    ),
)


@click.command(
    "trend",
    cls=Command,
    short_help="Follow a training run.",
    params=[*_OWN, *options_of("trend", typed=_TYPED)],
    examples=(
        "bnaudit trend runs/resnet",
        "bnaudit trend 'runs/checkpoint-*/model.safetensors' -o trend.json",
        "bnaudit trend watched.jsonl --layers 'layer4.*'",
        "bnaudit trend runs/*.pt --code package.nets:resnet --data batch.npz",
    ),
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=FileName("run"))
def command(runs: tuple[str, ...], **given: Any) -> int:
    """Follow the BatchNorm layers of a network over the checkpoints of a training run.

    RUN is a folder, a pattern, or files: what `bnaudit inspect` reads, and what `bnaudit.watch` wrote. They
    are ordered by the step or epoch that they store or have in their names. What is stored is read without
    the network's code; with --code, or --data and files that can be run, they are measured too.
    """
    tell_notes(quiet=given["quiet"])
    presentation = presentation_of("trend", given, runs)
    from bnaudit.cli.execute import quiet_libraries

    with limited(given), stdout_reserved(), quiet_libraries(given["verbose"]):
        from bnaudit.trending import Asked, trended

        asked = Asked(given["layers"], given["entry"], given["as_given"], _measuring(given))
        with shown(presentation.progress) as progress:
            report = trended(runs, asked, progress)
    present(report, presentation)
    return 0


def _measuring(given: dict[str, Any]) -> Measuring | None:
    """How checkpoints are run, where they are."""
    if given["code"] is None and not given["data"]:
        return None
    from bnaudit.cli.check import audit_options
    from bnaudit.runs.measured import Measuring

    return Measuring(given["code"], audit_options(given))
