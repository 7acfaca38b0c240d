"""`echelon retry`: open an ended job again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from controller.commands.options import (
    explained,
    header_option,
    json_option,
    parameter_option,
    whole_job_id,
    with_client,
)
from controller.commands.screen import print_json, words
from controller.commands.submit import input_types
from controller.commands.values import headers, parameters
from controller.commands.watch import watch_to_the_end
from shared.errors import NotFound

if TYPE_CHECKING:
    from controller.client import EchelonClient


@click.command()
@click.argument("job_id", metavar="ID")
@parameter_option
@header_option
@click.option("--watch", "then_watch", is_flag=True, help="Watch the job to its end; the exit code says how it ended.")
@json_option
@with_client
def retry(
    client: EchelonClient,
    job_id: str,
    written: tuple[str, ...],
    header_lines: tuple[str, ...],
    then_watch: bool,
    as_json: bool,
) -> None:
    """Run again what has not completed of a FAILED or CANCELLED job.

    Secret inputs were erased when the job ended; they are given again with -p and -H.
    """
    whole = whole_job_id(client, job_id)
    sent = headers(header_lines)
    values = parameters(written, _types(client, whole) if written else {})
    with explained():
        job = client.retry(whole, input=values, headers=sent)
    if then_watch:
        watch_to_the_end(client, job, as_json=as_json)
    elif as_json:
        print_json(job)
    else:
        words(f"job {job['job_id']} is {job['state']}; 'echelon watch {job['job_id'][:8]}' shows it")


def _types(client: EchelonClient, job_id: str) -> dict[str, str]:
    """Return the types of a job's inputs; none when its type is in the catalogue no more."""
    try:
        return input_types(client, client.job(job_id)["type"])
    except NotFound:
        return {}
