"""`echelon show`: one job with all its stages."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

import click

from echelon.controller.commands.options import json_option, resolve_job_id, with_client
from echelon.controller.commands.pace import Pace
from echelon.controller.commands.progress import (
    count_done,
    count_held_back,
    describe_with_error,
    format_job_state,
    format_stage_state,
    needs_person,
)
from echelon.controller.commands.screen import (
    escape_text,
    format_elapsed,
    format_time,
    is_terminal,
    print_json,
    print_message,
)
from echelon.controller.commands.tables import Column, print_facts, print_table
from echelon.shared.wrapping import cut_text

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import Job, Stage

#: So much of a result is shown on a terminal; --json of 'echelon tasks' has all of it.
_SHOWN_OF_RESULT: Final = 500
_COLUMNS: tuple[Column[Stage], ...] = (
    Column("STAGE", lambda stage: stage["number"], right=True),
    Column("ORDER", lambda stage: stage["order"], right=True, spare=2),
    Column("NAME", lambda stage: stage["name"], least=12),
    Column(
        "TASK CLASS",
        lambda stage: " > ".join(filter(None, (stage["spawn_task"], stage["task_class"]))),
        least=12,
        spare=3,
    ),
    Column("STATE", lambda stage: format_stage_state(stage), state=True),
    Column(
        "DONE", lambda stage: f"{count_done(stage)}/{'?' if stage['total'] is None else stage['total']}", right=True
    ),
    Column("TOOK", lambda stage: format_elapsed(stage["started_at"], stage["ended_at"]), right=True, spare=1),
    Column("REMARKS", lambda stage: describe_with_error(stage, Pace().describe_pace(stage)), note=True),
)


@click.command()
@click.argument("job_id", metavar="ID")
@json_option
@with_client
def show(client: Client, job_id: str, as_json: bool) -> None:
    """Show a job with its inputs and all its stages.

    Secret inputs are masked.
    """
    job = client.get_job(resolve_job_id(client, job_id))
    if as_json:
        print_json(job)
        return
    print_facts({**_list_facts(job), "result": _find_result(client, job)})
    click.echo()
    # Orders matter only where stages do not simply follow each other.
    plain = all(stage["order"] == stage["number"] for stage in job["stages"])
    print_table(_COLUMNS, job["stages"], empty="no stages", without="ORDER" if plain else "")
    if job["failed_tasks"]:
        short = job["job_id"][:8]
        print_message(f"'echelon errors {short}' groups the errors, 'echelon tasks {short} --state failed' lists them")
    if _is_held_back(job):
        print_message(f"'echelon why {job['job_id'][:8]}' says what holds it back")


def _is_held_back(job: Job) -> bool:
    """Tell whether part of an open job is paused, or waits for a person or a time."""
    stages = job["stages"]
    held = any(stage["paused"] or count_held_back(stage) or needs_person(stage) for stage in stages)
    return job["state"] in ("PENDING", "RUNNING") and (job["paused"] or held)


def _find_result(client: Client, job: Job) -> str | None:
    """Return what the only task of a completed job's last stage has written to $ECHELON_OUTPUT, cut for a terminal."""
    last = job["stages"][-1] if job["stages"] else None
    if job["state"] != "COMPLETED" or last is None or last["total"] != 1:
        return None
    found = [task["result"] for task in client.list_tasks(job["job_id"], stage=last["number"], limit=2)]
    text = escape_text((found[-1] or "").strip()) if found else ""
    return cut_text(text, _SHOWN_OF_RESULT) if is_terminal(sys.stdout) else text


def _list_facts(job: Job) -> dict[str, object]:
    facts: dict[str, object] = {
        "job": job["job_id"],
        "type": job["type"],
        "state": format_job_state(job),
        "paused": f"by {job['paused_by']} since {format_time(job['paused_at'])}" if job["paused"] else "",
        "error": job["error"],
        "failed tasks": job["failed_tasks"] if job["failed_tasks"] and job["state"] != "COMPLETED" else "",
        "created": format_time(job["created_at"]),
        "started": format_time(job["started_at"]),
        "ended": format_time(job["ended_at"]),
        "took": format_elapsed(job["started_at"], job["ended_at"]),
        "revision": job["revision"],
    }
    for name, value in job["input"].items():
        facts[f"input {name}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return facts
