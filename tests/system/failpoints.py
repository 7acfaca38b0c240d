"""Lets real processes reach every failpoint of the product under a small workload, and checks the run.

`python -m tests.system.failpoints` does it with every action and prints a summary; the tests do it with `kill`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from echelon.shared.failpoints import VARIABLE
from tests.simulation.history import History
from tests.system.check import find_complaints, left_processes, messages_that_stay
from tests.system.cluster import Cluster, Program, Shape
from tests.system.history import gather_history
from tests.system.observer import Observer
from tests.system.people import Diary, Person
from tests.system.process import until
from tests.system.reopening import Reopener
from tests.system.workload import Plan, Workload

#: Steps that the first controller and the first worker must reach. The steps of a new volume have their own test.
CONTROLLER = (
    "submit.before_insert", "submit.after_insert", "submit.after_commit",
    "cancel.before_commit", "cancel.after_commit", "retry.before_commit", "retry.after_commit",
    "delete.before_commit", "delete.after_commit", "files.before_publish", "files.after_publish",
    "settle.before_commit", "settle.after_commit", "claim.before_commit", "claim.after_commit",
    "orders.before_publish", "orders.after_publish", "reports.after_ack",
    "expand.before_insert", "expand.before_commit", "expand.after_commit",
    "due.before_commit", "due.after_commit", "expire.before_commit", "expire.after_commit",
)  # fmt: skip
WORKER = (
    "life.after_lock", "life.after_write", "life.before_buried", "heartbeat.before_publish", "heartbeat.after_publish",
    "orders.before_ack", "orders.after_ack", "exec.before_spawn", "exec.after_spawn", "exec.mid", "exec.after_exit",
    "spawn.before_write", "spawn.after_write",
    "result.before_publish", "result.after_publish", "result.after_confirm",
    "release.before_publish", "drain.begun", "goodbye.before_publish", "goodbye.after_publish",
)  # fmt: skip
VOLUME = ("volume.before_marker", "volume.after_marker", "key.before_write", "key.after_write", "durable.before_rename")
ACTIONS = ("kill", "raise", "stop")

_REACHED = re.compile(r"failpoint (\S+) reached in process (\d+): (\S+)")
#: Reached only by a worker that is asked to end.
_AT_THE_END = frozenset({"drain.begun", "goodbye.before_publish", "goodbye.after_publish", "release.before_publish"})
#: A process that raises in these does not come up.
_AT_THE_START = frozenset({"life.after_lock", "life.after_write"})
#: A worker's first heartbeat belongs to its start; these are of its heartbeat's own thread.
_HITS = {"heartbeat.before_publish": 2, "heartbeat.after_publish": 2}
#: Seconds that a worker lives before it is asked to end.
_LIVED = 1.5


class Steps(Workload):
    """Jobs that come past every step: spawned items, private files, a secret, a retry, a failure, a long run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(0, folder, types=0, long=3.0)
        alone: dict[str, object] = {"job_failed_on_error": True}
        spawned = alone | {"spawn_task": "list"}

        def kind(name: str) -> dict[str, object]:
            return {"task_class": name}

        stages = {
            "wide": [kind("private") | spawned, kind("flaky") | alone, kind("quick") | spawned],
            "burst": [kind("quick") | spawned, kind("short") | spawned],
            "long": [kind("long") | spawned],
            "doomed": [kind("doomed") | alone],
        }
        self._jobs |= {name: self._job(*described) for name, described in stages.items()}
        self.plans = [
            Plan("wide", True, "COMPLETED"), Plan("burst", True, "COMPLETED"), Plan("long", False, "COMPLETED")
        ]  # fmt: skip

    @staticmethod
    def _job(*stages: dict[str, object]) -> dict[str, object]:
        return {
            "input": {
                "count": {"source": "parameter", "type": "integer", "default": 0},
                "token": {"source": "http-header", "key": "X-Token", "secret": True, "default": "none"},
            },
            "stages": [{"name": str(number)} | stage for number, stage in enumerate(stages)],
        }


class Armed:
    """A process that fails on purpose, again and again, until each of its failpoints has been reached."""

    def __init__(self, cluster: Cluster, program: Program, points: Iterable[str], action: str) -> None:
        self.program, self.action = program, action
        self.left = set(points)
        self.reached: list[str] = []
        self.complaints: list[str] = []
        self._cluster = cluster
        self._read = 0
        #: Process that stands still, since when, and until when of the monotonic clock.
        self._standing: tuple[int, float, float] | None = None
        #: Since when it runs without a break.
        self._since = 0.0
        self._asked_to_end = self._raised_at_start = False

    @property
    def busy(self) -> bool:
        """Tell whether there is something left to be reached, or to be done about what was."""
        return bool(self.left) or self._standing is not None

    def begin(self) -> None:
        """Start it anew with what is left."""
        if self.program.running:
            self.program.kill()
        self._start_program()

    def disarm(self) -> None:
        """Let it live as all others do."""
        self.program.kill()
        self.program.start()

    def ask_to_end(self) -> None:
        """Ask it to end if that is what the failpoints that are left need."""
        if self._asked_to_end or not self.left & _AT_THE_END or self._standing is not None:
            return
        # It has lived long enough to hold something.
        if self.program.running and time.monotonic() > self._since + _LIVED:
            self._asked_to_end = True
            self.program.terminate()

    def look(self) -> None:
        """See what it has reached, and go on with it."""
        self._cluster.note_lives()
        for name, pid in self._read_news():
            self.left.discard(name)
            self.reached.append(name)
            self._check_process(name, pid)
        if self._standing is not None and time.monotonic() >= self._standing[2]:
            os.kill(self._standing[0], signal.SIGCONT)
            self.program.lives[-1].pauses.append((self._standing[1], time.time()))
            self._standing, self._since = None, time.monotonic()
        if not self.program.running:
            code = self.program.wait()
            if code != self._expect_code(code):
                self.complaints.append(f"I9 no leaks: {self.program.name} ended by itself ({code})")
            self._start_program()

    def _start_program(self) -> None:
        self._since, self._asked_to_end, self._raised_at_start = time.monotonic(), False, False
        wanted = (f"{name}:{self.action}:{_HITS.get(name, 1)}" for name in sorted(self.left))
        self.program.start(**{VARIABLE: ",".join(wanted)})

    def _expect_code(self, code: int) -> int:
        if self._raised_at_start and code in (1, 3):
            return code
        return -signal.SIGKILL if self.action == "kill" and not (self._asked_to_end and code == 0) else 0

    def _read_news(self) -> Iterator[tuple[str, int]]:
        with self.program.log.open() as file:
            file.seek(self._read)
            for line in iter(file.readline, ""):
                if not line.endswith("\n"):
                    break
                self._read += len(line.encode())
                found = _REACHED.search(line)
                if found is not None and found[3] == self.action:
                    yield found[1], int(found[2])

    def _check_process(self, name: str, pid: int) -> None:
        """See that a process is as a failpoint leaves it."""
        if self.action == "raise":
            self._raised_at_start |= name in _AT_THE_START
            return
        wanted = "T" if self.action == "stop" else "gone"
        until(lambda: state_of(pid) == wanted, f"process {pid} is {wanted} at {name}", patience=10.0)
        if self.action == "stop":
            self._standing = pid, time.time(), time.monotonic() + 1.25 * self._cluster.shape.lease


def state_of(pid: int) -> str:
    """Return a process's state as ps has it: T stopped; gone: it has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    return "gone" if state in "ZX" else state


class Victim:
    """A worker that stands still for more than a lease, again and again, so that its attempts are written off."""

    def __init__(self, cluster: Cluster, program: Program) -> None:
        self._lease, self._program = cluster.shape.lease, program
        #: When it stops or goes on next, on the monotonic clock.
        self._next = 0.0
        self._stands = False

    def turn(self, *, wanted: bool) -> None:
        """Stop it, or let it go on, as it is time."""
        now = time.monotonic()
        if self._stands and (now >= self._next or not wanted):
            self._program.go_on()
            # Awake for a while: it takes attempts before it stops again.
            self._stands, self._next = False, now + _LIVED
        elif not self._stands and wanted and now >= self._next:
            self._program.pause()
            self._stands, self._next = True, now + 2.5 * self._lease


@dataclass
class Run:
    """The parts of one run."""

    cluster: Cluster
    workload: Steps
    diary: Diary
    armed: list[Armed]
    people: list[Person]
    reopener: Reopener


def strike(folder: Path, action: str, shape: Shape, *, only: str = "", longest: float = 300.0) -> dict[str, object]:
    """Do one action at every failpoint; return a summary whose `violations` are what broke a promise."""
    begun, workload, diary = time.time(), Steps(folder), Diary([], [], [])
    with Cluster(folder, workload.catalogue(1), shape) as cluster:
        armed = [
            Armed(cluster, program, [name for name in points if only in name], action)
            for program, points in ((cluster.controllers[0], CONTROLLER), (cluster.workers[0], WORKER))
        ]
        people = [Person(f"failpoints {n}", cluster.urls, workload.plans, diary, widest=20) for n in range(2)]
        run = Run(cluster, workload, diary, armed, people, Reopener(cluster.urls))
        history, wrong = _reach_and_wait(run, action, deadline=time.monotonic() + longest)
    summary: dict[str, object] = {
        "action": action,
        "seconds": round(time.time() - begun, 1),
        "failpoints reached": sum(len(one.reached) for one in armed),
        "jobs": dict(Counter(str(row["state"]) for row in history.jobs)),
        "jobs opened again": run.reopener.retried,
        "jobs deleted": len(run.reopener.deleted),
        "processes of tasks": len(history.ledger),
        "attempts by outcome": dict(Counter(str(row["outcome"]) for row in history.attempts)),
        "violations": wrong,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2))
    return summary


def _reach_and_wait(run: Run, action: str, *, deadline: float) -> tuple[History, list[str]]:
    """Reach every failpoint, then see all jobs end; return what is known and what of it is wrong."""
    cluster, diary, reopener = run.cluster, run.diary, run.reopener
    with Observer(cluster, run.workload.ledger, lambda _: True) as observer, _let_people_work(run) as over:
        _reach_all(cluster, run.armed, deadline=deadline)
        calm_from = time.time()
        over[0] = time.monotonic() + 60.0
    until(cluster.ready, "the cluster is whole again")
    wrong = [f"I9 no leaks: {one}" for one in messages_that_stay(cluster)]
    diary.asked += reopener.asked
    history = gather_history(
        cluster, run.workload, diary, observer.seen, calm_from=calm_from, ended=time.time(), deleted=reopener.deleted
    )
    for worker in cluster.workers:
        worker.terminate()
    for worker in cluster.workers:
        worker.wait()
    wrong += [f"I9 no leaks: process {one}" for one in left_processes(cluster.folder)]
    wrong += [*find_complaints(history, diary.jobs), *observer.seen.complaints, *reopener.leavings(cluster.volume)]
    for one in run.armed:
        wrong += [*one.complaints, *(f"not reached: {name}" for name in sorted(one.left))]
    raised = [name for one in run.armed for name in one.reached if action == "raise"]
    return history, wrong + _drop_expected(diary.complaints, raised)


@contextmanager
def _let_people_work(run: Run) -> Iterator[list[float]]:
    """Let people work; at the end see their jobs through, until the moment that the yielded list then holds."""
    leave, over = threading.Event(), [float("inf")]
    threads = [
        threading.Thread(target=one.run, args=(leave,), kwargs={"deadline": lambda: over[0]}, name="person")
        for one in (*run.people, run.reopener)
    ]
    for thread in threads:
        thread.start()
    try:
        yield over
    finally:
        over[0] = min(over[0], time.monotonic() + 120.0)
        leave.set()
        for thread in threads:
            thread.join()


def _reach_all(cluster: Cluster, armed: list[Armed], *, deadline: float) -> None:
    """Let every failpoint be reached, as far as there is time."""
    controller, worker = armed
    victim, pause = Victim(cluster, cluster.workers[1]), threading.Event()
    for one in armed:
        one.begin()
    while any(one.busy for one in armed) and time.monotonic() < deadline:
        for one in armed:
            one.look()
        worker.ask_to_end()
        victim.turn(wanted=any(name.startswith("expire.") for name in controller.left))
        # Between two looks at other processes there is nothing to wait on.
        pause.wait(0.02)
    victim.turn(wanted=False)
    for one in armed:
        if one.left:
            one.disarm()


def _drop_expected(found: list[str], reached: Iterable[str]) -> list[str]:
    """Return the complaints of people, but for an internal error for each request in which a failpoint raised."""
    expected = sum(name.startswith(("submit.", "cancel.")) for name in reached)
    faults = [one for one in found if "Echelon failed" in one]
    return [one for one in found if one not in faults] + faults[expected:]


@click.command()
@click.option("--action", "actions", type=click.Choice(ACTIONS), multiple=True, default=ACTIONS, show_default=True)
@click.option("--only", default="", help="Failpoints whose name contains this.")
@click.option("--datastore", type=click.Choice(["postgresql", "sqlite"]), default="postgresql", show_default=True)
@click.option("--longest", default=300.0, show_default=True, help="Seconds that one action may take.")
def main(actions: tuple[str, ...], only: str, datastore: str, longest: float) -> None:
    """Do each action at every failpoint; exit 1 when a promise was broken."""
    shape = Shape(controllers=2 if datastore == "postgresql" else 1, workers=2, datastore=datastore)
    broken = False
    for action in actions:
        folder = Path(tempfile.mkdtemp(prefix=f"echelon-failpoints-{action}-"))
        print(f"{action} in {folder}", flush=True)
        summary = strike(folder, action, shape, only=only, longest=longest)
        print(json.dumps(summary, indent=2), flush=True)
        broken |= bool(summary["violations"])
    raise SystemExit(broken)


if __name__ == "__main__":
    main()
