"""`echelon workers`: list the workers and the attempts that run there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.follow import format_place
from echelon.controller.commands.options import json_option, with_client
from echelon.controller.commands.screen import format_count, format_moment, format_time, print_json, print_message
from echelon.controller.commands.tables import Column, print_table

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import Worker, WorkerAttempt

#: The most attempts that a controller lists of one worker.
_LISTED_AT_MOST = 100

_COLUMNS: tuple[Column[Worker], ...] = (
    Column("WORKER", lambda worker: worker["name"], least=10),
    Column("HOST", lambda worker: worker["host"], least=8, spare=2),
    Column("STATE", lambda worker: worker["state"], state=True),
    Column("RUNNING", lambda worker: worker["running"], right=True),
    Column("SLOTS", lambda worker: _format_slots(worker["slots"]), note=True),
    Column(
        "LAST SEEN",
        lambda worker: format_time(worker["last_seen_at"]),
        short=lambda worker: format_moment(worker["last_seen_at"]),
    ),
    Column("VERSION", lambda worker: worker["version"], least=8, spare=3),
)
#: Of a worker's name and one of its attempts.
_ATTEMPT_COLUMNS: tuple[Column[tuple[str, WorkerAttempt]], ...] = (
    Column("WORKER", lambda row: row[0], least=10),
    Column("JOB", lambda row: row[1]["job_id"], ids=True),
    Column("TASK", lambda row: format_place(row[1])),
    Column("ATTEMPT", lambda row: row[1]["attempt"], right=True),
    Column(
        "SINCE",
        lambda row: format_time(row[1]["started_at"]),
        short=lambda row: format_moment(row[1]["started_at"]),
    ),
)


@click.command()
@json_option
@with_client
def workers(client: Client, as_json: bool) -> None:
    """List the workers: their state, their slots, and the attempts that run there. TASK is STAGE.INDEX."""
    found = client.list_workers()
    if as_json:
        print_json(found)
        return
    print_table(_COLUMNS, found, empty="no workers")
    attempts = [(worker["name"], attempt) for worker in found for attempt in worker["attempts"]]
    if attempts:
        click.echo()
        print_table(_ATTEMPT_COLUMNS, attempts, empty="")
    cut = (worker for worker in found if len(worker["attempts"]) >= _LISTED_AT_MOST)
    if rest := sum(max(0, worker["running"] - len(worker["attempts"])) for worker in cut):
        print_message(f"{format_count(rest, 'attempt')} more: of one worker at most {_LISTED_AT_MOST} are listed")


def _format_slots(slots: dict[str, int]) -> str:
    return ", ".join(f"{'any queue' if queue == '*' else queue}: {number}" for queue, number in slots.items())
