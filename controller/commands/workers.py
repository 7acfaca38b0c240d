"""`echelon workers`: who runs tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from controller.commands.options import json_option, with_client
from controller.commands.screen import Column, moment, print_json, print_table

if TYPE_CHECKING:
    from controller.client import EchelonClient

_COLUMNS = (
    Column("WORKER"),
    Column("HOST"),
    Column("STATE", state=True),
    Column("RUNNING", right=True),
    Column("SLOTS"),
    Column("LAST SEEN"),
    Column("VERSION"),
)


@click.command()
@json_option
@with_client
def workers(client: EchelonClient, as_json: bool) -> None:
    """List the workers: who lives and how much room each has."""
    found = client.workers()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["name"],
            one["host"],
            one["state"],
            one["running"],
            ", ".join(f"{'any queue' if queue == '*' else queue}: {room}" for queue, room in one["slots"].items()),
            moment(one["last_seen_at"]),
            one["version"],
        )
        for one in found
    ]
    print_table(_COLUMNS, rows, empty="no workers")
