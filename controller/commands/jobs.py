"""`echelon jobs`: list jobs, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, state_option, with_client
from echelon.controller.commands.progress import format_job_state
from echelon.controller.commands.screen import format_elapsed, format_moment, format_time
from echelon.controller.commands.tables import Column, print_table

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import Job

_COLUMNS: tuple[Column[Job], ...] = (
    Column("JOB", lambda job: job["job_id"], ids=True),
    Column("TYPE", lambda job: job["type"], least=12),
    Column("STATE", lambda job: format_job_state(job), state=True),
    Column("STAGES", lambda job: f"{_count_complete(job)}/{len(job['stages'])}", right=True, spare=3),
    Column("FAILED TASKS", lambda job: job["failed_tasks"] or "", right=True, spare=4),
    Column(
        "CREATED",
        lambda job: format_time(job["created_at"]),
        short=lambda job: format_moment(job["created_at"]),
        spare=1,
    ),
    Column("TOOK", lambda job: format_elapsed(job["started_at"], job["ended_at"]), right=True, spare=2),
    Column("ERROR", lambda job: job["error"], note=True),
)


@click.command()
@state_option
@click.option("--type", "job_type", metavar="JOB", help="Only jobs of this type.")
@click.option("-q", "--query", metavar="TEXT", help="Only jobs whose id, type or an input value contains this text.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="List at most this many.")
@json_option
@with_client
def jobs(client: Client, state: str | None, job_type: str | None, query: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    found = list(client.list_jobs(state=state, type=job_type, q=query, limit=limit))
    print_table(_COLUMNS, found, empty="no jobs", as_json=as_json)


def _count_complete(job: Job) -> int:
    return sum(stage["state"] in ("COMPLETED", "SKIPPED") for stage in job["stages"])
