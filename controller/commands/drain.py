"""`echelon drain`: let a worker end after its running tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, reject_ambiguous, with_client
from echelon.controller.commands.screen import escape_text, format_count, print_json, print_message
from echelon.shared.errors import NotFound

if TYPE_CHECKING:
    from echelon.controller.client import Client


@click.command()
@click.argument("worker", metavar="WORKER")
@json_option
@with_client
def drain(client: Client, worker: str, as_json: bool) -> None:
    """Let a worker take no more tasks, and end when those that run there have ended.

    WORKER is the name of a worker, as 'echelon workers' lists it, or its id.
    """
    known = [one for one in client.list_workers() if one["state"] != "LOST"]
    found = [one["worker_id"] for one in known if worker in (one["name"], one["worker_id"])]
    if not found:
        raise NotFound(f"no worker {escape_text(worker)!r} is up; 'echelon workers' lists them")
    if len(found) > 1:
        reject_ambiguous(tuple(found), f"several workers have the name {escape_text(worker)!r}; give one of their ids:")
    drained = client.drain_worker(found[0])
    if as_json:
        print_json(drained)
    else:
        running = format_count(drained["running"], "task")
        print_message(f"worker {escape_text(drained['name'])} takes no more tasks and ends; {running} ran there last")
