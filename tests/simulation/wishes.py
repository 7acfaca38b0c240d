"""Draws the requests of live control at random, and sends them as the REST interface does.

An etag is one that was read: by the time it is sent it may be old.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.datastore.tables import task_key
from echelon.controller.engine.base.requests import Choice, Given, index_spans
from echelon.controller.engine.jobs import Jobs
from echelon.shared.ids import JobId, TaskId
from tests.simulation.witness import LookUp, Wish

_VERBS = [Verb.PAUSE, Verb.PAUSE, Verb.RESUME, Verb.RESUME, Verb.KILL, Verb.RETRY, Verb.RETRY, Verb.SKIP, Verb.CANCEL]
_STATES = [State.FAILED, State.FAILED, State.CANCELLED, State.PENDING, State.QUEUED, State.RUNNING, State.SKIPPED]
_RANGES = ["0", "0-2", "1,3-99", "0,2-3", "4-7,1", "2-2,0-1"]
#: Verbs that may open an ended job again, and so bring what was erased.
_REOPENING = (Verb.RETRY, Verb.SKIP)
#: Classes of composed tasks; all wait in one queue.
_CLASSES = ["quick", "private", "flaky", "doomed", "steady", "lingering"]
#: A list names so many tasks at most.
_LISTED = 6


class Wishes:
    """Draws requests."""

    def __init__(self, look_up: LookUp, rng: random.Random) -> None:
        self._look_up = look_up
        self._rng = rng
        self._numbers = itertools.count(1)

    def draw(self, key: int, job_id: str) -> Wish | None:
        """Return a request about a job, or about something of it."""
        rng = self._rng
        verb = rng.choice(_VERBS)
        if verb is Verb.CANCEL and rng.random() < 0.7:
            return None
        stages = self._look_up(f"SELECT number, etag FROM stages WHERE job = {key} ORDER BY key")
        stage, etag = rng.choice(stages)
        place = rng.random()
        if place < 0.15:
            ((etag,),) = self._look_up(f"SELECT etag FROM jobs WHERE key = {key}")
            return self.of_job(verb, job_id, choice=self._choice(verb), etag=self._read(etag))
        if place < 0.28:
            own = tuple(self._token("own") if rng.random() < 0.5 else None for _ in range(2))
            return self.of_job(Verb.ADD, job_id, stage=stage, own=own, etag=self._read(etag))
        if place < 0.5:
            return self.of_job(verb, job_id, stage=stage, choice=self._choice(verb), etag=self._read(etag))
        return self._list(key, job_id) if place < 0.62 else self._one(verb, key, job_id)

    def of_job(self, verb: Verb, job_id: str, **more: object) -> Wish:
        """Return a request about a job."""
        return Wish(next(self._numbers), verb, (job_id,), token=self._token("hand"), **more)  # type: ignore[arg-type]

    def priority(self, key: int, job_id: str, rng: random.Random) -> Wish:
        """Return a request for another priority of a job, or of one stage of it."""
        stage: int | None = None
        ((etag,),) = self._look_up(f"SELECT etag FROM jobs WHERE key = {key}")
        if rng.random() < 0.5:
            stage, etag = rng.choice(self._look_up(f"SELECT number, etag FROM stages WHERE job = {key} ORDER BY key"))
        read = etag if rng.random() < 0.4 else None
        number = next(self._numbers)
        return Wish(number, Verb.PRIORITY, (job_id,), stage=stage, etag=read, priority=rng.choice((0, 0, 1, 5, 9)))

    def back(self, wish: Wish) -> Wish:
        """Return the retry of what was cancelled or skipped by a request."""
        choice = replace(wish.choice, state=None, only_failed=not wish.chooses)
        named = dict.fromkeys(wish.named)
        return replace(wish, number=next(self._numbers), verb=Verb.RETRY, choice=choice, named=named, etag=None)

    def composition(self) -> tuple[list[dict[str, object]], dict[tuple[int, int], str]]:
        """Return the stages of a composed job, and the secrets of its tasks by stage and index."""
        rng, stages, tokens = self._rng, [], dict[tuple[int, int], str]()
        for number in range(rng.choice((1, 1, 2))):
            name, count = rng.choice(_CLASSES), rng.randint(1, 4)
            mine = [self._token("own") if rng.random() < 0.5 else None for _ in range(count)]
            inputs = [{"item": "composed"} | ({"token": token} if token else {}) for token in mine]
            tasks = [{"task_class": name, "input": one, "paused": rng.random() < 0.1} for one in inputs]
            policy = rng.choice(({}, {"on_error": "block"}, {"job_failed_on_error": False}))
            stages.append({"name": f"Stage {number}", "tasks": tasks, **policy})
            tokens |= {(number, index): token for index, token in enumerate(mine) if token}
        return stages, tokens

    def _one(self, verb: Verb, key: int, job_id: str) -> Wish | None:
        tasks = self._tasks(key)
        if not tasks:
            return None
        task_id, stage, etag, _ = self._rng.choice(tasks)
        choice = Choice(only_failed=self._rng.random() >= 0.3) if verb is Verb.RETRY else Choice()
        return self.of_job(verb, job_id, stage=stage, named={task_id: self._read(etag)}, choice=choice)

    def _list(self, key: int, job_id: str) -> Wish | None:
        """Return a retry of tasks of one job or two, most of them such that can be retried."""
        rng = self._rng
        jobs = [(key, job_id)]
        others = self._look_up(f"SELECT key, job_id FROM jobs WHERE key <> {key} ORDER BY key")
        if others and rng.random() < 0.3:
            jobs.append(tuple(rng.choice(others)))
        tasks = [one for job_key, _ in jobs for one in self._tasks(job_key)]
        fit = [one for one in tasks if one[3] not in ("COMPLETED", "PENDING", "QUEUED")]
        some = fit if fit and rng.random() < 0.8 else tasks
        if not some:
            return None
        named = {task_id: self._read(etag) for task_id, _, etag, _ in rng.sample(some, min(len(some), _LISTED))}
        wish = self.of_job(Verb.RETRY, job_id, named=named, listed=True)
        return replace(wish, jobs=tuple(one for _, one in jobs))

    def _tasks(self, key: int) -> list[tuple[str, int, int, str]]:
        ((count,),) = self._look_up(f"SELECT stage_count FROM jobs WHERE key = {key}")
        rows = self._look_up(
            f"SELECT task_id, stage - {key}, etag, state FROM tasks WHERE key >= {task_key(key, -1)}"
            f" AND key < {task_key(key + count, -1)} ORDER BY key"
        )
        return [(task_id, stage, etag, state) for task_id, stage, etag, state in rows]

    def _choice(self, verb: Verb) -> Choice:
        rng = self._rng
        only_failed = verb is not Verb.RETRY or rng.random() >= 0.25
        if rng.random() < 0.4:
            return Choice(only_failed=only_failed)
        spans = index_spans(rng.choice(_RANGES)) if rng.random() < 0.6 else None
        return Choice(rng.choice(_STATES) if rng.random() < 0.6 else None, spans, only_failed)

    def _read(self, etag: int) -> int | None:
        """Return an etag to send, or None to send none."""
        return etag if self._rng.random() < 0.4 else None

    def _token(self, kind: str) -> str:
        return f"{kind}-{self._rng.randrange(10**9)}"


def carry_out(wish: Wish, jobs: Jobs) -> object:
    """Ask for it as the interface does."""
    control, (job_id, *_), verb = jobs.control, map(JobId, wish.jobs), wish.verb
    given = Given(headers={"X-Token": [wish.token]}) if verb in _REOPENING else Given()
    if verb is Verb.ADD:
        items = [{"item": "added"} | ({"token": token} if token else {}) for token in wish.own]
        assert wish.stage is not None
        return control.add_tasks(job_id, wish.stage, items, etag=wish.etag)
    if verb is Verb.PRIORITY:
        return control.set_priority(job_id, wish.priority, stage=wish.stage, etag=wish.etag)
    if wish.listed:
        return control.retry_tasks({TaskId(one): etag for one, etag in wish.named.items()}, given=given)
    if wish.task_id is not None:
        (etag,) = wish.named.values()
        return control.change_task(
            verb, TaskId(wish.task_id), etag=etag, only_failed=wish.choice.only_failed, given=given
        )
    if wish.stage is not None:
        return control.change_stage(verb, job_id, wish.stage, etag=wish.etag, choice=wish.choice, given=given)
    return control.change_job(verb, job_id, etag=wish.etag, choice=wish.choice, given=given)
