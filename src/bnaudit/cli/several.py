"""One command over several models, as pre-commit and shells name them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.cli.streams import say_error
from bnaudit.errors import BnauditError, UsageError
from bnaudit.render.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnaudit.cli.present import Presentation


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
        UsageError: there are several, and an option is of one.
    """
    if len(models) == 1:
        return one(models[0], presentation)
    wanted = presentation.stdout_format
    refused = (
        (bool(presentation.outputs), "--output takes the report of one model"),
        (baseline, "--baseline is the report of one model"),
        (
            wanted != "none" and FORMATS[wanted].whole,
            f"--format {wanted} is a document of one model",
        ),
    )
    for here, fact in refused:
        if here:
            hint = "name one model a command (--no-config, where a configuration says so)"
            raise UsageError(f"{fact}, and several are named", hint=hint)
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
