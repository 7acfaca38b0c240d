"""Simulated processes of tasks: they take time, fail, ignore SIGTERM, and outlive their worker.

Each writes its start and its end into the ledger, outside of the engine; the checker compares it with the store.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from echelon.shared.messages import AttemptRef, Finished, Grant, GrantedTask, Outcome, SpawnedItems
from echelon.shared.sealing import CannotOpen, seal_value
from echelon.shared.volume.layout import attempt_name
from echelon.worker.settings import WorkerSettings
from tests.simulation.catalogue import BEHAVIOURS
from tests.simulation.history import Run
from tests.simulation.volume import SimFiles, SimSealer
from tests.simulation.world import EPOCH, Actor, Killed, World

#: How often a list of a spawn task is empty, short or long, and how long then.
SIZES = ((0, 0, 1), (1, 8, 6), (9, 30, 2))
CALM_SIZE = 16
#: One of so many items holds a secret, where any do.
SECRET_EVERY = 5


@dataclass(eq=False)
class Task:
    """One running process of a task."""

    grant: Grant
    task: GrantedTask
    run: Run
    outcome: Outcome
    over: bool = False
    #: Its outcome after a stop.
    stopped: Outcome | None = None
    error: str | None = None
    spawned: SpawnedItems | None = None


@dataclass(eq=False)
class Ground:
    """The ground of all workers' processes: world, files and ledger."""

    world: World
    files: SimFiles
    ledger: list[Run] = field(default_factory=list)
    #: Some items of spawn tasks hold a secret.
    secret_items: bool = False


def token_of(grant: Grant, task: GrantedTask) -> str:
    """Return the secret that a worker finds for a task: its own, else that of its job."""
    sealer = SimSealer()
    if "token" not in task.input:
        return sealer.open_text(grant.sealed["token"]) if "token" in grant.sealed else ""
    try:
        return sealer.open_seal(grant.seal).open_text(str(task.input["token"]))
    except CannotOpen:
        return f"{task.input['token']}, which cannot be opened with {grant.seal}"


def secret_of_item(item: str) -> str | None:
    """Return the secret of a spawned task by the item of its own ("attempt.number"); None: it has none."""
    attempt, _, number = item.partition(".")
    return f"spawned-{attempt}.{number}" if number and int(number) % SECRET_EVERY == SECRET_EVERY - 1 else None


def _with_secret(item: dict[str, object], grant: Grant) -> dict[str, object]:
    """Return an item as a worker lays it down: what is secret sealed with the seal of its job."""
    token = secret_of_item(str(item["item"]))
    return item if token is None else {**item, "token": seal_value(SimSealer().open_seal(grant.seal), token)}


class SimExecutor:
    """Runs the attempts of one life of a worker: an `agent.Runner`."""

    def __init__(
        self, ground: Ground, actor: Actor, *, life: str, settings: WorkerSettings, wake: Callable[[], None]
    ) -> None:
        self._ground = ground
        self._world = ground.world
        self._actor = actor
        self._life = life
        self._settings = settings
        self.wake = wake
        self._running: dict[AttemptRef, Task] = {}
        self._done: list[Finished] = []
        #: The file of starts on the volume.
        self.starts: dict[AttemptRef, float] = {}
        #: Part of the processes that end together with their worker.
        self.tidy = self._world.rng.random() < 0.5
        actor.process.at_death.append(self._worker_died)

    @property
    def running_attempts(self) -> Collection[AttemptRef]:
        """Return the attempts that run."""
        return self._running.keys()

    def start_attempt(self, grant: Grant, task: GrantedTask, may_start: Callable[[], bool]) -> bool:
        """Start one attempt, unless the worker or its disk fails first, or `may_start` says no."""
        fault = self._world.strike("start")
        kind = fault.kind if fault else ""
        if kind in ("enospc", "not_started"):
            outcome = Outcome.WORKER_FAULT if kind == "enospc" else Outcome.NOT_STARTED
            begun = outcome is Outcome.NOT_STARTED
            self._done.append(
                Finished(grant.job_id, task.task_id, task.attempt, outcome, error=f"simulated: {kind}", begun=begun)
            )
            return True
        if kind != "kill_after":
            self._world.suffer(self._actor, fault)
        if not may_start():
            return False
        self._begin_process(grant, task)
        if kind == "kill_after":
            self._world.kill(self._actor.process)
            raise Killed
        return True

    def poll_ended(self, timeout: float) -> list[Finished]:
        """Return what has ended; note how long the caller would have waited."""
        done, self._done = self._done, []
        if done:
            self._world.suffer(self._actor, self._world.strike("end"))
        elif timeout > 0:
            self._actor.wait = timeout
        return done

    def stop_attempt(self, ref: AttemptRef, outcome: Outcome, reason: str, *, grace: float = math.inf) -> None:
        """End a process: at once, or after its grace if it ignores SIGTERM."""
        task = self._running.get(ref)
        if task is None or task.stopped is not None:
            return
        task.stopped, task.error = outcome, reason
        behaviour = BEHAVIOURS[task.grant.recipe.task_class]
        longest = min(task.grant.recipe.grace, grace)
        delay = longest if behaviour.ignores_term else self._world.rng.uniform(0.0, 0.2)
        self._world.at(delay, None, lambda: self._end_process(task, by_stop=True))

    def _begin_process(self, grant: Grant, task: GrantedTask) -> None:
        world, behaviour = self._world, BEHAVIOURS[grant.recipe.task_class]
        run = Run(
            job_id=grant.job_id,
            task_id=task.task_id,
            stage=grant.stage,
            index=task.index,
            attempt=task.attempt,
            number=task.number,
            life=self._life,
            revision=grant.revision,
            edition=grant.recipe.exec_args[0],
            token=token_of(grant, task),
            started=world.now,
            found=self._ground.files.visible(grant.job_id) if grant.stage else None,
        )
        self._ground.ledger.append(run)
        self.starts[AttemptRef(task.task_id, task.attempt)] = EPOCH + world.now
        roll = world.rng.random()
        outcome = Outcome.COMPLETED
        if roll < behaviour.fails:
            outcome = Outcome.FAILED
        elif roll < behaviour.fails + behaviour.spoils:
            outcome = Outcome.SPAWN_INVALID
        process = Task(grant, task, run, outcome)
        self._running[AttemptRef(task.task_id, task.attempt)] = process
        world.log(self._actor.name, f"starts {task.task_id[-12:]}/{task.attempt} ({grant.recipe.task_class})")
        self._write_file(process, "begun")
        length = world.rng.uniform(behaviour.shortest, behaviour.longest)
        if behaviour.poison:
            world.at(length, None, lambda: world.kill(self._actor.process))
        world.at(length, None, lambda: self._end_process(process, by_stop=False))

    def _end_process(self, task: Task, *, by_stop: bool) -> None:
        if task.over:
            return
        task.over = True
        task.run.ended = self._world.now
        task.run.whole = not by_stop
        if not by_stop and task.outcome is Outcome.COMPLETED:
            self._write_file(task, "done")
            if task.grant.recipe.spawns:
                task.spawned = self._make_items(task)
        if self._actor.process.dead:
            return
        outcome = task.outcome if task.stopped is None else task.stopped
        ref = AttemptRef(task.task.task_id, task.task.attempt)
        del self._running[ref]
        result = None
        if outcome is Outcome.COMPLETED:
            result = f"{ref.task_id}/{ref.attempt}/{self._life}"
        error = task.error or (None if outcome is Outcome.COMPLETED else f"simulated: {outcome}")
        seconds = self._world.now - task.run.started
        self._done.append(
            Finished(
                task.grant.job_id, ref.task_id, ref.attempt, outcome, error=error, seconds=seconds, result=result,
                spawned=task.spawned,
            )
        )  # fmt: skip
        self._world.log(self._actor.name, f"ended {ref.task_id[-12:]}/{ref.attempt} {outcome}")
        self._world.at(0.0, self._actor, self.wake)

    def _write_file(self, task: Task, word: str) -> None:
        """Leave a file in the attempt's own folder, or in the workspace."""
        if task.grant.recipe.workdir == "task":
            name = f"{self._name_folder(task)}/work/{task.task.task_id}"
            self._ground.files.content[name] = f"{task.task.attempt} {word}".encode()

    def _make_items(self, task: Task) -> SpawnedItems:
        rng = self._world.rng
        low, high, _ = rng.choices(SIZES, [weight for _, _, weight in SIZES])[0]
        count = rng.randint(low, high) if task.grant.recipe.task_class == "list" else CALM_SIZE
        items: list[dict[str, object]] = [{"item": f"{task.task.attempt}.{number}"} for number in range(count)]
        if self._ground.secret_items:
            items = [_with_secret(item, task.grant) for item in items]
        if count and rng.random() < 0.1:
            items[rng.randrange(count)] = {"unheard_of": 1}
        path = f"{self._name_folder(task)}/items.ndjson"
        self._ground.files.content[path] = "".join(f"{json.dumps(item)}\n" for item in items).encode()
        task.run.spawned = count
        return SpawnedItems(path, count)

    def _name_folder(self, task: Task) -> str:
        return attempt_name(task.grant.job_id, task.grant.stage, task.task.index, task.task.attempt)

    def end_all(self) -> None:
        """End what a worker has left running."""
        for task in list(self._running.values()):
            self._end_process(task, by_stop=True)

    def _worker_died(self) -> None:
        if self.tidy:
            self.end_all()
