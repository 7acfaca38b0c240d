"""`echelon show`: one job with all its stages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, whole_job_id, with_client
from echelon.controller.commands.progress import done, held_back, remarks, waits_for_a_person
from echelon.controller.commands.screen import Column, lasted, moment, print_facts, print_json, print_table, words

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.answers import Job, Stage

_COLUMNS = (
    Column("STAGE", right=True),
    Column("ORDER", right=True),
    Column("NAME"),
    Column("TASK CLASS"),
    Column("STATE", state=True),
    Column("DONE", right=True),
    Column("TOOK", right=True),
    Column("REMARKS", wide=True),
)
#: Told only where stages do not simply follow each other.
_ORDER_AT = 1


@click.command()
@click.argument("job_id", metavar="ID")
@json_option
@with_client
def show(client: Client, job_id: str, as_json: bool) -> None:
    """Show a job with all its stages.

    And its inputs, secrets masked.
    """
    job = client.job(whole_job_id(client, job_id))
    if as_json:
        print_json(job)
        return
    print_facts(_facts(job))
    click.echo()
    columns, rows = list(_COLUMNS), [list(_row(stage)) for stage in job["stages"]]
    if all(stage["order"] == stage["number"] for stage in job["stages"]):
        del columns[_ORDER_AT]
        for row in rows:
            del row[_ORDER_AT]
    print_table(columns, rows, empty="no stages")
    if job["failed_tasks"]:
        words(f"'echelon tasks {job['job_id'][:8]} --state failed' says which tasks failed and why")
    if _held(job):
        words(f"'echelon why {job['job_id'][:8]}' says what holds it back")


def _held(job: Job) -> bool:
    """Tell whether something of an open job is paused, or waits for a person or a time."""
    stages = job["stages"]
    held = any(stage["paused"] or held_back(stage) or waits_for_a_person(stage) for stage in stages)
    return job["state"] in ("PENDING", "RUNNING") and (job["paused"] or held)


def _facts(job: Job) -> dict[str, object]:
    facts: dict[str, object] = {
        "job": job["job_id"],
        "type": job["type"],
        "state": job["state"],
        "paused": f"by {job['paused_by']} since {moment(job['paused_at'])}" if job["paused"] else "",
        "error": job["error"],
        "failed tasks": job["failed_tasks"] or "",
        "created": moment(job["created_at"]),
        "started": moment(job["started_at"]),
        "ended": moment(job["ended_at"]),
        "took": lasted(job["started_at"], job["ended_at"]),
        "revision": job["revision"],
    }
    return facts | {f"input {name}": _value(value) for name, value in job["input"].items()}


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _row(stage: Stage) -> tuple[object, ...]:
    spawns = f"{stage['spawn_task']} > {stage['task_class']}" if stage["spawn_task"] else stage["task_class"]
    return (
        stage["number"],
        stage["order"],
        stage["name"],
        spawns,
        stage["state"],
        f"{done(stage)}/{'?' if stage['total'] is None else stage['total']}",
        lasted(stage["started_at"], stage["ended_at"]),
        "; ".join(part for part in (remarks(stage), stage["error"]) if part),
    )
