"""`echelon jobs`: list jobs, newest first."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.follow import held
from echelon.controller.commands.options import json_option, state_option, with_client
from echelon.controller.commands.screen import Column, is_terminal, lasted, moment, print_json, print_table

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.answers import Job

_COLUMNS = (
    Column("JOB"),
    Column("TYPE"),
    Column("STATE", state=True),
    Column("STAGES", right=True),
    Column("FAILED TASKS", right=True),
    Column("CREATED"),
    Column("TOOK", right=True),
    Column("ERROR", wide=True),
)


@click.command()
@state_option
@click.option("--type", "job_type", metavar="JOB", help="Only jobs of this type.")
@click.option("-q", "--query", metavar="TEXT", help="Only jobs whose id, type or an input value contains this.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@json_option
@with_client
def jobs(client: Client, state: str | None, job_type: str | None, query: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    found = list(client.jobs(state=state, type=job_type, q=query, limit=limit))
    if as_json:
        print_json(found)
    else:
        print_table(_COLUMNS, [_row(job) for job in found], empty="no jobs")


def _row(job: Job) -> tuple[object, ...]:
    complete = sum(stage["state"] in ("COMPLETED", "SKIPPED") for stage in job["stages"])
    return (
        job["job_id"][:8] if is_terminal(sys.stdout) else job["job_id"],
        job["type"],
        held(job),
        f"{complete}/{len(job['stages'])}",
        job["failed_tasks"] or "",
        moment(job["created_at"]),
        lasted(job["started_at"], job["ended_at"]),
        job["error"],
    )
