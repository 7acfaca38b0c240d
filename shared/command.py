"""The command `echelon`: a group whose subcommands are entry points, loaded when they are called.

Controller and worker each register their own commands in the group `echelon.commands`, so neither imports the other and
`echelon jobs` does not pay for Flask. This module knows no subcommand by name.
"""

from __future__ import annotations

import difflib
import io
import os
import sys
from enum import IntEnum
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from echelon.shared import failpoints
from echelon.shared.errors import Conflict, EchelonError, InvalidInput, NotFound, PreconditionFailed, Unavailable

GROUP = "echelon.commands"
#: What a terminal would obey instead of show, but for the newline.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != 10}


class ExitCode(IntEnum):
    """How the command ends, for the script that called it."""

    GOOD = 0
    #: Echelon itself failed.
    ENGINE = 1
    #: The command was not called as it should be.
    USAGE = 2
    JOB_FAILED = 3
    CANCELLED = 4
    #: A catalogue or an input is not valid.
    NOT_VALID = 5
    NOT_FOUND = 6
    #: The present state forbids what was asked.
    CONFLICT = 7
    TIMED_OUT = 8
    #: The controller does not answer.
    UNREACHABLE = 10
    #: Ctrl-C, as shells have it.
    INTERRUPTED = 130


#: How the command ends when an error comes through to the top; the first line that fits counts.
_ENDS: tuple[tuple[type[EchelonError], ExitCode], ...] = (
    (InvalidInput, ExitCode.NOT_VALID),
    (NotFound, ExitCode.NOT_FOUND),
    (Conflict, ExitCode.CONFLICT),
    (PreconditionFailed, ExitCode.CONFLICT),
    (Unavailable, ExitCode.UNREACHABLE),
    (EchelonError, ExitCode.ENGINE),
)


class LazyGroup(click.Group):
    """Finds its subcommands among the installed entry points and loads one when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all installed subcommands."""
        return sorted(entry_points(group=GROUP).names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one subcommand; None when nobody registered it."""
        found = tuple(entry_points(group=GROUP, name=cmd_name))
        return _load(found[0]) if found else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand that the arguments name; an unknown one is a usage error with a suggestion."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            ctx.fail(_unknown(args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; whatever it raises becomes words on stderr and a documented exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # The reader (head, a closed pager) has all that it wanted.
            _close_stdout()
            ctx.exit(ExitCode.GOOD)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(ExitCode.INTERRUPTED)
        except Exception as error:  # noqa: BLE001 - the one guard of the command: a user never sees a traceback
            ctx.exit(_ended_by(error))
        return result


def _ended_by(error: Exception) -> ExitCode:
    """Tell of an error on stderr and return the exit code that it stands for."""
    if isinstance(error, EchelonError):
        _tell(str(error))
        return next(code for kind, code in _ENDS if isinstance(error, kind))
    _tell(f"{type(error).__name__}: {error}\nThis is a mistake in Echelon. ECHELON_DEBUG=1 shows where.")
    return ExitCode.ENGINE


def _tell(message: str) -> None:
    """Write an error to stderr, with its traceback where somebody looks for one."""
    if os.environ.get("ECHELON_DEBUG"):
        import traceback

        click.echo(traceback.format_exc(), err=True)
    click.echo(f"echelon: {message.translate(_CONTROLS)}", err=True)


def _close_stdout() -> None:
    """Point stdout to nowhere, so that the interpreter's last flush does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _load(entry: EntryPoint) -> click.Command:
    command = entry.load()
    if not isinstance(command, click.Command):
        raise TypeError(f"the entry point {entry.name!r} of {GROUP} is not a click command: {entry.value}")
    return command


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    meant = f" Did you mean {' or '.join(repr(word) for word in close)}?" if close else ""
    return f"There is no command {name!r}.{meant} 'echelon --help' lists them all."


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="echelon", prog_name="echelon")
def main_group() -> None:
    """Run jobs: stages one after the other, the tasks of a stage in parallel."""
    failpoints.arm(os.environ)


def main() -> None:
    """Run the command line and leave with one of the documented exit codes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that knows no UTF-8 gets question marks instead of a crash.
            stream.reconfigure(errors="replace")
    try:
        main_group(prog_name="echelon")
    except Exception as error:  # noqa: BLE001 - what fails before a command begins, such as an installation in pieces
        sys.exit(_ended_by(error))


if __name__ == "__main__":
    main()
