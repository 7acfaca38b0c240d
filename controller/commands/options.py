"""Arguments that several subcommands share: options made from settings, the client, job ids, exit codes."""

from __future__ import annotations

import functools
import getpass
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from echelon.controller.commands.screen import escape_text
from echelon.controller.commands.values import HEADER_HELP, PARAMETER_HELP, describe_mistakes
from echelon.controller.settings import Resolved, Settings, list_settings, resolve_settings
from echelon.shared.command import ExitCode
from echelon.shared.errors import InvalidInput
from echelon.shared.flags import Command, with_flags
from echelon.shared.readers import read_seconds
from echelon.shared.settings import InvalidSetting, forget_settings

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import Job


#: Longest name that a controller takes.
_LONGEST_NAME = 100


class _LengthOfTime(click.ParamType[float]):
    """A length of time such as 90s or 10m, in seconds."""

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it in seconds."""
        try:
            return read_seconds(str(value))
        except ValueError as error:
            raise click.UsageError(f"{param.opts[0] if param else ''} {escape_text(value)}: {error}") from error


LENGTH_OF_TIME = _LengthOfTime()

#: The exit code of a command that has followed a job to this state.
_EXIT_CODES = {
    "COMPLETED": ExitCode.GOOD,
    "SKIPPED": ExitCode.GOOD,
    "FAILED": ExitCode.JOB_FAILED,
    "CANCELLED": ExitCode.CANCELLED,
}

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")
state_option = click.option(
    "--state",
    type=click.Choice(["PENDING", "QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "SKIPPED"], False),
    help="Only those in this state.",
)
parameter_option = click.option("-p", "--param", "written", multiple=True, metavar="NAME=VALUE", help=PARAMETER_HELP)
header_option = click.option("-H", "--header", "header_lines", multiple=True, metavar="'NAME: VALUE'", help=HEADER_HELP)


# --- settings -------------------------------------------------------------------------------------------------------


def with_settings(*names: str) -> Callable[[Command], Command]:
    """Add the flags of these settings and --config; the command gets all settings as `resolved`."""
    known = {one.name: one for one in list_settings()}
    return with_flags([known[name] for name in names], _resolve)


def _resolve(given: dict[str, Any], config_file: Path | None) -> Resolved:
    try:
        resolved = resolve_settings(given, os.environ, file=config_file)
    except InvalidSetting as error:
        raise click.UsageError(escape_message(error)) from error
    forget_settings(Settings, given)
    return resolved


def escape_message(error: BaseException) -> str:
    """Return an error's lines, control characters escaped."""
    return "\n".join(escape_text(line) for line in str(error).split("\n"))


def _name_user() -> str | None:
    """Return who calls the command: user@host; None if that is no name for a header."""
    try:
        name = f"{getpass.getuser()}@{socket.gethostname()}"[:_LONGEST_NAME]
    except (KeyError, OSError):
        # A container's passwd file may lack its user.
        return None
    return name if name.isascii() and name.isprintable() and " " not in name else None


# --- the client -----------------------------------------------------------------------------------------------------


def with_client(function: Command) -> Command:
    """Add the flags that name the controller; the command gets a client of it as `client`."""

    @functools.wraps(function)
    def call(resolved: Resolved, **values: Any) -> None:
        from echelon.controller.client import Client, NotAllowed, Unreachable

        settings = resolved.settings
        with Client(settings.url, token=settings.token or None, user=_name_user()) as client:
            try:
                function(client=client, **values)
            except Unreachable as error:
                hint = "Is it running ('echelon standalone ...')? Name another one with --url or ECHELON_URL."
                raise Unreachable(f"{error}\n{hint}") from error
            except NotAllowed as error:
                hint = "Give a token with --token-file, ECHELON_TOKEN or ECHELON_TOKEN_FILE."
                raise NotAllowed(f"{error}\n{hint}") from error

    return with_settings("url", "token")(call)


@contextmanager
def explain_inputs() -> Iterator[None]:
    """Describe rejected inputs in terms of -p and -H."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(describe_mistakes(escape_message(error), getattr(error, "mistakes", ()))) from error


# --- ids ------------------------------------------------------------------------------------------------------------


def resolve_job_id(client: Client, prefix: str) -> str:
    """Return the only job id with this prefix; several are a usage error that lists them."""
    from echelon.controller.client import Ambiguous

    prefix = prefix.strip().lower()
    if not re.fullmatch(r"[0-9a-f-]{1,36}", prefix):
        raise click.UsageError(
            f"{escape_text(prefix)!r} is not an id or the beginning of one; 'echelon jobs' lists the jobs"
        )
    try:
        return client.find_job(prefix)
    except Ambiguous as error:
        reject_ambiguous(error.candidates, str(error))


def reject_ambiguous(candidates: tuple[str, ...], message: str) -> NoReturn:
    """Raise a usage error that lists the candidates."""
    raise click.UsageError("\n".join([message, *(f"  {escape_text(one)}" for one in candidates)]))


# --- exit codes -----------------------------------------------------------------------------------------------------


strict_option = click.option(
    "--strict", is_flag=True, help="Exit with 3, as for a failed job, if the job is COMPLETED and tasks of it failed."
)


def exit_like_job(job: Job, *, strict: bool = False) -> NoReturn:
    """End the command with the exit code of a job's last state; `strict`: failed tasks fail a job.

    A COMPLETED job with an error lacks files of its tasks: that fails it here in any case.
    """
    if job["state"] == "COMPLETED" and (job["error"] or (strict and job["failed_tasks"])):
        raise click.exceptions.Exit(ExitCode.JOB_FAILED)
    raise click.exceptions.Exit(_EXIT_CODES.get(job["state"], ExitCode.ENGINE))
