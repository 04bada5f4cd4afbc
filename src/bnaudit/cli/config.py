"""`bnaudit config`: what `check` would use here, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from bnaudit.cli.configured import configuration, excluded, tell_notes
from bnaudit.cli.options import Command
from bnaudit.cli.streams import write_stdout
from bnaudit.config.effective import Effective, to_json, to_yaml
from bnaudit.config.options import KEYS

if TYPE_CHECKING:
    from bnaudit.config import Config
    from bnaudit.config.options import Option

_ANY_MODEL = "model.onnx"


@click.command(
    "config",
    cls=Command,
    short_help="Print the effective configuration.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    examples=(
        "bnaudit config",
        "bnaudit config --no-config > bnaudit.yaml",
        "bnaudit config --config ci/bnaudit.yaml --fail-on warning",
        "BNAUDIT_FAIL_ON=warning bnaudit config",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.argument("options", metavar="[OPTIONS OF CHECK]...", nargs=-1, type=click.UNPROCESSED)
def command(as_json: bool, options: tuple[str, ...]) -> None:
    """Print what `bnaudit check OPTIONS...` would use here, and where each value comes from.

    Typed options come before the environment (BNAUDIT_FAIL_ON for --fail-on), the environment before
    the file, the file before the defaults. The output is a complete bnaudit.yaml for this directory.
    """
    from bnaudit.cli.check import command as check

    given = [option for option in options if option != "--json"]
    as_json = as_json or len(given) < len(options)
    with check.make_context("bnaudit config", [_ANY_MODEL, *given]) as ctx:
        config = configuration()
        entries = [_effective(name, option, config, ctx) for name, option in KEYS.items()]
        tell_notes(quiet=bool(ctx.params["quiet"]))
    write_stdout((to_json if as_json else to_yaml)(config.path, entries, config.notes))


def _effective(key: str, option: Option, config: Config, ctx: click.Context) -> Effective:
    setting, parameter = config.settings.get(key), option.parameter
    if parameter is not None:
        source = ctx.get_parameter_source(parameter)
        if parameter in excluded(ctx):
            return Effective(key, option.default, "not beside what is nearer")
        if source is ParameterSource.COMMANDLINE:
            return Effective(key, ctx.params[parameter], "command line")
        if source is ParameterSource.ENVIRONMENT:
            return Effective(key, ctx.params[parameter], str(option.variable))
    if setting is None:
        return Effective(key, option.default, "default")
    return Effective(key, setting.value, setting.origin, setting.origins)
