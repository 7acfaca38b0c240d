"""`echelon prune`: remove all jobs that ended long ago."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import LENGTH_OF_TIME, json_option, with_client
from echelon.controller.commands.screen import format_bytes, format_count, is_terminal, print_json, print_message

if TYPE_CHECKING:
    from echelon.controller.client import Client


@click.command()
@click.option("--older-than", type=LENGTH_OF_TIME, required=True, help="Time since their end (12h, 30d).")
@click.option("--type", "job_type", metavar="JOB", help="Only jobs of this type.")
@click.option("--dry-run", is_flag=True, help="Remove nothing, only tell how many jobs and bytes would go.")
@click.option("--yes", is_flag=True, help="Do not ask. Without a terminal the command never asks.")
@json_option
@with_client
def prune(client: Client, older_than: float, job_type: str | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove ended jobs with their histories, logs and files.

    Jobs that have not ended stay, whatever their age.

    \b
      echelon prune --older-than 30d --dry-run
    """
    if not (dry_run or yes) and is_terminal(sys.stdin) and is_terminal(sys.stderr):
        would = client.prune_jobs(older_than, type=job_type, dry_run=True)
        click.confirm(
            f"Remove {format_count(would['jobs'], 'job')} with {format_bytes(would['bytes'])}?", abort=True, err=True
        )
    pruned = client.prune_jobs(older_than, type=job_type, dry_run=dry_run)
    if as_json:
        print_json({**pruned, "dry_run": dry_run})
    else:
        gone = "would be removed" if dry_run else "removed"
        print_message(f"{format_count(pruned['jobs'], 'job')} {gone}, {format_bytes(pruned['bytes'])}")
