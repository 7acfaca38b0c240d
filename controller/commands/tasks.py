"""`echelon tasks`: the tasks of a job."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.follow import held, place
from echelon.controller.commands.options import json_option, state_option, whole_job_id, with_client
from echelon.controller.commands.screen import Column, is_terminal, lasted, print_json, print_table, words

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.answers import Task

_COLUMNS = (
    Column("TASK"),
    Column("ID"),
    Column("CLASS"),
    Column("STATE", state=True),
    Column("ATTEMPT", right=True),
    Column("EXIT", right=True),
    Column("WORKER"),
    Column("TOOK", right=True),
    Column("ERROR", wide=True),
)
#: A task's id is as long as a line is wide; on a terminal its place in the job names it.
_ID_AT = 1


@click.command()
@click.argument("job_id", metavar="ID")
@state_option
@click.option("--stage", type=click.IntRange(0), help="Only tasks of this stage; stages count from 0.")
@click.option("--limit", type=click.IntRange(1), default=200, show_default=True, help="At most so many.")
@json_option
@with_client
def tasks(client: Client, job_id: str, state: str | None, stage: int | None, limit: int, as_json: bool) -> None:
    """List the tasks of a job. TASK is STAGE.INDEX: 'echelon logs ID.STAGE.INDEX' shows what that task wrote."""
    whole = whole_job_id(client, job_id)
    found = list(client.tasks(whole, stage=stage, state=state, limit=limit + 1))
    more = len(found) > limit
    if as_json:
        print_json(found[:limit])
    else:
        drawn = is_terminal(sys.stdout)
        columns, rows = list(_COLUMNS), [list(_row(task)) for task in found[:limit]]
        if drawn:
            del columns[_ID_AT]
            for row in rows:
                del row[_ID_AT]
        print_table(columns, rows, empty="no such tasks")
    if more:
        words(f"these are the first {limit}; --limit shows more")


def _row(task: Task) -> tuple[object, ...]:
    return (
        place(task),
        task["task_id"],
        task["task_class"],
        held(task),
        task["attempt"] or "",
        _exit(task),
        task["worker"],
        lasted(task["started_at"], task["ended_at"]),
        task["error"],
    )


def _exit(task: Task) -> str:
    if task["signal"] is not None:
        return f"signal {task['signal']}"
    return "" if task["exit_code"] is None else str(task["exit_code"])
