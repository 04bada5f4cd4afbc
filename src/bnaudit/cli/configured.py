"""`--config`: gives the options that were not typed the values of a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bnaudit.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.config import Config

_META = "bnaudit.config"
_REFUSED = "bnaudit.no_config"
_EXCLUSIVE = ("data", "input_shapes")
"""Data has shapes of its own: whichever is typed, the file's other one is not meant."""

Decorated = Any


def configured(*, without: tuple[str, ...] = ()) -> Callable[[Decorated], Decorated]:
    """Adds --config and --no-config, and fills a command's options from the file.

    Args:
        without: keys that mean nothing to this command, or something else.
    """

    def load(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
        if ctx.resilient_parsing:
            return
        if path is not None and ctx.meta.get(_REFUSED):
            raise UsageError("--config and --no-config exclude each other")
        if ctx.meta.get(_REFUSED):
            return
        from bnaudit.config import load_config

        config = load_config(path)
        ctx.meta[_META] = config
        ctx.default_map = _defaults(ctx, config, without)

    def decorate(function: Decorated) -> Decorated:
        function = click.option(
            "--config",
            type=click.Path(path_type=Path),
            metavar="FILE",
            is_eager=True,
            expose_value=False,
            callback=load,
            help="Configuration. [default: bnaudit.yaml or [tool.bnaudit] of pyproject.toml, here "
            "or above up to the repository's root]",
        )(function)
        return click.option(
            "--no-config",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_refuse,
            help="Read no configuration.",
        )(function)

    return decorate


def _refuse(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    if given and _META in ctx.meta:  # only a typed --config is read before
        raise UsageError("--config and --no-config exclude each other")
    ctx.meta[_REFUSED] = given


def configuration() -> Config:
    """The configuration of the command that is running."""
    from bnaudit.config import NO_CONFIG

    found: Config = click.get_current_context().meta.get(_META, NO_CONFIG)
    return found


def settled(given: dict[str, Any]) -> dict[str, Any]:
    """The options of the running command, without those of the file that typed ones exclude."""
    ctx = click.get_current_context()
    dropped = {
        other
        for one, other in (_EXCLUSIVE, _EXCLUSIVE[::-1])
        if ctx.get_parameter_source(one) is ParameterSource.COMMANDLINE
        and ctx.get_parameter_source(other) is ParameterSource.DEFAULT_MAP
    }
    return {name: () if name in dropped else value for name, value in given.items()}


def tell_notes(config: Config, *, quiet: bool) -> None:
    """What the user should know of how the configuration was chosen, on stderr."""
    for note in () if quiet else config.notes:
        click.echo(f"note: {note}", err=True)


def _defaults(ctx: click.Context, config: Config, without: tuple[str, ...]) -> dict[str, Any]:
    """The file's values by parameter, each taken as if it had been typed."""
    if not config.settings:
        return {}
    from bnaudit.config.keys import BY_NAME

    parameters = {p.name: p for p in ctx.command.params}
    defaults = {}
    for name, setting in config.settings.items():
        parameter = parameters.get(BY_NAME[name].parameter or "")
        if parameter is None or parameter.name is None or name in without:
            continue
        value = as_typed(name, setting.value)
        try:
            parameter.type_cast_value(ctx, value)
        except click.BadParameter as error:
            raise ConfigError(f"{setting.origin}: {name}: {error.message}") from error
        defaults[parameter.name] = value
    return defaults


def as_typed(key: str, value: Any) -> Any:
    """A key's value as its option would be typed."""
    if key == "input-shapes":
        return [f"{name}:{shape}" if name else shape for name, shape in value.items()]
    if key == "metrics":
        return ",".join(value)
    if key.startswith("verify-"):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
