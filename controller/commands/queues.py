"""`echelon queues`: what waits and runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, with_client
from echelon.controller.commands.screen import Column, print_json, print_table

if TYPE_CHECKING:
    from echelon.controller.client import Client

_COLUMNS = (Column("QUEUE"), Column("READY", right=True), Column("RUNNING", right=True))


@click.command()
@json_option
@with_client
def queues(client: Client, as_json: bool) -> None:
    """List what waits and runs in each queue."""
    found = client.queues()
    if as_json:
        print_json(found)
    else:
        rows = [(one["queue"], one["ready"], one["running"]) for one in found]
        print_table(_COLUMNS, rows, empty="nothing waits and nothing runs")
