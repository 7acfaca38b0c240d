"""`echelon why`: the one reason that holds a job, a stage or a task back now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, with_client
from echelon.controller.commands.places import METAVAR, Place, find_place, task_at
from echelon.controller.commands.screen import age, length, moment, print_json, safe, words

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.answers import Why


@click.command()
@click.argument("what", metavar=METAVAR)
@json_option
@with_client
def why(client: Client, what: str, as_json: bool) -> None:
    """Say why something does not move on.

    In one sentence, about a job, a stage or a task. With --json the code too: WAITING_STAGE, WAITING_FILES, PAUSED,
    MAX_PARALLEL, NO_WORKER_FOR_QUEUE, ALL_SLOTS_BUSY, RETRY_AT, BLOCKED_BY_FAILURE, BROKER_DOWN; READY, RUNNING or
    ENDED when nothing holds it back.

    \b
      echelon why 3f2a
      echelon why 3f2a.1.17
    """
    place = find_place(client, what)
    if place.index is None:
        found = client.why(place.job_id, place.stage)
    elif place.of_one_task:
        found = client.why_task(task_at(client, place)["task_id"])
    else:
        raise click.UsageError("'why' is about one thing: name one task, not a range of them")
    if as_json:
        print_json(found)
        return
    click.echo(_sentence(found))
    if hint := _hint(place, found):
        words(hint)


def _sentence(found: Why) -> str:
    """Return the sentence, with the time that belongs to it."""
    said = safe(found["sentence"])
    if found["at"] is None:
        return said
    if found["code"] == "PAUSED":
        return f"{said.removesuffix('.')} since {moment(found['at'])}, for {length(age(found['at']))}."
    return f"{said.removesuffix('.')}: {moment(found['at'])}."


def _hint(asked: Place, found: Why) -> str:
    """Return what a person can do about it."""
    index = None if found["task_id"] is None else "spawn" if found["index"] is None else str(found["index"])
    place, stage = Place(asked.job_id, found["stage"], index), Place(asked.job_id, found["stage"])
    if found["code"] == "BLOCKED_BY_FAILURE":
        return (
            f"'echelon logs {place}' shows what it wrote; 'echelon retry {stage}' runs again what has failed, "
            f"'echelon skip {stage} --state failed' goes on without it"
        )
    if found["code"] != "PAUSED":
        return ""
    if place.index is not None and asked.index is None and not place.spawn:
        return f"'echelon resume {stage} --state pending' lets go on what is paused"
    return f"'echelon resume {place}' lets it go on"
