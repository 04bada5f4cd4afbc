"""`bnaudit config`: what `check` would use here, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bnaudit.cli.configured import configuration, tell_notes
from bnaudit.cli.streams import write_stdout
from bnaudit.config.effective import Effective, to_json, to_yaml
from bnaudit.config.keys import KEYS
from bnaudit.render.formats import format_of

if TYPE_CHECKING:
    from bnaudit.cli.params import Output
    from bnaudit.config import Config
    from bnaudit.config.keys import Key

_ANY_MODEL = "model.onnx"


@click.command(
    "config",
    short_help="Print the effective configuration.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(as_json: bool, options: tuple[str, ...]) -> None:
    """Print what `bnaudit check OPTIONS...` would use here, and where each value comes from.

    Typed options come before the file, the file before the defaults. The output is a complete
    bnaudit.yaml for this directory.

    \b
      bnaudit config
      bnaudit config --no-config > bnaudit.yaml
      bnaudit config --config ci/bnaudit.yaml --fail-on warning
    """  # noqa: D301  # \b is the character by which click keeps lines as they are
    from bnaudit.cli.check import command as check

    given = [option for option in options if option != "--json"]
    as_json = as_json or len(given) < len(options)
    with check.make_context("bnaudit config", [_ANY_MODEL, *given]) as ctx:
        config = configuration()
        entries = [_effective(key, config, ctx) for key in KEYS]
        quiet = bool(ctx.params["quiet"])
    tell_notes(config, quiet=quiet)
    write_stdout((to_json if as_json else to_yaml)(config.path, entries, config.notes))


def _effective(key: Key, config: Config, ctx: click.Context) -> Effective:
    setting = config.settings.get(key.name)
    if key.parameter is not None:
        source = ctx.get_parameter_source(key.parameter)
        if source not in {ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP, None}:
            return Effective(
                key.name, as_written(key.name, ctx.params[key.parameter]), "command line"
            )
    if setting is None:
        return Effective(key.name, key.default, "default")
    value = setting.value
    if key.name == "input-shapes" and set(value) == {""}:
        value = value[""]
    return Effective(key.name, value, setting.origin, setting.origins)


def as_written(key: str, value: Any) -> Any:
    """An option's value as the key in a file would have it."""
    if key == "input-shapes":
        shapes = {name: "x".join(map(str, shape)) for name, shape in value}
        return shapes.get("", shapes)
    if key == "verify-gradients":
        return "all" if value == -1 else value
    if key == "output":
        return [_typed(output) for output in value]
    if key == "baseline":
        return None if value is None else str(value)
    if key in {"select", "ignore"}:
        return [entry for entries in value for entry in entries]
    return value


def _typed(output: Output) -> str:
    """FORMAT= where the suffix alone would say another."""
    path = str(output.path)
    return path if format_of(path) == output.format else f"{output.format}={path}"
