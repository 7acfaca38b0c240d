"""`echelon why`: the one reason that holds a job, a stage or a task back now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, with_client
from echelon.controller.commands.screen import (
    count_seconds,
    escape_text,
    format_duration,
    format_time,
    print_json,
    print_message,
    print_sentence,
)
from echelon.controller.commands.targets import TARGET_METAVAR, Target, find_retry, find_target, find_task

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import Task, Why


@click.command()
@click.argument("what", metavar=TARGET_METAVAR)
@json_option
@with_client
def why(client: Client, what: str, as_json: bool) -> None:
    """Say why a job, a stage or a task does not move on.

    In one sentence. --json adds the code: WAITING_STAGE, WAITING_FILES, PAUSED, MAX_PARALLEL, NO_WORKER_FOR_QUEUE,
    ALL_SLOTS_BUSY, RETRY_AT, BLOCKED_BY_FAILURE or BROKER_DOWN; READY, RUNNING or ENDED if nothing holds it back.

    \b
      echelon why 3f2a
      echelon why 3f2a.1.17
    """
    target, task = find_target(client, what), None
    if target.index is None:
        found = client.explain_job(target.job_id, target.stage)
    elif target.is_one_task:
        task = find_task(client, target)
        found = client.explain_task(task["task_id"])
    else:
        raise click.UsageError("'why' explains one task: name a single one, not a range")
    if as_json:
        print_json(found)
        return
    print_sentence(_format_sentence(found))
    hint = _find_retry(client, target, task) if found["code"] == "ENDED" else _find_hint(target, found)
    if hint:
        print_message(hint)


def _format_sentence(found: Why) -> str:
    """Return the sentence with its time."""
    sentence = escape_text(found["sentence"])
    if found["at"] is None:
        return sentence
    time = format_time(found["at"])
    if found["code"] == "PAUSED":
        return f"{sentence.removesuffix('.')} since {time}, for {format_duration(count_seconds(found['at']))}."
    return f"{sentence.removesuffix('.')}: {time}."


def _find_hint(asked: Target, found: Why) -> str:
    """Return which commands let it move on."""
    index = None if found["task_id"] is None else "spawn" if found["index"] is None else str(found["index"])
    target, stage = Target(asked.job_id, found["stage"], index), Target(asked.job_id, found["stage"])
    if found["code"] == "BLOCKED_BY_FAILURE":
        return (
            f"'echelon logs {target}' shows its output; 'echelon retry {stage}' runs the failed tasks again, "
            f"'echelon skip {stage} --state failed' goes on without them"
        )
    if found["code"] != "PAUSED":
        return ""
    if target.index is not None and asked.index is None and not target.is_spawn:
        return f"'echelon resume {stage} --state pending' resumes its paused tasks"
    return f"'echelon resume {target}' lets it go on"


def _find_retry(client: Client, target: Target, task: Task | None) -> str:
    """Return where the output of what has failed is, and how to run it again; nothing if nothing has failed."""
    job = client.get_job(target.job_id)
    stages = job["stages"] if target.stage is None else job["stages"][target.stage : target.stage + 1]
    if task is not None and task["state"] == "FAILED":
        output = f"'echelon logs {target}' shows its output"
    elif task is None and any(stage["counts"].get("FAILED") or stage["spawn_state"] == "FAILED" for stage in stages):
        output = f"'echelon logs {target.job_id[:8]} --failed' shows the output of its failed tasks"
    else:
        return ""
    return f"{output}\n{find_retry(client, target, job)}"
