"""`bnaudit check`: options in, exit code out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnaudit.cli.configured import config_options, configuration, settled, tell_notes
from bnaudit.cli.limits import limited
from bnaudit.cli.options import Command, FileName, options_of
from bnaudit.cli.present import presentation_of
from bnaudit.cli.several import each
from bnaudit.cli.streams import stdout_reserved

if TYPE_CHECKING:
    from bnaudit.cli.present import Presentation
    from bnaudit.config import Config
    from bnaudit.options import AuditOptions


@click.command(
    "check",
    cls=Command,
    short_help="Audit a model.",
    params=[*options_of("check"), *config_options()],
    examples=(
        "bnaudit check model.onnx --data batch.npz",
        "bnaudit check model.pt --input-shape 8x3x224x224 --verify-gradients 5",
        "bnaudit check model.pt2 --trust",
        "bnaudit check package.nets:resnet --arg depth=18 --weights checkpoint.pt --data batch.npz",
        "bnaudit check model.onnx --data batch.npz --format json | jq .summary",
    ),
)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=FileName("model"))
def command(models: tuple[str, ...], **given: Any) -> int:
    """Audit the BatchNorm layers of a model; of several, the highest exit code counts.

    MODEL is an ONNX, TorchScript or torch.export file (told apart by content), or
    package.module:factory or file.py:factory, whose code is imported and run. Of a folder all model files
    in it are meant.
    """
    tell_notes(quiet=given["quiet"])
    given = settled(given)
    presentation = presentation_of("report", given, models)
    with limited(given):
        return _command(models, presentation, given)


def _command(models: tuple[str, ...], presentation: Presentation, given: dict[str, Any]) -> int:
    from bnaudit.cli.execute import execute

    with stdout_reserved():  # functions of the user's own may print
        options = audit_options(given)

    def one(model: str, presentation: Presentation) -> int:
        return execute(model, options, presentation)

    held = options.baseline is not None
    return each(models, one, presentation, command="check", baseline=held)


def audit_options(given: dict[str, Any], config: Config | None = None) -> AuditOptions:
    """What the options of a command say of an audit; fields that it has no option for are as usual.

    Args:
        given: the options, by parameter.
        config: the configuration, None for that of the command that is running.

    Raises:
        BnauditError: a function of the user's own or the baseline cannot be read.
    """
    from bnaudit.cli.user_code import user_data, user_object
    from bnaudit.options import FIELDS, AuditOptions
    from bnaudit.values import parse

    names = (option.parameter for option in FIELDS)
    fields = {name: given[name] for name in names if name in given and name is not None}
    fields["data"] = user_data(given["data"], given["seed"])
    fields["loss"] = user_object(given["loss"]) or given["loss"]
    if "kwargs" in given:
        fields["kwargs"] = {name: parse(text) for name, text in given["kwargs"].items()}
    if "select" in given:
        from bnaudit.config.policy import policy_of

        fields["policy"] = policy_of(config or configuration(), given["select"], given["ignore"])
    if given.get("baseline") is not None:
        from bnaudit.documents import read_snapshot

        fields["baseline"] = read_snapshot(Path(given["baseline"]))
    return AuditOptions(**fields)
