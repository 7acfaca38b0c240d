"""What the subcommands' arguments have in common: options made from the settings, the client, ids, the way out."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from echelon.controller.commands.screen import safe
from echelon.controller.commands.values import HEADER_HELP, PARAMETER_HELP, explain
from echelon.controller.settings import InvalidSetting, Resolved, Setting, resolve, table
from echelon.shared.command import ExitCode
from echelon.shared.errors import InvalidInput

if TYPE_CHECKING:
    from echelon.controller.client import Client

Command = Callable[..., None]

#: How a command ends that saw a job to its end.
_ENDS_OF_JOBS = {
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


_config_option = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="Config file (TOML).  [ECHELON_CONFIG]"
)


# --- settings -------------------------------------------------------------------------------------------------------


def with_settings(*names: str) -> Callable[[Command], Command]:
    """Add the flags of these settings (and --config); the command gets all of them as `resolved`."""
    known = {one.name: one for one in table()}
    chosen = [known[name] for name in names]

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def call(config_file: Path | None, **values: Any) -> None:
            flags = {name: values.pop(name) for one in chosen for name in (_flag_name(one),)}
            given = {name: value for name, value in flags.items() if value not in (None, ())}
            try:
                resolved = resolve(given, os.environ, file=config_file)
            except InvalidSetting as error:
                raise click.UsageError(safe_message(error)) from error
            function(resolved=resolved, **values)

        decorated: Command = _config_option(call)
        for one in reversed(chosen):
            decorated = _option(one)(decorated)
        return decorated

    return decorate


def _flag_name(one: Setting) -> str:
    return one.name if one.flag else f"{one.name}_file"


def _option(one: Setting) -> Callable[[Command], Command]:
    """Return the option of a setting; a secret without a flag is given as a file."""
    words = f"{one.meaning}  [{one.variable}]"
    if not one.flag:
        name = f"{one.name}_file"
        return click.option(f"--{one.name}-file", name, metavar="FILE", help=f"File with the {one.name}: {words}")
    if one.is_switch:
        return click.option(one.flag, one.name, is_flag=True, default=None, help=words)
    return click.option(one.flag, one.name, multiple=one.many, metavar=one.metavar, help=words)


def safe_message(error: BaseException) -> str:
    """Return an error's lines without what a terminal would obey."""
    return "\n".join(safe(line) for line in str(error).split("\n"))


# --- the client -----------------------------------------------------------------------------------------------------


def with_client(function: Command) -> Command:
    """Add the flags that say which controller is meant; the command gets its client as `client`."""

    @functools.wraps(function)
    def call(resolved: Resolved, **values: Any) -> None:
        from echelon.controller.client import Client, NotAllowed, Unreachable

        settings = resolved.settings
        with Client(settings.url, token=settings.token or None) as client:
            try:
                function(client=client, **values)
            except Unreachable as error:
                hint = "Is it running ('echelon standalone ...')? Another one is named by --url or ECHELON_URL."
                raise Unreachable(f"{error}\n{hint}") from error
            except NotAllowed as error:
                hint = "A token is given by --token-file, ECHELON_TOKEN or ECHELON_TOKEN_FILE."
                raise NotAllowed(f"{error}\n{hint}") from error

    return with_settings("url", "token")(call)


@contextmanager
def explained() -> Iterator[None]:
    """Turn what a controller or an engine rejects into words that name -p and -H."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(explain(safe_message(error), getattr(error, "mistakes", ()))) from error


# --- ids ------------------------------------------------------------------------------------------------------------


def whole_job_id(client: Client, prefix: str) -> str:
    """Return the id that a prefix stands for; more than one is a usage error that lists them."""
    from echelon.controller.client import Ambiguous

    prefix = prefix.strip().lower()
    if not re.fullmatch(r"[0-9a-f-]{1,36}", prefix):
        raise click.UsageError(f"{safe(prefix)!r} is not an id or the beginning of one; 'echelon jobs' lists the jobs")
    try:
        return client.find_job(prefix)
    except Ambiguous as error:
        refuse_ambiguous(error.candidates, str(error))


def refuse_ambiguous(candidates: tuple[str, ...], message: str) -> NoReturn:
    """End with a usage error that lists what may be meant."""
    raise click.UsageError("\n".join([message, *(f"  {safe(one)}" for one in candidates)]))


# --- the way out ----------------------------------------------------------------------------------------------------


def leave(state: str) -> NoReturn:
    """End the command as a job has ended."""
    raise click.exceptions.Exit(_ENDS_OF_JOBS.get(state, ExitCode.ENGINE))
