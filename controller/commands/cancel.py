"""`echelon cancel`: end a job for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from controller.commands.options import json_option, whole_job_id, with_client
from controller.commands.screen import print_json, words

if TYPE_CHECKING:
    from controller.client import EchelonClient


@click.command()
@click.argument("job_id", metavar="ID")
@json_option
@with_client
def cancel(client: EchelonClient, job_id: str, as_json: bool) -> None:
    """End a job for good.

    Nothing of it starts any more, and what runs is ended with all its processes. 'echelon retry' opens it again.
    """
    job = client.cancel(whole_job_id(client, job_id))
    if as_json:
        print_json(job)
    else:
        words(f"job {job['job_id']} is {job['state']}")
