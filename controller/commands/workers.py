"""`echelon workers`: who runs tasks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.follow import place
from echelon.controller.commands.options import json_option, with_client
from echelon.controller.commands.screen import Column, counted, is_terminal, moment, print_json, print_table, words

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.answers import Held, Worker

#: A controller tells no more of one worker.
_SHOWN = 100

_COLUMNS = (
    Column("WORKER"),
    Column("HOST"),
    Column("STATE", state=True),
    Column("RUNNING", right=True),
    Column("SLOTS"),
    Column("LAST SEEN"),
    Column("VERSION"),
)


_HELD = (
    Column("WORKER"),
    Column("JOB"),
    Column("TASK"),
    Column("ATTEMPT", right=True),
    Column("SINCE"),
)


@click.command()
@json_option
@with_client
def workers(client: Client, as_json: bool) -> None:
    """List the workers: who lives, how much room each has, and what runs there. TASK is STAGE.INDEX."""
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
    held = [(one, attempt) for one in found for attempt in one["attempts"]]
    if held:
        click.echo()
        print_table(_HELD, [_row(one, attempt) for one, attempt in held], empty="")
    rest = sum(max(0, one["running"] - len(one["attempts"])) for one in found if len(one["attempts"]) >= _SHOWN)
    if rest:
        words(f"{counted(rest, 'attempt')} more: of one worker no more than {_SHOWN} are shown")


def _row(worker: Worker, held: Held) -> tuple[object, ...]:
    return (
        worker["name"],
        held["job_id"][:8] if is_terminal(sys.stdout) else held["job_id"],
        place(held),
        held["attempt"],
        moment(held["started_at"]),
    )
