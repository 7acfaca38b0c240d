"""`echelon logs`: show the output of tasks."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.follow import format_named
from echelon.controller.commands.options import reject_ambiguous, with_client
from echelon.controller.commands.screen import escape_log, escape_text, is_terminal
from echelon.controller.commands.targets import find_target, find_task
from echelon.shared.errors import NotFound

if TYPE_CHECKING:
    from echelon.controller.client import Client

#: The end of a piece whose meaning depends on the next piece.
_UNFINISHED = re.compile(r"(\r|\x1b(\[[0-9;:]*)?)\Z")


@click.command()
@click.argument("what", metavar="ID|TASK")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job or the task has ended.")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Only this one (of a task).")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="This attempt instead of the last (of a task).")
@click.option("--failed", is_flag=True, help="Only the failed tasks (of a job).")
@click.option("--grep", "pattern", metavar="TEXT", help="Only lines that hold this text, in any case.")
@click.option("--tail", type=click.IntRange(1), metavar="N", help="Only the last N lines of each part.")
@with_client
def logs(
    client: Client,
    what: str,
    follow: bool,
    stream: str | None,
    attempt: int | None,
    failed: bool,
    pattern: str | None,
    tail: int | None,
) -> None:
    """Show the output of a job's tasks, or of one task.

    TASK is a task's id or its place: JOB.STAGE.INDEX, for example 3f2a.1.17. JOB.STAGE.spawn is a spawn task, and
    JOB.STAGE the only task of a stage. STAGE is a number or a name. A line such as ==> stage 0 Fetch, task 17 <==
    stands above each part.
    """
    if follow and (tail or failed):
        raise click.UsageError("--tail and --failed choose among what there is; with --follow, give neither")
    kind, whole = _resolve_name(client, what.strip().lower())
    if kind == "task":
        if failed:
            raise click.UsageError("--failed is for a job; this is one task")
        pieces = client.read_task_log(whole, stream=stream, attempt=attempt, follow=follow)
    elif attempt or (stream and not failed):
        raise click.UsageError("--stream and --attempt are for one task; 'echelon tasks ID' lists the tasks of a job")
    else:
        pieces = _read_failed(client, whole, stream) if failed else client.read_log(whole, follow=follow)
    if pattern is not None or tail is not None:
        pieces = choose_lines(pieces, pattern, tail)
    for text in escape_pieces(pieces) if is_terminal(sys.stdout) else pieces:
        sys.stdout.write(text)
        sys.stdout.flush()


def _read_failed(client: Client, job_id: str, stream: str | None) -> Iterator[str]:
    """Yield the output of the failed tasks of a job, each under a line that names it."""
    for task in client.list_tasks(job_id, state="FAILED"):
        yield f"==> task {format_named(task)}: {escape_text(task['error'])} <==\n"
        last = ""
        for piece in client.read_task_log(task["task_id"], stream=stream):
            yield piece
            last = piece or last
        yield "\n" if last.endswith("\n") else "\n\n"


def choose_lines(pieces: Iterable[str], pattern: str | None, tail: int | None) -> Iterator[str]:
    """Yield the lines that hold a text, of each part the last ones, under the lines that name the parts."""
    head = ""
    kept: deque[str] = deque(maxlen=tail)
    wanted = (pattern or "").casefold()
    for line in _iterate_lines(pieces):
        if line.startswith("==> ") and line.rstrip().endswith(" <=="):
            yield from kept
            kept.clear()
            head = line
        elif line.strip() and wanted in line.casefold():
            if head:
                yield head
                head = ""
            if tail is None:
                yield line
            else:
                kept.append(line)
    yield from kept


def _iterate_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Yield lines with their ends."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from (f"{line}\n" for line in lines)
    if rest:
        yield f"{rest}\n"


def escape_pieces(pieces: Iterable[str]) -> Iterator[str]:
    """Yield pieces of a log, escaped for a terminal; sequences that are split between two pieces are joined first."""
    rest = ""
    for piece in pieces:
        text = rest + piece
        unfinished = _UNFINISHED.search(text)
        rest = unfinished[0] if unfinished and len(unfinished[0]) < 64 else ""
        yield escape_log(text[: len(text) - len(rest)])
    if rest:
        yield escape_log(rest)


def _resolve_name(client: Client, what: str) -> tuple[str, str]:
    """Return ("job" or "task", whole id)."""
    from echelon.controller.client import Ambiguous

    if "." in what:
        return "task", _find_task_id(client, what)
    if not re.fullmatch(r"[0-9a-f-]{1,36}", what):
        message = "is neither an id nor JOB.STAGE.INDEX; 'echelon jobs' lists the jobs"
        raise click.UsageError(f"{escape_text(what)!r} {message}")
    try:
        return client.find_id(what)
    except Ambiguous as error:
        reject_ambiguous(error.candidates, str(error))


def _find_task_id(client: Client, what: str) -> str:
    """Return the id of the task at a place; without an index, that of the stage's only task."""
    target = find_target(client, what)
    if target.is_one_task:
        return find_task(client, target)["task_id"]
    if target.stage is None or target.index is not None:
        raise click.UsageError("name one task, not a range of them")
    job_id, stage = target.job_id, target.stage
    found = [task for task in client.list_tasks(job_id, stage=stage, limit=3) if not task["spawn"]]
    if not found:
        raise NotFound(f"job {job_id} has no tasks in stage {stage}")
    if len(found) > 1:
        raise click.UsageError(f"stage {stage} has more than one task; name one: {job_id[:8]}.{stage}.INDEX")
    return found[0]["task_id"]
