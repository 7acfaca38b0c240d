"""`echelon errors`: why tasks of a job failed, errors of the same kind counted as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.follow import format_named
from echelon.controller.commands.options import json_option, resolve_job_id, with_client
from echelon.controller.commands.screen import format_count, print_json, print_message
from echelon.controller.commands.tables import Column, print_table
from echelon.controller.commands.targets import Target, find_retry

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import ErrorGroup

_COLUMNS: tuple[Column[ErrorGroup], ...] = (
    Column("TASKS", lambda group: group["count"], right=True),
    Column("STAGE", lambda group: group["stage"], right=True),
    Column("SUCH AS", lambda group: _list_places(group), least=12),
    Column("ERROR", lambda group: describe_group(group), note=True),
)


@click.command()
@click.argument("job_id", metavar="ID")
@json_option
@with_client
def errors(client: Client, job_id: str, as_json: bool) -> None:
    """Say why tasks of a job failed, the commonest errors first.

    Errors that differ only in numbers, paths and the values of items are counted as one. SUCH AS names the first
    tasks: 'echelon logs ID.STAGE.INDEX' shows their output.
    """
    job_id = resolve_job_id(client, job_id)
    found = client.list_errors(job_id)
    if as_json:
        print_json(found)
        return
    print_table(_COLUMNS, found["groups"], empty="no task has failed")
    if rest := found["failed_tasks"] - found["grouped_tasks"]:
        print_message(f"{format_count(rest, 'failed task')} more: only the first {found['grouped_tasks']} are grouped")
    if found["groups"]:
        print_message(find_retry(client, Target(job_id), client.get_job(job_id)))


def describe_group(group: ErrorGroup) -> str:
    """Return what the errors of a group have in common; the error itself if it is one."""
    return group["example"] if group["count"] == 1 else group["error"]


def _list_places(group: ErrorGroup) -> str:
    more = ", ..." if group["count"] > len(group["tasks"]) else ""
    return ", ".join(map(format_named, group["tasks"])) + more
