"""`echelon watch`: follow a job until it has ended."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from echelon.controller.commands.follow import RemoteJob, follow_job, print_ending
from echelon.controller.commands.options import exit_like_job, json_option, resolve_job_id, strict_option, with_client
from echelon.controller.commands.progress import choose_progress
from echelon.controller.commands.screen import print_json, print_message
from echelon.shared.command import ExitCode

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import Job

_watch_option = click.option(
    "--watch", "then_watch", is_flag=True, help="Watch the job to its end; the exit code says how it ended."
)


def watch_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a command that can watch a job to its end: --watch, and --strict with it."""

    @functools.wraps(function)
    def call(*given: Any, then_watch: bool, strict: bool, **more: Any) -> None:
        if strict and not then_watch:
            raise click.UsageError("--strict is about the exit code of a job that has ended: add --watch")
        function(*given, then_watch=then_watch, strict=strict, **more)

    return _watch_option(strict_option(call))


@click.command()
@click.argument("job_id", metavar="ID")
@strict_option
@json_option
@with_client
def watch(client: Client, job_id: str, strict: bool, as_json: bool) -> None:
    """Watch a job to its end.

    The exit code says how it ended. Ctrl-C leaves the job running.
    """
    watch_to_end(client, client.get_job(resolve_job_id(client, job_id)), as_json=as_json, strict=strict)


def watch_to_end(client: Client, job: Job, *, as_json: bool, strict: bool = False) -> None:
    """Show a job until it has ended, print it as JSON if asked for, and exit with the code of its last state.

    `strict`: failed tasks fail a job.
    """
    try:
        with choose_progress() as progress:
            job = follow_job(RemoteJob(client, job["job_id"]), job, progress)
    except KeyboardInterrupt:
        short = job["job_id"][:8]
        print_message(
            f"job {job['job_id']} goes on; 'echelon watch {short}' shows it, 'echelon cancel {short}' ends it"
        )
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
    print_ending(job)
    if as_json:
        print_json(job)
    exit_like_job(job, strict=strict)
