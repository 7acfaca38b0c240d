"""Catalogues for the simulation: task classes by how they behave, and jobs put together at random."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from echelon.controller.catalogue.definitions import (
    Catalogue,
    JobDefinition,
    LaterTasks,
    SingleTask,
    SpawnedTasks,
    StageDefinition,
)
from echelon.controller.catalogue.stored import revision_of
from echelon.controller.catalogue.task_classes import InputDefinition, InputSource, Retry, TaskClass


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The behaviour of a task class's processes."""

    shortest: float
    longest: float
    #: Part of the attempts that fail.
    fails: float = 0.0
    #: Part of the attempts whose spawn.json cannot be used.
    spoils: float = 0.0
    #: Ends only when its grace is over.
    ignores_term: bool = False
    #: Takes its worker down.
    poison: bool = False


BEHAVIOURS = {
    "quick": Behaviour(0.05, 1.0),
    "private": Behaviour(0.2, 3.0, fails=0.1),
    "long": Behaviour(17.0, 40.0),
    "flaky": Behaviour(0.1, 4.0, fails=0.3),
    "doomed": Behaviour(0.1, 4.0, fails=0.25),
    "stubborn": Behaviour(5.0, 20.0, ignores_term=True),
    "poison": Behaviour(0.5, 2.0, poison=True),
    "lingering": Behaviour(0.3, 6.0, fails=0.2, ignores_term=True),
    "steady": Behaviour(3.0, 6.0),
    "list": Behaviour(0.1, 2.0, fails=0.1, spoils=0.05),
    "some": Behaviour(0.1, 0.5),
}
RETRIES = {
    "private": Retry(limit=2, delay=0.5),
    "flaky": Retry(limit=3, delay=1.0),
    "list": Retry(limit=2, delay=1.0),
}
QUEUES = {"long": "special"}
#: Jobs whose types are drawn.
JOBS = 5
NOTE = InputDefinition("note", required=False, default="")


def make_catalogue(rng: random.Random, edition: int) -> Catalogue:
    """Return a catalogue with some jobs; equal editions of one seed are equal."""
    tasks = {name: _task_class(name, edition) for name in BEHAVIOURS}
    jobs = {f"job{number}": _make_job(rng, f"job{number}", secret=number == 1) for number in range(JOBS)}
    jobs["calm"] = JobDefinition(
        "calm", (StageDefinition("Calm", "steady", SpawnedTasks("some")),), input={"note": NOTE}
    )
    return Catalogue(revision_of(tasks, jobs, None), tasks, jobs)


def _task_class(name: str, edition: int) -> TaskClass:
    return TaskClass(
        task_class=name,
        exec_command=name,
        exec_args=(f"edition-{edition}",),
        input={
            "item": InputDefinition("item", required=False, default=""),
            "token": InputDefinition("token", required=False, default="none", secret=True),
        },
        queue=QUEUES.get(name, "default"),
        retry=RETRIES.get(name, Retry()),
        workdir="task" if name == "private" else "job",
    )


def _make_job(rng: random.Random, name: str, *, secret: bool) -> JobDefinition:
    stages = tuple(_make_stage(rng, number) for number in range(rng.choice((1, 1, 2, 2, 3, 4))))
    token = InputDefinition("token", source=InputSource.HTTP_HEADER, key="X-Token", secret=True)
    return JobDefinition(
        type=name,
        stages=stages,
        input={"note": NOTE} | ({"token": token} if secret else {}),
        secret=frozenset({"token"} if secret else ()),
    )


def _make_stage(rng: random.Random, number: int) -> StageDefinition:
    classes, weights = ("quick", "private", "long", "flaky", "doomed", "stubborn", "poison"), (6, 4, 3, 4, 2, 2, 1)
    # A stream of its own, so that seeds go on meaning what they meant.
    bound = random.Random(repr(rng.getstate())).choice((None, None, 1, "40%"))
    failing = rng.random() < 0.6
    return StageDefinition(
        name=f"Stage {number}",
        task_class=rng.choices(classes, weights)[0],
        source=SpawnedTasks("list") if rng.random() < 0.6 else SingleTask(),
        job_failed_on_error=failing,
        max_failed=None if failing else bound,
        fail_fast=failing and rng.random() < 0.3,
        max_parallel=rng.choice((None, None, 1, 3)),
    )


def vary(catalogue: Catalogue, rng: random.Random) -> Catalogue:
    """Return a catalogue with stages of equal order, open ones, ones that wait for a person and paused ones."""
    jobs = {
        name: job if name == "calm" else replace(job, stages=_vary_stages(job, rng))
        for name, job in catalogue.jobs.items()
    }
    return Catalogue(revision_of(catalogue.tasks, jobs, None), catalogue.tasks, jobs)


def _vary_stages(job: JobDefinition, rng: random.Random) -> tuple[StageDefinition, ...]:
    order = 0
    stages = []
    for stage in job.stages:
        order += rng.choice((0, 1, 1))
        kind = rng.random()
        if kind < 0.2:
            stage = replace(stage, block_on_error=True, job_failed_on_error=True, fail_fast=False)
        elif kind < 0.3:
            stage = replace(stage, source=LaterTasks())
        if rng.random() < 0.3:
            stage = replace(stage, task_class=rng.choice(("lingering", "private", "poison", "long")))
        if stage.job_failed_on_error and not stage.block_on_error and rng.random() < 0.5:
            stage = replace(stage, fail_fast=True)
        stages.append(replace(stage, order=order, paused=rng.random() < 0.1))
    return tuple(stages)
