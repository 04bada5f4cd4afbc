"""`bnaudit init`: two files in, the better-initialisation lemma out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click

from bnaudit.cli.check import audit_options
from bnaudit.cli.configured import tell_notes
from bnaudit.cli.limits import limited
from bnaudit.cli.options import Command, FileName, options_of
from bnaudit.cli.present import present, presentation_of
from bnaudit.cli.progress import shown
from bnaudit.cli.streams import stdout_reserved

_TYPED = ("layers", "format", "output")
"""Options that have a meaning of their own here: a variable is set for audits."""


class _OwnOption(click.Option):
    heading = "Comparison"


@click.command(
    "init",
    cls=Command,
    short_help="Compare a trained network with its start.",
    params=[
        _OwnOption(["--all"], is_flag=True, help="Compare biases and other 1-D parameters too."),
        _OwnOption(
            ["--no-run"], is_flag=True, help="Do not run TRAINED: no scale-invariance test."
        ),
        *options_of("init", typed=_TYPED),
    ],
    examples=(
        "bnaudit init epoch_0.pt epoch_90.pt",
        "bnaudit init epoch_0.pt model.onnx --data batch.npz --format json",
    ),
)
@click.argument("start", type=FileName("file", Path))
@click.argument("trained", type=FileName("file", Path))
def command(start: Path, trained: Path, **given: Any) -> int:
    """Compare START, a network's initial weights, with TRAINED, what training made of them.

    Checkpoints, safetensors, ONNX and TorchScript files, told apart by content; the two may differ in
    format. Before a BatchNorm W and kW, k > 0, are the same function: some point of the ray of W is
    nearer to the start than W. Where TRAINED can be run, scale invariance itself is measured.
    """
    tell_notes(quiet=given["quiet"])
    presentation = presentation_of("init", given, (start, trained))
    with limited(given), stdout_reserved(), warnings.catch_warnings():
        if given["verbose"] < 2:
            warnings.simplefilter("ignore")
        from bnaudit.load.sniff import sniff

        for path in (start, trained):
            sniff(path)  # a wrong file is told in milliseconds, not after the import of torch
        options = audit_options(given)
        from bnaudit.initialisation import compare

        with shown(given["progress"] and not given["quiet"]) as progress:
            report = compare(
                start, trained, options, progress, every=given["all"], run=not given["no_run"]
            )
    present(report, presentation)
    return 0
