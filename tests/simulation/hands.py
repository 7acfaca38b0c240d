"""People who interfere: every verb, on jobs, stages and tasks at random, while faults strike.

`python -m tests.simulation.hands --seeds 100` runs seeds with them; `--seed 17 --trace` one of them. The catalogue of
such a run also has stages of equal order, open ones and ones that wait for a person. In the calm whoever holds
something back lets it go on, and what waits for a person is skipped: then every job has to end.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from controller.catalogue.definitions import Catalogue, JobDefinition, StageDefinition, revision_of
from controller.core.answers import Verb
from controller.core.states import State
from controller.engine.jobs import Jobs
from controller.engine.requests import Changed, Choice, Given
from shared.errors import Conflict, InvalidInput, NotFound, Unavailable
from shared.ids import JobId, TaskId
from tests.simulation.__main__ import HASH_SEED
from tests.simulation.ablations import Cut, taken_away
from tests.simulation.cluster import Cluster
from tests.simulation.faults import CALM_FROM
from tests.simulation.history import History
from tests.simulation.index import ENDED
from tests.simulation.rules_hands import check
from tests.simulation.world import Killed, World

_VERBS = [Verb.PAUSE, Verb.PAUSE, Verb.RESUME, Verb.RESUME, Verb.KILL, Verb.RETRY, Verb.RETRY, Verb.SKIP, Verb.CANCEL]
_CHOICES = [
    Choice(state=State.FAILED),
    Choice(spans=((0, 2),)),
    Choice(state=State.PENDING),
    Choice(state=State.RUNNING),
]


#: A mechanism of live control -> how it is taken away, to see that the rules notice.
MECHANISMS = {
    "the pause of a stage": Cut("controller.core.model:Stage.claimable", " or self.by is not None", ""),
    "the wait of later stages": Cut("controller.core.flow:_block", "stage.order > order", "False"),
    "the wait for the end of what was killed": Cut(
        "controller.engine.settle:_settlement", "finished.outcome is Outcome.KILLED", "False"
    ),
    "the refusal of a retry in vain": Cut("controller.engine.task_verbs:refuse_in_vain", "stage is not None", "False"),
    "the refusal of items that did not fit": Cut(
        "controller.engine.task_verbs:_answer", "misfit=one.misfit", "misfit=False"
    ),
    "the wait of what begins again": Cut("controller.engine.board:Board._carry_out", "in reawakened(effects)", "in ()"),
    "the shortening of last leases": Cut(
        "controller.datastore.writes_claims:ClaimWrites.shorten_leases", ", sql.SHORTEN_LAST_LEASES)", ",)"
    ),
    "the shortening of waits": Cut(
        "controller.datastore.writes_claims:ClaimWrites.shorten_leases",
        "(sql.SHORTEN_WAITS, sql.END_IN_TIME)",
        "()",
    ),
    "the count of what is paused": Cut(
        "controller.engine.settle:fold", "held[task.stage] += task.paused and row.state is State.PENDING", "pass"
    ),
}


@dataclass(frozen=True, slots=True)
class Held:
    """A pause that was answered: nothing of what it is about starts from then until somebody touches the job again."""

    job_id: str
    #: None: the whole job.
    stage: int | None
    #: None: the whole stage.
    task_id: str | None
    #: When it was asked for, and when it was answered.
    begun: float
    since: float


class Hands:
    """Somebody who cannot leave jobs alone."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._rng = random.Random(f"{seed}/hands")
        self.held: list[Held] = []
        #: (job, when the request was sent): from then on a pause of that job is not relied on.
        self.touched: list[tuple[str, float]] = []
        self.done: dict[Verb, int] = {}
        cluster.editions = {edition: vary(one, self._rng) for edition, one in cluster.editions.items()}
        cluster.catalogue = cluster.editions[1]
        self._world.at(5.0, None, self._act)
        self._world.at(CALM_FROM + 4.0, None, self._tidy)

    def _act(self) -> None:
        if self._world.now < CALM_FROM - 10.0:
            self._world.at(self._rng.expovariate(0.6), None, self._act)
            jobs = self._rows("SELECT key, job_id, state FROM jobs ORDER BY key")
            if jobs:
                self._interfere_often(*self._rng.choice(jobs))

    def _interfere_often(self, key: int, job_id: str, state: str) -> None:
        """Do something, and often something else at once, while what was ended before is still there."""
        self._interfere(key, job_id, state)
        if self._rng.random() < 0.02:
            self._set_clock()
        if self._rng.random() < 0.5:
            pause = self._rng.uniform(0.02, 2.0)
            self._world.at(pause, None, lambda: self._interfere_often(key, job_id, state))

    def _set_clock(self) -> None:
        """Set the clock of the store, as somebody does who sees that it is wrong."""
        self._world.store_skew += self._rng.choice((-3600.0, -40.0, 40.0, 3600.0))
        self._world.log("hands", f"the store's clock is {self._world.store_skew:+.0f} s wrong")

    def _interfere(self, key: int, job_id: str, state: str) -> None:
        verb = self._rng.choice(_VERBS)
        if verb is Verb.CANCEL and self._rng.random() < 0.7:
            return
        stages = self._rows(f"SELECT number, name FROM stages WHERE job = {int(key)} ORDER BY key")
        number = self._rng.choice(stages)[0]
        place = self._rng.random()
        given = Given(headers={"X-Token": [f"hand-{self._rng.randrange(10**6)}"]})
        if place < 0.15:
            choice = self._rng.choice([Choice(), Choice(only_failed=False), *_CHOICES])
            self._ask(verb, job_id, None, None, choice, lambda jobs: jobs.control.job(
                verb, JobId(job_id), choice=choice, given=given))  # fmt: skip
        elif place < 0.3:
            self._ask(Verb.ADD, job_id, number, None, Choice(), lambda jobs: jobs.control.add_tasks(
                JobId(job_id), number, [{"item": "added"}] * 2))  # fmt: skip
        elif place < 0.5:
            choice = self._rng.choice([Choice(), Choice(), Choice(only_failed=False), *_CHOICES])
            self._ask(verb, job_id, number, None, choice, lambda jobs: jobs.control.stage(
                verb, JobId(job_id), number, choice=choice, given=given))  # fmt: skip
        else:
            self._interfere_with_task(verb, key, job_id, given)

    def _interfere_with_task(self, verb: Verb, key: int, job_id: str, given: Given) -> None:
        query = "SELECT task_id, number FROM tasks JOIN stages ON stages.key = tasks.stage WHERE stages.job = "
        tasks = self._rows(f"{query}{int(key)} ORDER BY tasks.key")
        task_id, number = self._rng.choice(tasks) if tasks else ("", 0)
        everything = self._rng.random() < 0.3
        if task_id:
            self._ask(verb, job_id, number, task_id, Choice(), lambda jobs: jobs.control.task(
                verb, TaskId(task_id), given=given, only_failed=not everything))  # fmt: skip

    def _tidy(self) -> None:
        """Let everything go on, and skip what waits for a person, until nothing is left that does."""
        open_jobs = self._rows("SELECT key, job_id, by_whom FROM jobs WHERE state IN ('PENDING', 'RUNNING')")
        for key, job_id, by in open_jobs:
            if by is not None:
                self._ask(Verb.RESUME, job_id, None, None, Choice(), _resume_job(job_id))
            stages = self._rows(
                "SELECT number, state, by_whom, on_error, pending + queued + running, failed + cancelled, spawn"
                f" FROM stages WHERE job = {int(key)}"
            )
            for number, state, hand, on_error, left, bad, spawn in stages:
                if state in ENDED:
                    continue
                if hand is not None:
                    self._ask(Verb.RESUME, job_id, number, None, Choice(), _of_stage(Verb.RESUME, job_id, number))
                stuck = not left and (bad or spawn in ("FAILED", "CANCELLED"))
                if on_error == "block" and state == "RUNNING" and stuck:
                    self._ask(Verb.SKIP, job_id, number, None, Choice(), _of_stage(Verb.SKIP, job_id, number))
        paused = self._rows(
            "SELECT task_id, number, jobs.job_id FROM tasks JOIN stages ON stages.key = tasks.stage"
            " JOIN jobs ON jobs.key = stages.job"
            " WHERE tasks.by_whom IS NOT NULL AND tasks.state IN ('PENDING', 'QUEUED', 'RUNNING') ORDER BY tasks.key"
        )
        for task_id, number, job_id in paused:
            self._ask(Verb.RESUME, job_id, number, task_id, Choice(), _resume_task(task_id))
        self._world.at(3.0, None, self._tidy)

    def _ask(
        self,
        verb: Verb,
        job_id: str,
        stage: int | None,
        task_id: str | None,
        choice: Choice,
        request: Callable[[Jobs], object],
    ) -> None:
        """Send one request to a controller that answers, and note what is to be relied on from then on."""
        world = self._world
        begun = world.now
        self.touched.append((job_id, begun))
        controllers = [one for one in self._cluster.controllers if one.answers]
        if not controllers:
            return
        try:
            answer = self._rng.choice(controllers).call(request)
        except (Conflict, NotFound, InvalidInput) as error:
            world.log("hands", f"{verb} {job_id} {stage} {task_id or ''} refused: {error}")
            return
        except (Unavailable, Killed) as error:
            world.log("hands", f"{verb} {job_id} {stage} {task_id or ''} got no answer: {error}")
            self.touched.append((job_id, world.now))
            return
        world.log("hands", f"{verb} {job_id} {stage} {task_id or ''} {choice}: {answer}")
        self.done[verb] = self.done.get(verb, 0) + 1
        changed = isinstance(answer, Changed) and (answer.tasks or answer.stages or answer.jobs)
        if verb is Verb.PAUSE and changed and not choice.of_tasks:
            self.held.append(Held(job_id, stage, task_id, begun, world.now))

    def _rows(self, query: str) -> list[tuple[object, ...]]:  # type: ignore[type-arg]
        return [tuple(row) for row in self._cluster.look(query)]


def _resume_job(job_id: str) -> Callable[[Jobs], object]:
    return lambda jobs: jobs.control.job(Verb.RESUME, JobId(job_id))


def _of_stage(verb: Verb, job_id: str, number: int) -> Callable[[Jobs], object]:
    return lambda jobs: jobs.control.stage(verb, JobId(job_id), number)


def _resume_task(task_id: str) -> Callable[[Jobs], object]:
    return lambda jobs: jobs.control.task(Verb.RESUME, TaskId(task_id))


def vary(catalogue: Catalogue, rng: random.Random) -> Catalogue:
    """Return a catalogue with stages of equal order, open ones, ones that wait for a person and paused ones."""
    jobs = {
        name: job if name == "calm" else replace(job, stages=_stages(job, rng)) for name, job in catalogue.jobs.items()
    }
    return Catalogue(revision_of(catalogue.tasks, jobs, None), catalogue.tasks, jobs)


def _stages(job: JobDefinition, rng: random.Random) -> tuple[StageDefinition, ...]:
    order = 0
    stages = []
    for stage in job.stages:
        order += rng.choice((0, 1, 1))
        kind = rng.random()
        if kind < 0.2:
            stage = replace(stage, block_on_error=True, job_failed_on_error=True, fail_fast=False)
        elif kind < 0.3:
            stage = replace(stage, open=True, spawn_task=None)
        if rng.random() < 0.3:
            stage = replace(stage, task_class=rng.choice(("lingering", "private", "poison")))
        if stage.job_failed_on_error and not stage.block_on_error and rng.random() < 0.5:
            stage = replace(stage, fail_fast=True)
        stages.append(replace(stage, order=order, paused=rng.random() < 0.1))
    return tuple(stages)


def run_seed(seed: int, *, trace: bool = False) -> tuple[list[str], list[str], dict[Verb, int]]:
    """Let one seed run with somebody who interferes; return what broke, the trace, and what was done how often."""
    world = World(str(seed), trace=trace)
    cluster = Cluster(world)
    hands = Hands(cluster, seed)
    try:
        cluster.live()
        history: History = cluster.history()
    finally:
        cluster.close()
    return world.violations or check(history, hands.held, hands.touched), world.lines, hands.done


def main() -> int:
    """Run seeds; return 1 when one of them broke a rule. With `--without` it is 1 when none did."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.hands", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--without", metavar="MECHANISM", choices=MECHANISMS)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    seeds = [given.seed] if given.seed is not None else list(range(given.first, given.first + given.seeds))
    if given.without is None:
        return _many(seeds, trace=given.trace)
    with taken_away(MECHANISMS[given.without]):
        noticed = next((found[0] for seed in seeds if (found := run_seed(seed)[0])), None)
    print(f"without {given.without}: {noticed or 'NOT NOTICED'}")
    return 0 if noticed else 1


def _many(seeds: Sequence[int], *, trace: bool) -> int:
    failed, done = 0, dict.fromkeys(Verb, 0)
    for seed in seeds:
        violations, lines, counts = run_seed(seed, trace=trace)
        for verb, count in counts.items():
            done[verb] += count
        for line in [*lines, *(f"seed {seed}: {violation}" for violation in violations[:5])]:
            print(line)
        failed += bool(violations)
    print(f"{len(seeds)} seeds, {failed} failed; {', '.join(f'{verb} {count}' for verb, count in done.items())}")
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get(HASH_SEED) != "0":
        again = [sys.executable, "-m", "tests.simulation.hands", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | {HASH_SEED: "0"})
    sys.exit(main())
