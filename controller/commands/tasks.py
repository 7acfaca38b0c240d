"""`echelon tasks`: list the tasks of a job."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from echelon.controller.commands.follow import format_place
from echelon.controller.commands.options import json_option, resolve_job_id, state_option, with_client
from echelon.controller.commands.progress import format_state
from echelon.controller.commands.screen import (
    count_seconds,
    escape_text,
    format_elapsed,
    is_terminal,
    print_message,
)
from echelon.controller.commands.tables import Column, print_table
from echelon.shared.wrapping import cut_text

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import Task

#: So much of a result is shown on a terminal; --json and a pipe have all of it.
_SHOWN_OF_RESULT: Final = 60
#: States that ask for a look come first.
_STATES: Final = ("FAILED", "RUNNING", "QUEUED", "PENDING", "CANCELLED", "SKIPPED", "COMPLETED")
_COLUMNS: tuple[Column[Task], ...] = (
    Column("TASK", lambda task: format_place(task)),
    Column("ID", lambda task: task["task_id"]),
    Column("CLASS", lambda task: task["task_class"], least=8, spare=5),
    # A controller of an earlier release sends none.
    Column("ITEM", lambda task: task.get("label"), least=12, spare=2),
    Column("STATE", lambda task: format_state(task), state=True),
    Column("ATTEMPT", lambda task: task["attempt"] or "", right=True, spare=3),
    Column(
        "EXIT", lambda task: task["exit_code"] if task["signal"] is None else f"signal {task['signal']}", right=True
    ),
    Column("WORKER", lambda task: task["worker"], least=8, spare=4),
    Column("TOOK", lambda task: format_elapsed(task["started_at"], task["ended_at"]), right=True, spare=1),
    Column("ERROR", lambda task: task["error"], note=True),
    Column(
        "RESULT",
        lambda task: (task["result"] or "").strip(),
        short=lambda task: cut_text(escape_text((task["result"] or "").strip()), _SHOWN_OF_RESULT),
        least=12,
        spare=6,
    ),
)
#: A choice of --sort -> what is compared; the smallest stands first.
_ORDERS: Final[dict[str, Callable[[Task], float]]] = {
    "took": lambda task: -count_seconds(task["started_at"], task["ended_at"]) if task["started_at"] else 1,
    "ended": lambda task: -datetime.fromisoformat(task["ended_at"]).timestamp() if task["ended_at"] else 1,
    "state": lambda task: _STATES.index(task["state"]),
    "attempt": lambda task: -task["attempt"],
}


@click.command()
@click.argument("job_id", metavar="ID")
@state_option
@click.option("--stage", type=click.IntRange(0), help="Only tasks of this stage; stages count from 0.")
@click.option("--run", type=click.IntRange(1), help="The tasks of this run of their stages instead of the present one.")
@click.option(
    "--sort",
    "order",
    type=click.Choice(["place", *_ORDERS]),
    default="place",
    show_default=True,
    help="First those that took longest, ended last, ask for a look (FAILED, RUNNING, ...) or had most attempts. All "
    "but place read all tasks of the job, and --limit counts after sorting.",
)
@click.option("--limit", type=click.IntRange(1), default=200, show_default=True, help="List at most this many.")
@json_option
@with_client
def tasks(
    client: Client,
    job_id: str,
    state: str | None,
    stage: int | None,
    run: int | None,
    order: str,
    limit: int,
    as_json: bool,
) -> None:
    """List the tasks of a job. TASK is STAGE.INDEX: 'echelon logs ID.STAGE.INDEX' shows the output of that task."""
    wanted = None if order in _ORDERS else limit + 1
    tasks = client.list_tasks(resolve_job_id(client, job_id), stage=stage, state=state, run=run, limit=wanted)
    found = _choose_first(tasks, order, limit + 1)
    # An id would fill half of a terminal's line; there the place in the job names the task.
    without = "ID" if is_terminal(sys.stdout) else ""
    print_table(_COLUMNS, found[:limit], empty="no such tasks", as_json=as_json, without=without)
    if len(found) > limit:
        print_message(f"these are the first {limit}; --limit shows more")


def _choose_first(tasks: Iterable[Task], order: str, count: int) -> list[Task]:
    """Return the first tasks of an order; no more than these are kept while the others are read."""
    return heapq.nsmallest(count, tasks, key=_ORDERS[order]) if order in _ORDERS else list(tasks)
