"""One command over several models, as pre-commit and shells name them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.cli.streams import say_error
from bnaudit.errors import BnauditError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnaudit.cli.present import Presentation

_DOCUMENTS = ("json", "sarif", "junit")
"""Formats in which two reports one after the other are no document."""


def each(
    models: Sequence[str],
    one: Callable[[str, Presentation], int],
    presentation: Presentation,
    *,
    baseline: bool,
) -> int:
    """Runs a command for each model; the highest exit code counts.

    Args:
        models: as typed; a model that cannot be read does not keep the others from their report.
        one: presents one model's report and returns its exit code.
        presentation: where reports go.
        baseline: whether an earlier report is compared with.

    Raises:
        BnauditError: the only model cannot be read.
        UsageError: there are several, and an option is of one; or two reports would go to one file.
    """
    _refuse_one_file_twice(presentation)
    if len(models) == 1:
        return one(models[0], presentation)
    _refuse_options_of_one(presentation, baseline=baseline)
    worst = 0
    for model in models:
        try:
            code = one(model, presentation)
            presentation = replace(presentation, follows=True)
        except BnauditError as error:
            say_error(error.message, error.hint)
            code = error.exit_code
        worst = max(worst, code)
    return worst


def _refuse_one_file_twice(presentation: Presentation) -> None:
    paths = [output.path for output in presentation.outputs]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(
                f"--output names {path} twice", hint="a file holds one format: name another file"
            )


def _refuse_options_of_one(presentation: Presentation, *, baseline: bool) -> None:
    wanted = presentation.stdout_format
    refused = (
        (bool(presentation.outputs), "--output takes the report of one model"),
        (baseline, "--baseline is the report of one model"),
        (wanted in _DOCUMENTS, f"--format {wanted} is a document of one model"),
    )
    for here, fact in refused:
        if here:
            hint = "name one model a command (--no-config, where a configuration says so)"
            raise UsageError(f"{fact}, and several are named", hint=hint)
