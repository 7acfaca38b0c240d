"""The command `echelon`: a group whose subcommands are entry points, loaded when they are called.

Controller and worker each register their own commands in the group `echelon.commands`, so neither imports the other and
`echelon jobs` does not load Flask. No subcommand's name is written in this module.
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
from echelon.shared.secrecy import forbid_peeking
from echelon.shared.wrapping import wrap_message

GROUP = "echelon.commands"
#: Replacements for control characters except the newline: a terminal would execute them.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != 10}


#: Options as other programs have them -> as they are called here.
_ELSEWHERE = dict.fromkeys(("--port", "--host", "--bind"), "--listen")


class ExitCode(IntEnum):
    """The exit codes of the command."""

    GOOD = 0
    #: Echelon itself failed.
    ENGINE = 1
    #: The command line is not valid.
    USAGE = 2
    JOB_FAILED = 3
    CANCELLED = 4
    #: A catalogue or an input is not valid.
    NOT_VALID = 5
    NOT_FOUND = 6
    #: The present state forbids what was asked.
    CONFLICT = 7
    TIMED_OUT = 8
    #: The controller accepts jobs, and has no worker for their tasks.
    NO_WORKER = 9
    #: The controller does not answer.
    UNREACHABLE = 10
    #: Ctrl-C, as in shells.
    INTERRUPTED = 130


#: Exit codes for uncaught errors; the first line that matches counts.
_ENDS: tuple[tuple[type[EchelonError], ExitCode], ...] = (
    (InvalidInput, ExitCode.NOT_VALID),
    (NotFound, ExitCode.NOT_FOUND),
    (Conflict, ExitCode.CONFLICT),
    (PreconditionFailed, ExitCode.CONFLICT),
    (Unavailable, ExitCode.UNREACHABLE),
    (EchelonError, ExitCode.ENGINE),
)


class LazyGroup(click.Group):
    """Finds its subcommands among the installed entry points and loads the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all installed subcommands."""
        return sorted(entry_points(group=GROUP).names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one subcommand; None if none has this name."""
        found = tuple(entry_points(group=GROUP, name=cmd_name))
        return _load_command(found[0]) if found else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand in the arguments; an unknown one is a usage error with a suggestion."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            ctx.fail(_describe_unknown(args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; turn any error into a message on stderr and a documented exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except click.UsageError as error:
            prefix = "Error: "
            said = _describe_usage(error)
            message = wrap_message(prefix + said).removeprefix(prefix)
            raise click.UsageError(message, error.ctx) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # The reader (head, a closed pager) needs no more.
            _close_stdout()
            ctx.exit(ExitCode.GOOD)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(ExitCode.INTERRUPTED)
        except Exception as error:  # noqa: BLE001 - the one guard of the command: a user never sees a traceback
            ctx.exit(_report_error(error))
        return result


def _describe_usage(error: click.UsageError) -> str:
    """Return what is wrong with a command line, and what was meant: click compares letters alone."""
    said = error.format_message()
    options = {name for one in error.ctx.command.params for name in one.opts} if error.ctx else set()
    if "unexpected extra argument" in said and "-p" in options:
        said += "; an input is written -p NAME=VALUE"
    if isinstance(error, click.NoSuchOption) and (meant := _ELSEWHERE.get(error.option_name)) in options:
        said = f"No such option {error.option_name!r}. Did you mean {meant!r}?"
    return said


def _report_error(error: Exception) -> ExitCode:
    """Print an error to stderr and return its exit code."""
    if isinstance(error, EchelonError):
        _print_error(str(error))
        return next(code for kind, code in _ENDS if isinstance(error, kind))
    _print_error(f"{type(error).__name__}: {error}\nThis is a bug in Echelon. ECHELON_DEBUG=1 shows the traceback.")
    return ExitCode.ENGINE


def _print_error(message: str) -> None:
    """Print an error to stderr, with its traceback if ECHELON_DEBUG is set."""
    if os.environ.get("ECHELON_DEBUG"):
        import traceback

        click.echo(traceback.format_exc(), err=True)
    click.echo(wrap_message(f"echelon: {message.translate(_CONTROLS)}"), err=True)


def _close_stdout() -> None:
    """Redirect stdout to /dev/null, so that the interpreter's last flush does not fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _load_command(entry: EntryPoint) -> click.Command:
    command = entry.load()
    if not isinstance(command, click.Command):
        raise TypeError(f"the entry point {entry.name!r} of {GROUP} is not a click command: {entry.value}")
    return command


def _describe_unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    meant = f" Did you mean {' or '.join(repr(word) for word in close)}?" if close else ""
    return f"There is no command {name!r}.{meant} 'echelon --help' lists them all."


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="echelon", prog_name="echelon")
def main_group() -> None:
    """Run jobs: stages one after the other, the tasks of a stage in parallel."""
    failpoints.arm_failpoints(os.environ)


def main() -> None:
    """Run the command line and exit with one of the documented exit codes."""
    # Before anything is read: the environment may hold a token or a password.
    forbid_peeking()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without UTF-8 gets question marks instead of a crash.
            stream.reconfigure(errors="replace")
    try:
        main_group(prog_name="echelon")
    except Exception as error:  # noqa: BLE001 - an error before a command begins, such as a broken installation
        sys.exit(_report_error(error))


if __name__ == "__main__":
    main()
