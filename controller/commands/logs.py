"""`echelon logs`: show the output of tasks."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

from echelon.controller.commands.follow import format_named
from echelon.controller.commands.options import LENGTH_OF_TIME, reject_ambiguous, with_client
from echelon.controller.commands.screen import escape_log, escape_text, is_terminal
from echelon.controller.commands.targets import find_target, find_task
from echelon.shared.errors import NotFound
from echelon.shared.wrapping import cut_text

if TYPE_CHECKING:
    from echelon.controller.client import Client

_LONGEST_ITEM: Final = 40
#: A line that names a part, as a controller writes it.
_HEAD: Final = re.compile(
    r"==> stage (?P<stage>\d+) .*?, (?:task (?P<index>\d+)|spawn task)(?: \((?P<item>.*)\))?"
    r", attempt (?P<attempt>\d+), (?:stdout|stderr) <=="
)
#: The end of a piece whose meaning depends on the next piece.
_UNFINISHED = re.compile(r"(\r|\x1b(\[[0-9;:]*)?)\Z")


@click.command()
@click.argument("what", metavar="ID|TASK")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job or the task has ended.")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Only this one (of a task).")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="This attempt instead of the last (of a task).")
@click.option("--failed", is_flag=True, help="Only the failed tasks (of a job).")
@click.option(
    "--grep",
    "pattern",
    metavar="PATTERN",
    help="Only lines that match this regular expression (RE2), in any case; \\Q...\\E is plain text.",
)
@click.option(
    "--since",
    "age",
    type=LENGTH_OF_TIME,
    help="Only of tasks that have printed something in this last time, such as 90s, 10m or 2h (of a job).",
)
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
    age: float | None,
    tail: int | None,
) -> None:
    """Show the output of a job's tasks, or of one task.

    TASK is a task's id or its place: JOB.STAGE.INDEX, for example 3f2a.1.17. JOB.STAGE.spawn is a spawn task, and
    JOB.STAGE the only task of a stage. STAGE is a number or a name. A line such as ==> stage 0 Fetch, task 17 <==
    stands above each part; with --follow each line of a job begins with its task instead: 0.17 (its item) | ...
    It is shown when it is whole, or when its task has ended: --follow of one task shows prompts and progress at once.
    """
    if follow and (tail or failed):
        raise click.UsageError("--tail and --failed choose among what there is; with --follow, give neither")
    kind, whole = _resolve_name(client, what.strip().lower())
    since = None if age is None else datetime.now(UTC) - timedelta(seconds=age)
    if kind == "task" and (failed or since):
        raise click.UsageError("--failed and --since are for a job; this is one task")
    if kind == "job" and (attempt or (stream and not failed)):
        raise click.UsageError("--stream and --attempt are for one task; 'echelon tasks ID' lists the tasks of a job")
    if kind == "task":
        pieces = client.read_task_log(whole, stream=stream, attempt=attempt, follow=follow)
    elif failed:
        pieces = _read_failed(client, whole, stream, since)
    else:
        pieces = client.read_log(whole, follow=follow, since=since)
    if pattern is not None or tail is not None:
        pieces = choose_lines(pieces, pattern, tail)
    shown = escape_pieces(pieces) if is_terminal(sys.stdout) else pieces
    for text in prefix_lines(shown) if follow and kind == "job" else shown:
        sys.stdout.write(text)
        sys.stdout.flush()


def _read_failed(client: Client, job_id: str, stream: str | None, since: datetime | None) -> Iterator[str]:
    """Yield the output of the failed tasks of a job, each under a line that names it."""
    for task in client.list_tasks(job_id, state="FAILED"):
        if since and task["ended_at"] and datetime.fromisoformat(task["ended_at"]) < since:
            continue
        yield f"==> task {format_named(task)}: {escape_text(task['error'])} <==\n"
        last = ""
        for piece in client.read_task_log(task["task_id"], stream=stream):
            yield piece
            last = piece or last
        yield "\n" if last.endswith("\n") else "\n\n"


def choose_lines(pieces: Iterable[str], pattern: str | None, tail: int | None) -> Iterator[str]:
    """Yield the lines that match a pattern, of each part the last ones, under the lines that name the parts."""
    head = ""
    kept: deque[str] = deque(maxlen=tail)
    is_wanted = _make_search(pattern) if pattern else bool
    for line in _iterate_lines(pieces):
        if _is_head(line):
            yield from kept
            kept.clear()
            head = line
        elif line.strip() and is_wanted(line.rstrip("\r\n")):
            if head:
                yield head
                head = ""
            if tail is None:
                yield line
            else:
                kept.append(line)
    yield from kept


def _make_search(pattern: str) -> Callable[[str], bool]:
    # Only a search needs RE2.
    from echelon.controller.catalogue.patterns import UnusablePattern, make_search

    try:
        return make_search(pattern)
    except UnusablePattern as error:
        raise click.UsageError(f"--grep: {escape_text(error)}") from error


def prefix_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Yield whole lines, each behind its task, without the lines that name the parts and the gaps above those."""
    prefix = gap = ""
    for line in _iterate_lines(pieces):
        if _is_head(line):
            prefix, gap = _shorten_head(line), ""
            continue
        if gap:
            yield gap
        # Between two parts a blank line is a gap, elsewhere a task has printed it.
        gap = f"{prefix.rstrip()}\n" if line == "\n" else ""
        if not gap:
            yield prefix + line
    if gap:
        yield gap


def _is_head(line: str) -> bool:
    """Tell whether a line names the part below it; no line of a task looks like one."""
    return line.startswith("==> ") and line.rstrip().endswith(" <==")


def _shorten_head(line: str) -> str:
    """Return what stands before each line of a part: 0.17 (its item) | ."""
    found = _HEAD.fullmatch(line.strip())
    if found is None:
        return f"{line.strip()[4:-4]} | "
    again = f" attempt {found['attempt']}" if found["attempt"] != "1" else ""
    item = f" ({cut_text(found['item'], _LONGEST_ITEM)})" if found["item"] else ""
    return f"{found['stage']}.{found['index'] or 'spawn'}{item}{again} | "


def _iterate_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Yield lines with their ends."""
    # In parts until its end has come: a task may print without one for hours.
    begun: list[str] = []
    for piece in pieces:
        first, *others = piece.split("\n")
        begun.append(first)
        for line in others:
            yield "".join([*begun, "\n"])
            begun = [line]
    if rest := "".join(begun):
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
