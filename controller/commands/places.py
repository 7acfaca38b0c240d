"""Places: how a command names a job, a stage of it, or tasks of a stage: ID, ID.STAGE, ID.STAGE.INDEX.

ID is a job's id or its beginning, STAGE a number or a name, INDEX a number, ranges such as 0-99,150, or `spawn`. The
id of a task, whole, stands for its place.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from echelon.controller.commands.options import whole_job_id
from echelon.controller.commands.screen import safe
from echelon.shared.errors import NotFound

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.answers import Stage, Task

#: How the help of a command speaks of a place.
METAVAR: Final = "ID[.STAGE[.INDEX]]"

_TASK_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SPAN = r"\d{1,8}(?:-\d{1,8})?"
_INDEXES = re.compile(rf"spawn|{_SPAN}(?:,{_SPAN})*", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,8}", re.ASCII)
_NAMED_AT_MOST = 20


@dataclass(frozen=True, slots=True)
class Place:
    """A job, a stage of it, or tasks of a stage."""

    job_id: str
    stage: int | None = None
    #: A number, ranges of them, or "spawn".
    index: str | None = None

    @property
    def of_one_task(self) -> bool:
        """Tell whether it is one task and no range of them."""
        return self.index is not None and (self.spawn or _NUMBER.fullmatch(self.index) is not None)

    @property
    def spawn(self) -> bool:
        """Tell whether it is a spawn task."""
        return self.index == "spawn"

    def __str__(self) -> str:
        parts = (self.job_id[:8], self.stage, self.index)
        return ".".join(str(part) for part in parts if part is not None)

    def named(self) -> str:
        """Return it as a sentence speaks of it, e.g. "stage 3f2a91c0.1"."""
        kind = "job" if self.stage is None else "stage" if self.index is None else "task"
        if kind == "task" and not self.of_one_task:
            kind = "tasks"
        return f"{kind} {self}"


def find_place(client: Client, text: str) -> Place:
    """Return what a text stands for; its stage exists. Raises NotFound with the stages there are."""
    text = text.strip()
    if _TASK_ID.fullmatch(text.lower()):
        return _by_whole_id(client, text.lower())
    prefix, dot, rest = text.partition(".")
    job_id = whole_job_id(client, prefix)
    if not dot:
        return Place(job_id)
    stages = client.job(job_id)["stages"]
    stage = _stage(stages, rest)
    if stage is not None:
        return Place(job_id, stage)
    name, dot, index = rest.rpartition(".")
    if not dot:
        raise _no_stage(job_id, rest, stages)
    stage = _stage(stages, name)
    if stage is None:
        raise _no_stage(job_id, name, stages)
    if not _INDEXES.fullmatch(index):
        raise click.UsageError(
            f"{safe(index)!r} is no task of a stage: write a number, ranges such as 0-99,150, or spawn"
        )
    return Place(job_id, stage, index.lower() if index.lower() == "spawn" else index)


def task_at(client: Client, place: Place) -> Task:
    """Return the one task at a place. Raises NotFound."""
    assert place.stage is not None and place.index is not None
    index = None if place.spawn else int(place.index)
    # The spawn task is the first of its stage.
    for task in client.tasks(place.job_id, stage=place.stage, index=index, limit=1):
        if task["spawn"] == place.spawn:
            return task
    raise NotFound(f"there is no {place.named()}; 'echelon tasks {place.job_id[:8]} --stage {place.stage}' lists them")


def _by_whole_id(client: Client, whole: str) -> Place:
    kind, found = client.find(whole)
    if kind == "job":
        return Place(found)
    task = client.task(found)
    return Place(task["job_id"], task["stage"], "spawn" if task["spawn"] else str(task["index"]))


def _stage(stages: Iterable[Stage], text: str) -> int | None:
    """Return the number of the stage that has this number or, whatever the case, this name; None: there is none."""
    if _NUMBER.fullmatch(text):
        return next((stage["number"] for stage in stages if stage["number"] == int(text)), None)
    found = [stage["number"] for stage in stages if stage["name"].casefold() == text.strip().casefold()]
    if len(found) > 1:
        numbers = ", ".join(map(str, found))
        raise click.UsageError(f"more than one stage is named {safe(text)!r}: give the number, one of {numbers}")
    return found[0] if found else None


def _no_stage(job_id: str, text: str, stages: list[Stage]) -> NotFound:
    names = [stage["name"] for stage in stages]
    close = difflib.get_close_matches(text, names, n=1)
    meant = f" Did you mean {safe(close[0])!r}?" if close else ""
    known = ", ".join(f"{stage['number']} {safe(stage['name'])}" for stage in stages[:_NAMED_AT_MOST])
    more = ", ..." if len(stages) > _NAMED_AT_MOST else ""
    return NotFound(f"job {job_id[:8]} has no stage {safe(text)!r}.{meant} Its stages are: {known}{more}")
