"""What click is told of the table of options: parameters, --help with headings, environment variables."""

from __future__ import annotations

import re
import shlex
import textwrap
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bnaudit.cli.streams import Helpful
from bnaudit.config.kinds import Batches, Count, Flag, Kind, LayerCount, Whole, Word
from bnaudit.config.options import HEADINGS, INHERITED, LOOKS, OPTIONS, RUN
from bnaudit.render.columns import COLUMNS
from bnaudit.render.formats import OF_COMMANDS, formats_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem
    from click.types import OptionHelpExtra

    from bnaudit.config.options import Option

_MOST_LEFT = 30
"""Columns of an option's name in --help; a longer one has a line of its own."""


class Command(Helpful):
    """A command whose --help has headings, and examples that can be copied at any width."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Every option below its heading, all in the same two columns."""
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        headings = [getattr(option, "heading", None) for option in options]
        own = RUN if RUN in headings else "Options"  # of --help itself
        rows: dict[str, list[tuple[str, str]]] = {}
        for option, heading in zip(options, headings, strict=True):
            record = option.get_help_record(ctx)
            if record is not None:
                rows.setdefault(heading or own, []).append(record)
        width = min(max(len(left) for r in rows.values() for left, _ in r), _MOST_LEFT)
        first = [heading for heading in rows if heading not in HEADINGS]
        for heading in (*first, *(known for known in HEADINGS if known in rows)):
            with formatter.section(heading):
                formatter.write_dl([(left.ljust(width), right) for left, right in rows[heading]])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Where options come from that are not typed."""
        super().format_epilog(ctx, formatter)
        variables = [p.envvar for p in self.params if isinstance(p, TableOption) and p.envvar]
        if variables:
            formatter.write_paragraph()
            formatter.write_text(
                f"Options that are not typed may come from the environment ({variables[0]} for "
                f"--{str(variables[0]).removeprefix('BNAUDIT_').lower()}, and so on)."
            )

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The description, then the examples: one too long goes on in the next line, as in a shell."""
        super().format_help_text(ctx, formatter)
        if not self.examples:
            return
        with formatter.section("Examples"):
            for example in self.examples:
                # Only before an option or a pipe may a line end: values stay beside their options.
                text = re.sub(r" (?![-|])", "\xa0", example)
                lines = textwrap.wrap(
                    text,
                    formatter.width - formatter.current_indent - len(" \\"),
                    subsequent_indent="  ",
                    break_long_words=False,
                    break_on_hyphens=False,
                )
                indent = " " * formatter.current_indent
                shown = f" \\\n{indent}".join(lines).replace("\xa0", " ")
                formatter.write(f"{indent}{shown}\n")


class FileName(click.Path):
    """A path; an empty text, as of a shell's unset variable, is none, where Python reads it as ".".

    Args:
        what: the file is, for the error.
        path_type: of the value.
    """

    def __init__(self, what: str, path_type: type[Any] | None = None) -> None:
        super().__init__(path_type=path_type)
        self.what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A name that says something."""
        if value == "":
            self.fail(f"an empty {self.what} name", param, ctx)
        return super().convert(value, param, ctx)


class _Value(click.ParamType[Any]):
    """What a kind takes, typed."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.name = kind.metavar

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A text of the command line or of the environment; others are a file's, read there."""
        if not isinstance(value, str):
            return value
        try:
            return self.kind.typed(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Between spaces, as a shell does it: quotes keep them, a backslash is one."""
        lexer = shlex.shlex(rv, posix=True, punctuation_chars=False)
        lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
        return list(lexer)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Files, or the words that there are."""
        del ctx, param
        from click.shell_completion import CompletionItem

        if self.kind.files:
            return [CompletionItem(incomplete, type="file")]
        before, comma, last = incomplete.rpartition(",")
        known = getattr(self.kind, "known", ())
        return [CompletionItem(before + comma + word) for word in known if word.startswith(last)]


class TableOption(click.Option):
    """A row of the table, as an option of a command."""

    def __init__(self, row: Option, command: str, *, variable: bool) -> None:
        document = OF_COMMANDS.get(command, command)
        formats = formats_of(document)
        told = row.elsewhere.get(command, row.help).format(
            formats=", ".join(
                f"{n} {form.summary}" for n, form in formats.items() if not form.file_only
            ),
            columns=", ".join(COLUMNS.get(document, ())),
            suffixes=", ".join(form.suffix for form in formats.values() if form.suffix),
        )
        short = [f"-{row.short}"] if row.short else []
        negative = f"/--no-{row.name}" if row.default is True else ""
        self.row, self.heading, self.kind = row, row.heading, row.kind.of(document)
        super().__init__(
            [*short, f"--{row.name}{negative}", str(row.parameter)],
            help=told,
            default=() if self.kind.repeated else row.default,
            multiple=self.kind.repeated,
            envvar=row.variable if variable else None,
            **_settings(self.kind),
        )

    def subject(self, ctx: click.Context) -> str:
        """What an error is about: the variable, where the value comes from there, or the option."""
        typed = (
            ctx.get_parameter_source(self.row.parameter or "") is not ParameterSource.ENVIRONMENT
        )
        return f"--{self.row.name}" if typed else str(self.envvar)

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """The variable's value, for a repeated option the list of them."""
        try:
            return super().value_from_envvar(ctx)
        except ValueError as error:
            raise click.UsageError(
                f"{self.envvar} is no list as in a shell: {error}", ctx
            ) from error

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """One value of one or several texts."""
        values = super().type_cast_value(ctx, value)
        if not self.kind.repeated:
            return values
        try:
            return self.kind.join(values)
        except ValueError as error:
            raise click.UsageError(f"{self.subject(ctx)} {error}", ctx) from error

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        """The default alone, also where it is told in words."""
        del ctx
        default = self.row.default
        shown = ",".join(default) if isinstance(default, tuple) else default
        told = self.row.unset or shown
        return {"default": str(told)} if told else {}


def _settings(kind: Kind) -> dict[str, Any]:
    """What click has a type for; it knows how to complete and explain those."""
    if isinstance(kind, Count):
        return {"count": True}
    if isinstance(kind, Flag):
        return {"is_flag": True}
    if isinstance(kind, Word):
        return {"type": click.Choice(kind.known)}
    if isinstance(kind, Whole) and not isinstance(kind, (LayerCount, Batches)):
        return {"type": click.IntRange(kind.least, kind.most), "metavar": kind.metavar}
    return {"type": _Value(kind), "metavar": kind.metavar}


def options_of(command: str, *, typed: tuple[str, ...] = ()) -> list[click.Parameter]:
    """The options of a command, in the order of the table.

    Args:
        command: its name.
        typed: those that mean nothing to it, or something else, unless they are typed.
    """
    heir = INHERITED.get(command, command)
    return [
        TableOption(row, command, variable=row.name not in typed)
        for row in OPTIONS
        if row.parameter is not None
        and (command in row.commands or (row.name not in LOOKS and heir in row.commands))
    ]
