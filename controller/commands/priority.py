"""`echelon priority`: change which tasks of a queue start first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, with_client
from echelon.controller.commands.screen import print_json, print_message
from echelon.controller.commands.targets import find_target
from echelon.controller.commands.verbs import if_match_option

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import ChangeResult


@click.command()
@click.argument("what", metavar="ID[.STAGE]")
@click.argument("number", metavar="N", type=click.IntRange(0, 9))
@if_match_option
@json_option
@with_client
def priority(client: Client, what: str, number: int, etag: str | None, as_json: bool) -> None:
    """Change the priority of the waiting tasks of a job or a stage, from 0 to 9.

    Of the tasks that wait in a queue, those of a higher priority start first. The new priority replaces that of the
    task classes. Running tasks go on.

    \b
      echelon priority 3f2a 9
      echelon priority 3f2a.Publish 5
    """
    target = find_target(client, what)
    if target.index is not None:
        stage = f"{target.job_id[:8]}.{target.stage}"
        raise click.UsageError(f"all tasks of a stage have the same priority: name the stage, {stage}")
    answer: ChangeResult
    if target.stage is None:
        answer = client.set_job_priority(target.job_id, number, etag=etag)
    else:
        answer = client.set_stage_priority(target.job_id, target.stage, number, etag=etag)
    if as_json:
        print_json(answer)
    else:
        print_message(f"{target.describe_target()} has priority {number}")
