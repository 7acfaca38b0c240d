"""`echelon queues`: how many tasks wait and run in each queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, with_client
from echelon.controller.commands.tables import Column, print_table

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import Queue

_COLUMNS: tuple[Column[Queue], ...] = (
    Column("QUEUE", lambda queue: queue["queue"], least=12),
    Column("READY", lambda queue: queue["ready"], right=True),
    Column("RUNNING", lambda queue: queue["running"], right=True),
)


@click.command()
@json_option
@with_client
def queues(client: Client, as_json: bool) -> None:
    """Count the waiting and the running tasks of each queue."""
    print_table(_COLUMNS, client.list_queues(), empty="no tasks wait or run", as_json=as_json)
