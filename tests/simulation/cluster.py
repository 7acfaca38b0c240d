"""The cluster of one run: builds it, lets it live, and gathers its history."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from unittest import mock

from echelon.controller.engine.upkeep import expander
from echelon.shared import ids
from tests.simulation.broker import Hub
from tests.simulation.catalogue import RETRIES, make_catalogue
from tests.simulation.clocks import SeededIds
from tests.simulation.controllers import LEASE, MAX_LOSSES, SimController
from tests.simulation.faults import CALM_FROM
from tests.simulation.history import Asked, Entry, History, Life, Row, Taken
from tests.simulation.people import Person
from tests.simulation.signs import Signs
from tests.simulation.store import StoreFile
from tests.simulation.stranger import Stranger
from tests.simulation.tasks import Ground
from tests.simulation.volume import SimFiles
from tests.simulation.witness import Wish
from tests.simulation.workers import SimWorker
from tests.simulation.world import EPOCH, World

#: Every accepted job has ended by then.
LATEST = 1500.0
#: Items of one transaction: few, so that a small fan-out takes several.
CHUNK = 5
#: Seconds between two looks at the counters.
AUDIT = 5.0
STATES = ("PENDING", "QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "SKIPPED")
TOLD = f"SELECT key, spawn, {', '.join(STATES)}, started, spawn_started FROM stages"
#: A query that must never find a row -> the complaint about such a row.
NEVER = {
    "SELECT task_id FROM tasks WHERE state = 'QUEUED' AND lease_until IS NOT NULL": (
        "task {} is QUEUED while its last attempt may be there"
    ),
    "SELECT job_id FROM job_inputs JOIN jobs USING (key) WHERE (sealed IS NOT NULL OR seal IS NOT NULL)"
    " AND state NOT IN ('PENDING', 'RUNNING')": "job {} has ended, and its secrets can still be opened",
    "SELECT task_id FROM jobs JOIN job_inputs USING (key) JOIN stages ON stages.job = jobs.key"
    " JOIN tasks ON tasks.stage = stages.key WHERE jobs.state IN ('PENDING', 'RUNNING')"
    " AND tasks.state IN ('PENDING', 'QUEUED', 'RUNNING') AND tasks.seal_number <> job_inputs.seal_number": (
        "task {} is to run without its secret, which was erased"
    ),
}
COUNTED = (
    "SELECT stage, idx = -1, state, state = 'RUNNING' AND started_at IS NOT NULL, COUNT(*) FROM tasks"
    " WHERE COALESCE(run, 0) = 0 GROUP BY 1, 2, 3, 4"
)


class Cluster:
    """Two controllers, three workers, some people, and what lies between them."""

    def __init__(self, world: World) -> None:
        self.world = world
        rng = world.rng
        self.ids = SeededIds(rng)
        self.hub = Hub(world)
        self.stranger = Stranger(world, self.hub)
        self.ground = Ground(world, SimFiles())
        self.ground.files.on_publish = self._judge_file
        #: The attempt whose file is shown under a name.
        self._shown: dict[str, int] = {}
        self.signs = Signs(world)
        self.file = StoreFile()
        self._looks = self.file.connect()
        self._looks.row_factory = sqlite3.Row
        self.lives: dict[str, Life] = {}
        self.asked: list[Asked] = []
        self.refused: list[tuple[float, str, int]] = []
        self.buried: list[tuple[float, str]] = []
        self.taken: dict[str, list[Taken]] = {}
        #: Numbers of the seals of jobs.
        self.seals = itertools.count(1)
        #: Makes what is entered for each commit of a request, for those who look on.
        self.around: Callable[[Wish | None], Callable[[], AbstractContextManager[None]]] = _watch_nothing
        self.editions = {edition: make_catalogue(rng, edition) for edition in (1, 2)}
        self.catalogue = self.editions[1]
        self.controllers = [SimController(self, f"controller{number}") for number in (1, 2)]
        slots = ({"*": 3}, {"default": 2, "special": 2}, {"default": 2, "*": 1})
        self.workers = [SimWorker(self, f"worker{number}", one) for number, one in enumerate(slots, 1)]
        self.people = [Person(self, number) for number in range(rng.randint(3, 7))]
        self.people.append(Person(self, len(self.people), calm=True))

    def live(self) -> None:
        """Let everything happen until all jobs have ended, or for as long as that may take."""
        world = self.world
        for number, host in enumerate([*self.controllers, *self.workers]):
            world.at(0.1 * number, None, host.start)
        world.at(world.rng.uniform(20.0, 150.0), None, self._edit_catalogue)
        world.at(AUDIT, None, self._look_around)
        world.at(CALM_FROM + 14.0, None, lambda: self._kill_a_busy_worker(0.5))
        world.at(CALM_FROM + 16.0, None, lambda: self._kill_a_busy_worker(30.0))
        with self._seed_ids():
            world.run(LATEST)
            world.stop()

    def close(self) -> None:
        """Let go of the store."""
        for host in self.controllers:
            if host.actor is not None:
                for let_go in host.actor.process.at_death[1:]:
                    let_go()
        self._looks.close()
        self.file.remove()

    def look(self, query: str) -> list[sqlite3.Row]:
        """Return what a query finds in the store."""
        return self._looks.execute(query).fetchall()

    def job_states(self) -> dict[str, str]:
        """Return the state of every job in the store."""
        return dict(self._looks.execute("SELECT job_id, state FROM jobs").fetchall())

    # --- what happens from outside

    def _edit_catalogue(self) -> None:
        self.catalogue = self.editions[2]
        self.world.log("world", f"the catalogue is {self.catalogue.revision} now")

    def _kill_a_busy_worker(self, back_after: float) -> None:
        """The last two kills, in the calm, when it can be told how soon what they cut off runs again."""
        running = {run.life for run in self.ground.ledger if run.ended is None}
        busy = [worker for worker in self.workers if worker.body and worker.body.id in running and not worker.dead]
        if busy:
            self.world.rng.choice(busy).kill(back_after=back_after)

    def _look_around(self) -> None:
        """Compare the counters with the rows, and stop when nothing is left to happen."""
        self._audit_store()
        if self.world.now > CALM_FROM + 20.0 and self._all_ended():
            self.world.at(LEASE + 2.0, None, self.world.stop)
        else:
            self.world.at(AUDIT, None, self._look_around)

    def _all_ended(self) -> bool:
        if not all(person.done for person in self.people):
            return False
        return not self._looks.execute("SELECT 1 FROM jobs WHERE state IN ('PENDING', 'RUNNING')").fetchone()

    def _audit_store(self) -> None:
        for line in audit_counters(self._looks.execute(TOLD).fetchall(), self._looks.execute(COUNTED).fetchall()):
            self.world.violate("auditor", line)
        for query, complaint in NEVER.items():
            for (name,) in self._looks.execute(query):
                self.world.violate("auditor", complaint.format(name))

    def _judge_file(self, name: str) -> None:
        """Compare a file that has just been published with what is committed at this moment, and what it replaces."""
        statement = "SELECT attempts.attempt FROM attempts JOIN tasks ON tasks.key = attempts.task WHERE task_id = ?"
        query = f"{statement} AND outcome = 'completed'"
        counted = {attempt for (attempt,) in self._looks.execute(query, (name.rsplit("/", 1)[-1],))}
        content = self.ground.files.content[name].decode()
        attempt, word = content.split()
        if int(attempt) not in counted or word != "done":
            self.world.violate("I8 outputs", f"{name} shows {content!r}, its attempts {counted} were counted")
        if int(attempt) < self._shown.get(name, 0):
            self.world.violate("I8 outputs", f"{name} shows {content!r} over attempt {self._shown[name]}")
        self._shown[name] = int(attempt)

    @contextlib.contextmanager
    def _seed_ids(self) -> Iterator[None]:
        """Let ids come from the seed, and fan-outs take several transactions."""
        with (
            mock.patch.object(ids, "uuid", self.ids),
            mock.patch.object(ids, "secrets", self.ids),
            mock.patch.object(expander, "CHUNK", CHUNK),
        ):
            yield

    # --- what is left

    def _read_rows(self, table: str) -> list[Row]:
        statements = {
            "jobs": "SELECT * FROM jobs JOIN job_inputs USING (key)",
            "stages": "SELECT * FROM stages",
            "tasks": "SELECT * FROM tasks",
            "attempts": "SELECT * FROM attempts",
            "events": "SELECT * FROM events",
            "diary": "SELECT * FROM diary ORDER BY seq",
        }
        return [dict(row) for row in self._looks.execute(statements[table])]

    def history(self) -> History:
        """Return all that is known of the run."""
        workers = {row["key"]: row["worker_id"] for row in self._looks.execute("SELECT key, worker_id FROM workers")}
        return History(
            jobs=self._read_rows("jobs"),
            stages=self._read_rows("stages"),
            tasks=self._read_rows("tasks"),
            attempts=self._read_rows("attempts"),
            events=self._read_rows("events"),
            workers=workers,
            diary=[_make_entry(row) for row in self._read_rows("diary")],
            ledger=self.ground.ledger,
            lives=self.lives,
            asked=self.asked,
            editions={one.revision: f"edition-{edition}" for edition, one in self.editions.items()},
            files={name: data.decode() for name, data in self.ground.files.content.items() if "/attempts/" not in name},
            calm_from=CALM_FROM,
            ended=self.world.now,
            refused=self.refused,
            line=[tuple(row) for row in self._looks.execute("SELECT * FROM line ORDER BY rowid")],
            taken=self.taken,
            buried=self.buried,
            max_losses=MAX_LOSSES,
            retry_limits={name: retry.limit for name, retry in RETRIES.items()},
        )


def _watch_nothing(wish: Wish | None) -> Callable[[], AbstractContextManager[None]]:
    return contextlib.nullcontext


def _make_entry(row: Row) -> Entry:
    fields = dict(row)
    if fields["lease_until"] is not None:
        fields["lease_until"] -= EPOCH
    return Entry(**fields)


def audit_counters(stages: list[sqlite3.Row], counted: list[sqlite3.Row]) -> Iterator[str]:
    """Yield where a stage's counters differ from its rows."""
    there: dict[int, Counter[str]] = defaultdict(Counter)
    spawns: dict[int, tuple[str, int]] = {}
    for stage, spawn, state, started, count in counted:
        if spawn:
            spawns[stage] = state, started
        else:
            there[stage].update({state: count, "started": count * started})
    for key, spawn, *told, spawn_started in stages:
        counts = there[key]
        rows = [counts[word] for word in (*STATES, "started")]
        if spawn == "RUNNING" and spawns[key] != (spawn, spawn_started):
            yield f"stage {key} holds its spawn task for started: {spawn_started}, it is {spawns[key]}"
        if told != rows:
            yield f"stage {key} counts {dict(zip((*STATES, 'started'), told, strict=True))}, it has {counts}"
        if spawn != spawns.get(key, (None, 0))[0]:
            yield f"stage {key} holds its spawn task for {spawn}, it is {spawns.get(key)}"
