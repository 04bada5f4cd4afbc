"""The command line. It parses and reports errors; what it runs is in `bnaudit.pipeline`."""

from __future__ import annotations

import re
import traceback
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click
from click.core import ParameterSource

from bnaudit._version import __version__
from bnaudit.cli.interrupt import EXIT_INTERRUPTED, Interrupt
from bnaudit.cli.streams import Helpful, say_error, write_stdout
from bnaudit.errors import BnauditError, first_line
from bnaudit.files import remembered

# Name -> (module, one line for --help). A command is imported when it is called, so that --help
# waits neither for torch nor for the other commands.
COMMANDS: dict[str, tuple[str, str]] = {
    "check": ("bnaudit.cli.check", "Audit a model: run batches, measure every BatchNorm, judge."),
    "inspect": ("bnaudit.cli.inspect", "Read what a file stores, without running it."),
    "init": ("bnaudit.cli.init", "Compare a trained network with its start (two files)."),
    "recalibrate": (
        "bnaudit.cli.recalibrate",
        "Compute running statistics again from data, and write the model with them.",
    ),
    "diff": ("bnaudit.cli.diff", "Compare two reports, or two models."),
    "config": ("bnaudit.cli.config", "Print the effective configuration, and where it comes from."),
    "rules": ("bnaudit.cli.rules", "List the rules: what is looked for."),
    "explain": ("bnaudit.cli.explain", "Explain rules: why, how to fix it, thresholds."),
    "schema": ("bnaudit.cli.schema", "Print the JSON Schema of a report."),
}

EXIT_BUG = 70
EXIT_NOT_RUN = 4
_NO_MEMORY = ("DefaultCPUAllocator: can't allocate", "std::bad_alloc", "CUDA out of memory")
"""How PyTorch says so; it has no exception of its own for the CPU."""

_EPILOG = (
    "Exit codes: 0 clean; 1 findings at or above --fail-on; 2 usage or unreadable input; "
    "3 no BatchNorm in the model; 4 the model cannot be run or measured; 70 a bug in bnaudit."
)


class _LazyGroup(Helpful, click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; click itself would put an empty line in front of `interrupted`."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise click.Abort from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """`bnaudit model.onnx` is a forgotten `check`, `bnaudit chek` a misspelt one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            meant = [f"check {name}"] if "." in name or "/" in name else []
            close = meant or get_close_matches(name.lower(), COMMANDS, 1)
            hint = f"; did you mean `bnaudit {close[0]}`?" if close else ""
            raise click.UsageError(f"no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _show_version(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    if given and not ctx.resilient_parsing:
        write_stdout(f"bnaudit, version {__version__}\n")
        ctx.exit()


@click.group(
    cls=_LazyGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Audit what BatchNorm does to the gradients of a trained model, layer by layer.

    `bnaudit check model.onnx --data batch.npz` runs sample batches forward and backward and compares
    the measured gradient-norm reduction of every BatchNorm layer with theory.
    """


def invoke(args: list[str], interrupt: Interrupt | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
        args: the command line.
        interrupt: knows of a Ctrl-C that came out of somebody's code as another exception.
    """
    try:
        with remembered():
            outcome: Any = cli.main(args, prog_name="bnaudit", standalone_mode=False)
    except click.ClickException as error:
        return _usage(error)
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except Exception as error:  # the outermost boundary
        if interrupt is not None and interrupt.asked:
            return _interrupted()
        code, message, hint = _told(error)
        say_error(message, hint)
        _trace(args)
        return code
    return outcome if isinstance(outcome, int) else 0


def _interrupted() -> int:
    click.echo("interrupted", err=True)
    return EXIT_INTERRUPTED


def _told(error: Exception) -> tuple[int, str, str | None]:
    """Exit code, fact and remedy; what nobody has explained is the machine's, or a bug."""
    if isinstance(error, BnauditError):
        return error.exit_code, error.message, error.hint
    text = first_line(error)
    if isinstance(error, MemoryError) or any(mark in str(error) for mark in _NO_MEMORY):
        hint = "pass a smaller --batch-size or --input-shape, or run it where there is more memory"
        return EXIT_NOT_RUN, "there is not enough memory for this", hint
    library = _in_import_of(error)
    if library is not None:
        return (
            EXIT_NOT_RUN,
            f"{library} cannot be imported ({type(error).__name__}: {text})",
            f"`python -c 'import {library}'` says more: is all of it there, and memory for it?",
        )
    return (
        EXIT_BUG,
        f"bug in bnaudit: {type(error).__name__}: {error}",
        "please report it with the output of the same command under -vv",
    )


def _in_import_of(error: Exception) -> str | None:
    """The library whose import failed, if that is what happened."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [f.f_globals.get("__name__") for f in frames if f.f_code.co_name == "<module>"]
    if isinstance(error, ImportError):
        names = [error.name, *names]
    roots = (str(name).partition(".")[0] for name in names if name)
    return next((root for root in roots if root not in {"bnaudit", "__main__"}), None)


def _usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return 2
    ctx = getattr(error, "ctx", None)
    message = error.format_message()
    if isinstance(error, click.BadParameter) and ctx is not None and error.param is not None:
        plain = _plainly(error.message, error.param.type)
        message = message.replace(error.message, plain)
        source = ctx.get_parameter_source(str(error.param.name))
        if source is ParameterSource.ENVIRONMENT:
            message = f"{error.param.envvar}: {plain}"
    say_error(message, f"see `{ctx.command_path if ctx else 'bnaudit'} --help`")
    return 2


def _plainly(message: str, kind: object) -> str:
    """Click's sentence on a value in words for people: no "x>=1", no "integer range"."""
    value, separator, _ = message.partition(" is not ")
    if separator and isinstance(kind, click.IntRange):
        bounds = (
            f" of {kind.min} or more" if kind.max is None else f" from {kind.min} to {kind.max}"
        )
        return f"{value} is not a whole number{bounds}"
    if separator and isinstance(kind, click.types.BoolParamType):
        return f"{value} is neither true nor false (also: 1, 0, yes, no, on, off)"
    return message


def _trace(args: list[str]) -> None:
    clusters = [a for a in args if re.fullmatch("-[qv]+", a)]
    if sum(a.count("v") for a in clusters) + args.count("--verbose") > 1:
        traceback.print_exc()
