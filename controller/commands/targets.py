"""Targets: how a command names a job, a stage of it, or tasks of a stage: ID, ID.STAGE, ID.STAGE.INDEX.

ID is a job's id or its beginning, STAGE a number or a name, INDEX a number, ranges such as 0-99,150, or `spawn`. A
task's whole id names that task.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from echelon.controller.commands.options import resolve_job_id
from echelon.controller.commands.screen import escape_text
from echelon.controller.commands.values import describe_retry
from echelon.shared.errors import NotFound
from echelon.shared.readers import MASK

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import Job, Stage, Task

#: Stands for a target in help texts.
TARGET_METAVAR: Final = "ID[.STAGE[.INDEX]]"

_TASK_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SPAN = r"\d{1,8}(?:-\d{1,8})?"
_INDEXES = re.compile(rf"spawn|{_SPAN}(?:,{_SPAN})*", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,8}", re.ASCII)
_LISTED_AT_MOST = 20


@dataclass(frozen=True, slots=True)
class Target:
    """A job, a stage of it, or tasks of a stage."""

    job_id: str
    stage: int | None = None
    #: A number, ranges of numbers, or "spawn".
    index: str | None = None

    @property
    def is_spawn(self) -> bool:
        """Tell whether it is a spawn task."""
        return self.index == "spawn"

    @property
    def is_one_task(self) -> bool:
        """Tell whether it is one task, not a range of them."""
        return self.index is not None and (self.is_spawn or _NUMBER.fullmatch(self.index) is not None)

    def __str__(self) -> str:
        parts = (self.job_id[:8], self.stage, self.index)
        return ".".join(str(part) for part in parts if part is not None)

    def describe_target(self) -> str:
        """Return it with its kind, for example "stage 3f2a91c0.1"."""
        kind = "job" if self.stage is None else "stage" if self.index is None else "task"
        return f"{kind}{'s' if kind == 'task' and not self.is_one_task else ''} {self}"


def find_target(client: Client, text: str) -> Target:
    """Return the target that a text names; its stage exists. Raises NotFound with the list of stages."""
    text = text.strip()
    if _TASK_ID.fullmatch(text.lower()):
        return _find_by_id(client, text.lower())
    prefix, dot, rest = text.partition(".")
    job_id = resolve_job_id(client, prefix)
    if not dot:
        return Target(job_id)
    stages = client.get_job(job_id)["stages"]
    stage = _find_stage(stages, rest)
    if stage is not None:
        return Target(job_id, stage)
    # A stage's name may hold dots: only the last one parts the index from it.
    name, dot, index = rest.rpartition(".")
    stage = _find_stage(stages, name) if dot else None
    if stage is None:
        raise _stage_error(job_id, name if dot else rest, stages)
    if not _INDEXES.fullmatch(index):
        expected = "write a number, ranges such as 0-99,150, or spawn"
        raise click.UsageError(f"{escape_text(index)!r} is no task of a stage: {expected}")
    return Target(job_id, stage, index.lower())


def find_task(client: Client, target: Target) -> Task:
    """Return the one task that a target names. Raises NotFound."""
    assert target.stage is not None and target.index is not None
    index = None if target.is_spawn else int(target.index)
    # The spawn task is the first of its stage.
    for task in client.list_tasks(target.job_id, stage=target.stage, index=index, limit=1):
        if task["spawn"] == target.is_spawn:
            return task
    command = f"'echelon tasks {target.job_id[:8]} --stage {target.stage}'"
    raise NotFound(f"there is no {target.describe_target()}; {command} lists them")


def find_retry(client: Client, target: Target, job: Job) -> str:
    """Return how to run again what has failed of a target, as the last lines of a message."""
    headers = {}
    if MASK in job["input"].values():
        # A catalogue that has changed since may lack the job: all secrets are then named as inputs.
        with suppress(NotFound):
            inputs = client.get_definition(job["type"])["input"]
            headers = {one["name"]: one["key"] for one in inputs if one["source"] == "http-header"}
    return f"to run again only what failed:\n  {describe_retry(target, job, headers)}"


def _find_by_id(client: Client, whole: str) -> Target:
    kind, found = client.find_id(whole)
    if kind == "job":
        return Target(found)
    task = client.get_task(found)
    return Target(task["job_id"], task["stage"], "spawn" if task["spawn"] else str(task["index"]))


def _find_stage(stages: Iterable[Stage], text: str) -> int | None:
    """Return the number of the stage with this number or name (in any case); None if there is none."""
    if _NUMBER.fullmatch(text):
        return next((stage["number"] for stage in stages if stage["number"] == int(text)), None)
    found = [stage["number"] for stage in stages if stage["name"].casefold() == text.strip().casefold()]
    if len(found) > 1:
        numbers = ", ".join(map(str, found))
        raise click.UsageError(f"more than one stage is named {escape_text(text)!r}: give the number, one of {numbers}")
    return found[0] if found else None


def _stage_error(job_id: str, text: str, stages: list[Stage]) -> NotFound:
    close = difflib.get_close_matches(text, [stage["name"] for stage in stages], n=1)
    hint = f" Did you mean {escape_text(close[0])!r}?" if close else ""
    known = ", ".join(f"{stage['number']} {escape_text(stage['name'])}" for stage in stages[:_LISTED_AT_MOST])
    more = ", ..." if len(stages) > _LISTED_AT_MOST else ""
    return NotFound(f"job {job_id[:8]} has no stage {escape_text(text)!r}.{hint} Its stages are: {known}{more}")
