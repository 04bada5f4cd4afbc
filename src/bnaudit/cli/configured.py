"""`--config` and the environment: what the options are that nobody typed."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bnaudit.cli.options import FileName
from bnaudit.config.options import BY_PARAMETER, KEYS, OPTIONS, RUN
from bnaudit.errors import ConfigError, UsageError
from bnaudit.files import is_file

if TYPE_CHECKING:
    from bnaudit.config import Config

_META = "bnaudit.config"
_REFUSED = "bnaudit.no_config"
_PREFIX = "BNAUDIT_"
CONFIG_VARIABLE = f"{_PREFIX}CONFIG"
_OWN = (
    *("run", "frozen", "all", "no-run", "no-config", "way", "force", "dry-run"),
    *("eta", "relative", "steps", "form"),
    *("results", "reports", "status", "retry", "jobs", "threads", "reuse", "engine", "address"),
)
"""Options of single commands, which are in no table; no variable sets them."""
_NEAR = 0.7
"""Similarity (difflib's ratio) of misspelt names: CONFG has 0.91 with CONFIG, CACHE 0.67 with BATCHES."""
_EXCLUSIVE = ("data", "input_shapes")
"""Data has shapes of its own: the one that comes from nearer the command line is meant."""
_NEAREST = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)
_BOTH = "--config and --no-config exclude each other"


class _ConfigOption(click.Option):
    heading = RUN


def config_options(*, typed: tuple[str, ...] = ()) -> list[click.Parameter]:
    """--config and --no-config, which give a command's other options the values of a file.

    Args:
        typed: options that mean nothing to this command, or something else, unless they are typed.
    """

    def load(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
        if ctx.resilient_parsing:
            return
        named = ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
        if ctx.meta.get(_REFUSED):
            if named:
                raise UsageError(_BOTH)
            return
        if path is not None and not named and not is_file(path):
            raise UsageError(f"{CONFIG_VARIABLE} is {str(path)!r}: no such file")
        from bnaudit.config import load_config

        config = load_config(path)
        ctx.meta[_META] = config
        ctx.default_map = _defaults(ctx, config, typed)

    def refuse(ctx: click.Context, _: click.Parameter, given: bool) -> None:
        if given and _META in ctx.meta:  # only a typed --config is read before
            raise UsageError(_BOTH)
        ctx.meta[_REFUSED] = given

    return [
        _ConfigOption(
            ["--no-config"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=refuse,
            help="Read no configuration.",
        ),
        _ConfigOption(
            ["--config"],
            type=FileName("file", Path),
            metavar="FILE",
            is_eager=True,
            expose_value=False,
            callback=load,
            envvar=CONFIG_VARIABLE,
            help="Configuration. [default: bnaudit.yaml or [tool.bnaudit] of pyproject.toml, here "
            "or above up to the repository's root]",
        ),
    ]


def _defaults(ctx: click.Context, config: Config, typed: tuple[str, ...]) -> dict[str, Any]:
    """The file's values by parameter, each taken as if it had been typed."""
    parameters = {p.name: p for p in ctx.command.params}
    defaults = {}
    for key, setting in config.settings.items():
        row = KEYS[key]
        parameter = parameters.get(row.parameter or "")
        if parameter is None or row.name in typed:
            continue
        value = setting.value
        defaults[row.parameter] = list(value.items()) if isinstance(value, dict) else value
        try:
            parameter.type_cast_value(ctx, defaults[row.parameter])
        except click.BadParameter as error:
            raise ConfigError(f"{setting.origin}: {key}: {error.message}") from error
    return {name: value for name, value in defaults.items() if name is not None}


def configuration() -> Config:
    """The configuration of the command that is running."""
    from bnaudit.config import NO_CONFIG

    found: Config = click.get_current_context().meta.get(_META, NO_CONFIG)
    return found


def settled(given: dict[str, Any]) -> dict[str, Any]:
    """The options of the running command, without what nearer ones exclude."""
    ctx = click.get_current_context()
    dropped = excluded(ctx)
    return {n: BY_PARAMETER[n].default if n in dropped else v for n, v in given.items()}


def excluded(ctx: click.Context) -> set[str]:
    """Parameters that are not meant, because an exclusive one comes from nearer the command line."""
    sources = {name: ctx.get_parameter_source(name) for name in _EXCLUSIVE}
    ranks = {n: _NEAREST.index(s) if s in _NEAREST else len(_NEAREST) for n, s in sources.items()}
    first, second = sorted(_EXCLUSIVE, key=lambda name: ranks[name])
    return {second} if ranks[first] < ranks[second] < len(_NEAREST) else set()


def tell_notes(*, quiet: bool) -> None:
    """What the user should know of how the options were chosen, on stderr."""
    for note in () if quiet else (*configuration().notes, *_environment_notes()):
        click.echo(f"note: {note}", err=True)


def _environment_notes() -> list[str]:
    """Variables that look as if they were meant, and are not read."""
    typed = (*_OWN, *(option.name for option in OPTIONS if option.typed_only))
    typed_only = {name.upper().replace("-", "_"): name for name in typed}
    variables = (CONFIG_VARIABLE, *(o.variable for o in OPTIONS if o.variable is not None))
    known = [variable.removeprefix(_PREFIX) for variable in variables]
    notes = []
    for variable in sorted(os.environ):
        name = variable.removeprefix(_PREFIX)  # what all begin with makes none of them near
        if name == variable or name in known:
            continue
        if name in typed_only:
            notes.append(f"{variable} is not read: type --{typed_only[name]} where it is meant")
        elif close := get_close_matches(name.upper(), known, 1, _NEAR):
            meant = _PREFIX + close[0]
            notes.append(f"no option is set by {variable}, did you mean {meant!r}?")
    return notes
