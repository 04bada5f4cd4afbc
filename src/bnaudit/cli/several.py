"""One command over several models, as pre-commit and shells name them, or as they lie in a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnaudit.cli.present import present_several
from bnaudit.cli.streams import say_error
from bnaudit.errors import BnauditError, UsageError
from bnaudit.records.run import Failure
from bnaudit.records.several import Entry, Several
from bnaudit.render.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnaudit.cli.present import Presentation

SUFFIXES = {
    "check": (".onnx", ".pt", ".pth", ".pt2"),
    "inspect": (
        *(".onnx", ".pt", ".pth", ".pt2", ".ckpt", ".safetensors"),
        *(".pdparams", ".keras", ".h5", ".hdf5", ".xml"),
    ),
}
"""Of the files that a command takes out of a folder; a file that is named may be called as it likes."""


def each(
    models: Sequence[str],
    one: Callable[[str, Presentation], int],
    presentation: Presentation,
    *,
    command: str,
    baseline: bool,
) -> int:
    """Runs a command for each model; the highest exit code counts.

    Args:
        models: as typed; a model that cannot be read does not keep the others from their report.
        one: presents one model's report and returns its exit code.
        presentation: where reports go.
        command: "check" or "inspect".
        baseline: whether an earlier report is compared with.

    Raises:
        BnauditError: the only model cannot be read.
        UsageError: there are several, and an option is of one; or a folder has no model.
    """
    found = [path for model in models for path in _in(model, command)]
    if len(found) == 1:
        return one(found[0], presentation)
    _allowed(presentation, baseline=baseline)
    entries = []
    for model in found:
        reports: list[Any] = []
        failure = None
        try:
            code = one(model, replace(presentation, outputs=(), reports=reports))
        except BnauditError as error:
            say_error(error.message, error.hint)
            code, failure = error.exit_code, Failure(error.message, error.hint, error.exit_code)
        entries.append(Entry(model, reports[0] if reports else None, failure, code))
        presentation = replace(presentation, follows=presentation.follows or bool(reports))
    several = Several(command, tuple(entries))
    present_several(several, presentation)
    return several.exit_code


def _in(model: str, command: str) -> list[str]:
    """The model, or the files of a folder that look like models, by name."""
    folder = Path(model)
    if not folder.is_dir():
        return [model]
    found = sorted(
        str(path)
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES[command] and path.is_file()
    )
    if not found:
        raise UsageError(
            f"{model}: a folder without a model file (looked for {', '.join(SUFFIXES[command])})",
            hint="name the file itself, where it is called otherwise",
        )
    return found


def _allowed(presentation: Presentation, *, baseline: bool) -> None:
    wanted = presentation.stdout_format
    single = next((path for path, name in presentation.outputs if not FORMATS[name].several), None)
    refused = (
        (single is not None, f"--output {single} takes the report of one model"),
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
