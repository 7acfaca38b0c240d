"""`echelon watch`: look at a job until it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.follow import RemoteJob, follow, tell_ending
from echelon.controller.commands.options import json_option, leave, whole_job_id, with_client
from echelon.controller.commands.progress import progress
from echelon.controller.commands.screen import print_json, words
from echelon.shared.command import ExitCode

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.answers import Job


@click.command()
@click.argument("job_id", metavar="ID")
@json_option
@with_client
def watch(client: Client, job_id: str, as_json: bool) -> None:
    """Watch a job to its end.

    The exit code says how it ended. Ctrl-C leaves the job running.
    """
    watch_to_the_end(client, client.job(whole_job_id(client, job_id)), as_json=as_json)


def watch_to_the_end(client: Client, job: Job, *, as_json: bool) -> None:
    """Show a job until it has ended and leave with the exit code for that; the whole job as JSON at the end."""
    try:
        with progress() as shown:
            job = follow(RemoteJob(client, job["job_id"]), job, shown)
    except KeyboardInterrupt:
        short = job["job_id"][:8]
        words(f"job {job['job_id']} goes on; 'echelon watch {short}' shows it, 'echelon cancel {short}' ends it")
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
    tell_ending(job)
    if as_json:
        print_json(job)
    leave(job["state"])
