"""`echelon logs`: what tasks wrote."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import refuse_ambiguous, with_client
from echelon.controller.commands.places import find_place, task_at
from echelon.controller.commands.screen import is_terminal, safe, safe_lines
from echelon.shared.errors import NotFound

if TYPE_CHECKING:
    from echelon.controller.client import Client

#: The end of a piece that only the next piece makes whole.
_UNFINISHED = re.compile(r"(\r|\x1b(\[[0-9;:]*)?)\Z")


@click.command()
@click.argument("what", metavar="ID|TASK")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job or the task has ended.")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Only this one (of a task).")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="This attempt instead of the last (of a task).")
@with_client
def logs(client: Client, what: str, follow: bool, stream: str | None, attempt: int | None) -> None:
    """Show what a job's tasks wrote, or one task.

    TASK is a task's id, or its place: JOB.STAGE.INDEX, for example 3f2a.1.17; JOB.STAGE.spawn is a spawn task, and
    JOB.STAGE the only task of a stage. STAGE is a number or a name.
    """
    kind, whole = _meant(client, what.strip().lower())
    if kind == "task":
        pieces = client.task_log(whole, stream=stream, attempt=attempt, follow=follow)
    elif stream or attempt:
        raise click.UsageError("--stream and --attempt are for one task; 'echelon tasks ID' lists the tasks of a job")
    else:
        pieces = client.log(whole, follow=follow)
    for text in harmless(pieces) if is_terminal(sys.stdout) else pieces:
        sys.stdout.write(text)
        sys.stdout.flush()


def harmless(pieces: Iterable[str]) -> Iterator[str]:
    """Yield pieces of a log as a terminal may have them; what is cut in two at a seam is put together first."""
    held = ""
    for piece in pieces:
        text = held + piece
        unfinished = _UNFINISHED.search(text)
        held = unfinished[0] if unfinished and len(unfinished[0]) < 64 else ""
        yield safe_lines(text[: len(text) - len(held)])
    if held:
        yield safe_lines(held)


def _meant(client: Client, what: str) -> tuple[str, str]:
    """Return ("job" or "task", whole id)."""
    from echelon.controller.client import Ambiguous

    if "." in what:
        return "task", _task_at(client, what)
    if not re.fullmatch(r"[0-9a-f-]{1,36}", what):
        raise click.UsageError(f"{safe(what)!r} is neither an id nor JOB.STAGE.INDEX; 'echelon jobs' lists the jobs")
    try:
        return client.find(what)
    except Ambiguous as error:
        refuse_ambiguous(error.candidates, str(error))


def _task_at(client: Client, what: str) -> str:
    """Return the id of the task at a place; without an index, of the stage's only task."""
    place = find_place(client, what)
    if place.stage is not None and place.index is None:
        return _only_task(client, place.job_id, place.stage)
    if not place.of_one_task:
        raise click.UsageError("name one task, and no range of them")
    return task_at(client, place)["task_id"]


def _only_task(client: Client, job_id: str, stage: int) -> str:
    found = [task for task in client.tasks(job_id, stage=stage, limit=3) if not task["spawn"]]
    if not found:
        raise NotFound(f"job {job_id} has no tasks in stage {stage}")
    if len(found) > 1:
        raise click.UsageError(f"stage {stage} has more than one task; name one: {job_id[:8]}.{stage}.INDEX")
    return found[0]["task_id"]
