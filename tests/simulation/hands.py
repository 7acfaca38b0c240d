"""People who interfere: every verb, on jobs, stages and tasks at random, while faults strike.

`python -m tests.simulation.hands --seeds 100` runs seeds with them; `--seed 17 --trace` one of them. The catalogue of
such a run also has stages of equal order, open ones and ones that wait for a person; some tasks have secrets of their
own. In the calm everything paused is resumed, and stages that wait for a person are skipped: then every job has to end.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from echelon.controller.core.answers import Verb
from echelon.controller.engine.base.requests import Changed, Choice, Composition
from echelon.shared.ablation import without
from echelon.shared.errors import Conflict, InvalidInput, NotFound, PreconditionFailed, Unavailable
from echelon.shared.ids import JobId
from tests.simulation.__main__ import HASH_SEED
from tests.simulation.ablations import OF_LIVE_CONTROL
from tests.simulation.catalogue import vary
from tests.simulation.cluster import Cluster
from tests.simulation.deeds import Deeds, Held
from tests.simulation.faults import CALM_FROM
from tests.simulation.history import Asked, History
from tests.simulation.index import ENDED
from tests.simulation.rules_hands import check
from tests.simulation.wishes import Wishes, carry_out
from tests.simulation.witness import Wish, Witness
from tests.simulation.world import Killed, Process, World

#: What is counted beside the verbs: lists and choices that were taken, etags that were too old, composed jobs,
#: retries that let later stages begin their next run, outages of the broker.
SPECIAL = ("listed", "chosen", "stale", "composed", "behind", "outages")


class Hands:
    """A person who sends every verb at random."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._rng = random.Random(f"{seed}/hands")
        #: Streams of their own, so that seeds go on meaning what they meant.
        self._behind = random.Random(f"{seed}/behind")
        self._urgent = random.Random(f"{seed}/urgent")
        self._wishes = Wishes(cluster.look, self._rng)
        self._witness = Witness(cluster.look)
        self._held: list[Held] = []
        self._touched: list[tuple[str, float]] = []
        self._answers: list[tuple[Wish, object]] = []
        self._composed: dict[str, dict[tuple[int, int], str]] = {}
        self.deeds = Deeds(self._held, self._touched, self._witness.seen, self._answers, self._composed)
        #: The clock is not set before this moment.
        self._clock_left_until = 0.0
        #: How often what was done.
        self.done: dict[str, int] = {}
        cluster.ground.secret_items = True
        cluster.around = lambda wish: nullcontext if wish is None else lambda: self._witness.around(wish)
        cluster.editions = {edition: vary(one, self._rng) for edition, one in cluster.editions.items()}
        cluster.catalogue = cluster.editions[1]
        self._world.at(5.0, None, self._act)
        self._world.at(CALM_FROM + 4.0, None, self._tidy)
        if self._rng.random() < 0.7:
            self._world.at(self._rng.uniform(10.0, 100.0), None, self._wait_for_long_task)

    def _wait_for_long_task(self) -> None:
        """Take the broker away as soon as a task has begun that outlasts that, if one does."""
        long = {row[0] for row in self._rows("SELECT task_id FROM tasks WHERE task_class = 'long'")}
        begun = [run for run in self._cluster.ground.ledger if run.ended is None and run.task_id in long]
        lives = {run.life for run in begun if run.started > self._world.now - 3.0}
        busy = [worker.body for worker in self._cluster.workers if worker.body and worker.body.id in lives]
        if busy:
            self._take_broker_away(self._rng.choice(busy).process)
        elif self._world.now < CALM_FROM - 70.0:
            self._world.at(1.0, None, self._wait_for_long_task)

    def _take_broker_away(self, last: Process) -> None:
        """Take the broker away until leases have ended; one worker finds its way back last of all."""
        away = self._rng.uniform(7.0, 12.0)
        self._world.log("hands", f"the broker is away for {away:.1f} s")
        self._cluster.hub.restart(away)
        self._cluster.hub.isolate(last, away + self._rng.uniform(17.0, 30.0))
        self._clock_left_until = self._world.now + away + 40.0
        self._count("outages")

    def _act(self) -> None:
        if self._world.now < CALM_FROM - 10.0:
            self._world.at(self._rng.expovariate(0.6), None, self._act)
            jobs = self._rows("SELECT key, job_id FROM jobs ORDER BY key")
            if self._rng.random() < 0.015:
                self._compose()
            elif jobs:
                self._interfere_often(*self._rng.choice(jobs))
            if jobs and self._behind.random() < 0.15:
                self._retry_behind(*self._behind.choice(jobs))
            if jobs and self._urgent.random() < 0.2:
                wish = self._wishes.priority(*self._urgent.choice(jobs), self._urgent)
                self._world.at(self._urgent.uniform(0.0, 2.0), None, lambda: self._ask(wish, self._urgent))

    def _interfere_often(self, key: int, job_id: str) -> None:
        """Do something, and often something else at once, while what was ended before is still there."""
        wish = self._wishes.draw(key, job_id)
        if wish is not None and self._rng.random() < 0.25:
            # Its etag is some seconds old when it is sent.
            self._world.at(self._rng.uniform(0.02, 4.0), None, lambda: self._ask(wish))
        elif wish is not None:
            self._ask(wish)
        if self._rng.random() < 0.02:
            self._set_clock()
        if self._rng.random() < 0.5:
            pause = self._rng.uniform(0.02, 2.0)
            self._world.at(pause, None, lambda: self._interfere_often(key, job_id))

    def _retry_behind(self, key: int, job_id: str) -> None:
        """Let later stages begin their next run; a job with secrets of its own is left alone."""
        stages = self._rows(
            "SELECT number FROM stages JOIN job_inputs ON job_inputs.key = job"
            f" WHERE job = {int(key)} AND secret = '[]' AND (expected > 0 OR spawn IS NOT NULL) ORDER BY number"
        )
        controllers = [one for one in self._cluster.controllers if one.answers]
        if not stages or not controllers:
            return
        stage, choice = int(self._behind.choice(stages)[0]), Choice(downstream=True)
        self._touched.append((job_id, self._world.now))
        try:
            answer = self._behind.choice(controllers).call(
                lambda jobs: jobs.control.change_stage(Verb.RETRY, JobId(job_id), stage, choice=choice)
            )
        except (Conflict, NotFound, InvalidInput, Unavailable, Killed) as error:
            self._world.log("hands", f"no retry behind stage {stage} of {job_id}: {error}")
            self._touched.append((job_id, self._world.now))
            return
        self._world.log("hands", f"retry behind stage {stage} of {job_id}: {answer}")
        if answer.stages:
            self._count("behind")

    def _set_clock(self) -> None:
        """Set the store's clock, as an administrator does; not during an outage of the broker."""
        if self._world.now < self._clock_left_until:
            return
        self._world.store_skew += self._rng.choice((-3600.0, -40.0, 40.0, 3600.0))
        self._world.log("hands", f"the store's clock is {self._world.store_skew:+.0f} s wrong")

    def _compose(self) -> None:
        """Submit a composed job, whose tasks have secrets of their own."""
        name = f"composed{len(self._composed)}"
        stages, self._composed[name] = self._wishes.composition()
        asked = Asked("submit", "info", self._world.now, self._world.now)
        self._cluster.asked.append(asked)
        controllers = [one for one in self._cluster.controllers if one.answers]
        if not controllers:
            return
        try:
            found = self._rng.choice(controllers).call(lambda jobs: jobs.submit_composition(Composition(name, stages)))
        except (Unavailable, Killed) as error:
            self._world.log("hands", f"{name} got no answer: {error}")
            return
        assert isinstance(found, tuple)
        asked.answer, asked.job_id, asked.ended = "ok", found[0], self._world.now
        self._count("composed")
        self._world.log("hands", f"{name} is {found[0]}: {stages}")

    def _tidy(self) -> None:
        """Let everything go on, and skip what waits for a person, until nothing is left that does."""
        open_jobs = self._rows("SELECT key, job_id, by_whom FROM jobs WHERE state IN ('PENDING', 'RUNNING')")
        for key, job_id, by in open_jobs:
            if by is not None:
                self._ask(self._wishes.of_job(Verb.RESUME, job_id))
            stages = self._rows(
                "SELECT number, state, by_whom, on_error, pending + queued + running, failed + cancelled, spawn"
                f" FROM stages WHERE job = {int(key)}"
            )
            for number, state, hand, on_error, left, bad, spawn in stages:
                if state in ENDED:
                    continue
                if hand is not None:
                    self._ask(self._wishes.of_job(Verb.RESUME, job_id, stage=number))
                stuck = not left and (bad or spawn in ("FAILED", "CANCELLED"))
                if on_error == "block" and state == "RUNNING" and stuck:
                    self._ask(self._wishes.of_job(Verb.SKIP, job_id, stage=number))
        paused = self._rows(
            "SELECT task_id, number, jobs.job_id FROM tasks JOIN stages ON stages.key = tasks.stage"
            " JOIN jobs ON jobs.key = stages.job"
            " WHERE tasks.by_whom IS NOT NULL AND tasks.state IN ('PENDING', 'QUEUED', 'RUNNING') ORDER BY tasks.key"
        )
        for task_id, number, job_id in paused:
            self._ask(self._wishes.of_job(Verb.RESUME, job_id, stage=number, named={task_id: None}))
        self._world.at(3.0, None, self._tidy)

    def _ask(self, wish: Wish, rng: random.Random | None = None) -> None:
        """Send one request to a controller that answers, and note what is to be relied on from then on."""
        world, begun = self._world, self._world.now
        self._touched += [(job_id, begun) for job_id in wish.jobs]
        controllers = [one for one in self._cluster.controllers if one.answers]
        if not controllers:
            return
        around = self._cluster.around(wish)
        try:
            answer = (rng or self._rng).choice(controllers).call(lambda jobs: carry_out(wish, jobs), around=around)
        except (Conflict, NotFound, InvalidInput, PreconditionFailed) as error:
            world.log("hands", f"{wish} refused: {error}")
            if isinstance(error, PreconditionFailed):
                self._count("stale")
            return
        except (Unavailable, Killed) as error:
            world.log("hands", f"{wish} got no answer: {error}")
            self._touched += [(job_id, world.now) for job_id in wish.jobs]
            return
        world.log("hands", f"{wish}: {answer}")
        self._note(wish, answer, begun)

    def _note(self, wish: Wish, answer: object, begun: float) -> None:
        self._answers.append((wish, answer))
        self._count(wish.verb)
        for what, there in (("listed", wish.listed), ("chosen", wish.chooses)):
            if there:
                self._count(what)
        changed = isinstance(answer, Changed) and (answer.tasks or answer.stages or answer.jobs)
        if wish.verb in (Verb.CANCEL, Verb.SKIP) and changed and self._world.now < CALM_FROM - 10.0:
            self._repent(wish)
        if wish.verb is Verb.PAUSE and changed and not wish.choice.of_tasks:
            self._held.append(Held(wish.jobs[0], wish.stage, wish.task_id, begun, self._world.now))

    def _repent(self, wish: Wish) -> None:
        """Often want back at once what has just been ended, while its processes are still there."""
        if self._rng.random() < 0.5:
            again = self._wishes.back(wish)
            self._world.at(self._rng.uniform(0.02, 2.0), None, lambda: self._ask(again))

    def _count(self, what: str) -> None:
        self.done[what] = self.done.get(what, 0) + 1

    def _rows(self, query: str) -> list[tuple[object, ...]]:  # type: ignore[type-arg]
        return [tuple(row) for row in self._cluster.look(query)]


def run_seed(seed: int, *, trace: bool = False) -> tuple[list[str], list[str], dict[str, int]]:
    """Run one seed with live control; return the violations, the trace, and how often each verb was used."""
    world = World(str(seed), trace=trace)
    cluster = Cluster(world)
    hands = Hands(cluster, seed)
    try:
        cluster.live()
        history: History = cluster.history()
    finally:
        cluster.close()
    return world.violations or check(history, hands.deeds), world.lines, hands.done


def main() -> int:
    """Run seeds; return 1 when one of them broke a rule. With `--without` it is 1 when none did."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.hands", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--without", metavar="MECHANISM", choices=OF_LIVE_CONTROL)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    seeds = [given.seed] if given.seed is not None else list(range(given.first, given.first + given.seeds))
    if given.without is None:
        return _many(seeds, trace=given.trace)
    with without(given.without):
        noticed = next((f"seed {seed}: {found[0]}" for seed in seeds if (found := run_seed(seed)[0])), None)
    print(f"without {given.without}: {noticed or 'NOT NOTICED'}")
    return 0 if noticed else 1


def _many(seeds: Sequence[int], *, trace: bool) -> int:
    failed, done = 0, dict.fromkeys((*map(str, Verb), *SPECIAL), 0)
    for seed in seeds:
        violations, lines, counts = run_seed(seed, trace=trace)
        for what, count in counts.items():
            done[what] += count
        for line in [*lines, *(f"seed {seed}: {violation}" for violation in violations[:5])]:
            print(line)
        failed += bool(violations)
    print(f"{len(seeds)} seeds, {failed} failed; {', '.join(f'{what} {count}' for what, count in done.items())}")
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get(HASH_SEED) != "0":
        again = [sys.executable, "-m", "tests.simulation.hands", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | {HASH_SEED: "0"})
    sys.exit(main())
