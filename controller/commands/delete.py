"""`echelon delete`: remove an ended job with all its files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, whole_job_id, with_client
from echelon.controller.commands.screen import is_terminal, print_json, words

if TYPE_CHECKING:
    from echelon.controller.client import Client


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask; only a person at a terminal is asked.")
@json_option
@with_client
def delete(client: Client, job_id: str, yes: bool, as_json: bool) -> None:
    """Remove an ended job with all its files.

    Its history, its logs and its artefacts are gone then.
    """
    whole = whole_job_id(client, job_id)
    if not yes and is_terminal(sys.stdin) and is_terminal(sys.stderr):
        click.confirm(f"Remove job {whole} with its logs and artefacts?", abort=True, err=True)
    job = client.delete(whole)
    if as_json:
        print_json(job)
    else:
        words(f"job {whole} is gone")
