"""`echelon delete`: remove an ended job with all its files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, resolve_job_id, with_client
from echelon.controller.commands.screen import is_terminal, print_json, print_message

if TYPE_CHECKING:
    from echelon.controller.client import Client


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask. Without a terminal the command never asks.")
@json_option
@with_client
def delete(client: Client, job_id: str, yes: bool, as_json: bool) -> None:
    """Remove an ended job with all its files.

    Its history, logs and artefacts are removed too.
    """
    job_id = resolve_job_id(client, job_id)
    if not yes and is_terminal(sys.stdin) and is_terminal(sys.stderr):
        click.confirm(f"Remove job {job_id} with its logs and artefacts?", abort=True, err=True)
    job = client.delete_job(job_id)
    if as_json:
        print_json(job)
    else:
        print_message(f"job {job_id} is removed")
