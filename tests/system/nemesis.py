"""Makes a seeded schedule of faults and carries it out. Each fault is recorded, so that a run can be replayed."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.system.blows import BLOWS
from tests.system.cluster import Cluster, Shape

#: Kind of fault -> (weight, shortest, longest length in seconds). The first word says what it is done to.
KINDS: dict[str, tuple[float, float, float]] = {
    "worker.kill": (10, 0.0, 3.0),
    "worker.vanish": (2, 7.0, 12.0),
    "worker.pause": (5, 0.5, 5.0),
    "worker.oversleep": (2, 7.0, 14.0),
    "worker.drain": (4, 0.0, 2.0),
    "controller.kill": (7, 0.0, 3.0),
    "controller.pause": (5, 0.5, 8.0),
    "controller.drain": (3, 0.0, 2.0),
    "worker-broker.cut": (8, 0.0, 0.0),
    "worker-broker.swallow": (4, 0.5, 12.0),
    "worker-broker.deafen": (3, 0.5, 8.0),
    "worker-broker.mute": (3, 0.5, 8.0),
    "worker-broker.slow": (3, 1.0, 5.0),
    "worker-broker.flap": (2, 3.0, 10.0),
    "controller-broker.cut": (6, 0.0, 0.0),
    "controller-broker.swallow": (3, 0.5, 8.0),
    "controller-broker.slow": (2, 1.0, 5.0),
    "controller-broker.flap": (2, 3.0, 10.0),
    "controller-datastore.cut": (6, 0.0, 0.0),
    "controller-datastore.swallow": (3, 0.5, 6.0),
    "controller-datastore.slow": (2, 1.0, 4.0),
    "controller-datastore.flap": (2, 3.0, 10.0),
    "broker.kill": (1.5, 0.0, 4.0),
    "broker.stop_app": (0.7, 0.5, 4.0),
    "broker.close_connections": (1, 0.0, 0.0),
    "broker.delete_reports": (3, 0.0, 0.0),
    "broker.delete_orders": (2, 0.0, 0.0),
    "broker.alarm": (1, 1.0, 6.0),
    "broker.disk_alarm": (1, 1.0, 6.0),
    "broker.full_queues": (2, 0.5, 5.0),
    "database.restart": (2, 0.0, 2.0),
    "database.terminate": (4, 0.0, 0.0),
    "database.lock": (2, 1.0, 12.0),
    "messages.garbage": (4, 0.0, 0.0),
    "messages.stale": (4, 0.0, 0.0),
    "catalogue.rewrite": (2, 0.0, 0.0),
    "catalogue.spoil": (2, 0.5, 3.0),
}
#: Link faults leave the process alone, so that both may meet.
_NO_POSTGRESQL = ("database", "controller-datastore")


@dataclass(frozen=True, slots=True)
class Fault:
    """One blow: seconds after the beginning, its kind, what it hits, how long it lasts."""

    at: float
    kind: str
    target: str
    seconds: float
    seed: int


def schedule(seed: int, shape: Shape, *, gap: float) -> Iterator[Fault]:
    """Yield faults for ever, `gap` seconds apart on average."""
    rng = random.Random(f"{seed} nemesis")
    kinds = [kind for kind in KINDS if shape.datastore == "postgresql" or not kind.startswith(_NO_POSTGRESQL)]
    weights = [KINDS[kind][0] for kind in kinds]
    counts = {"worker": shape.workers, "controller": shape.controllers}
    at = 0.0
    while True:
        at += rng.expovariate(1 / gap)
        kind = rng.choices(kinds, weights)[0]
        role = kind.partition(".")[0].partition("-")[0]
        target = f"{role}{rng.randint(1, counts[role])}" if role in counts else role
        _, shortest, longest = KINDS[kind]
        yield Fault(round(at, 3), kind, target, round(rng.uniform(shortest, longest), 3), rng.getrandbits(32))


def read_schedule(path: Path) -> Iterator[Fault]:
    """Yield the faults of a run that is to be repeated."""
    for line in path.read_text().splitlines():
        yield Fault(**json.loads(line))


class Nemesis:
    """Strikes a cluster. A fault whose target still suffers from another one is left out."""

    def __init__(self, cluster: Cluster, catalogue: Callable[[int], str], record: Path) -> None:
        self.cluster = cluster
        self.catalogue = catalogue
        self.edition = 1
        self.struck: list[Fault] = []
        #: Faults that could not be dealt as meant.
        self.failures: list[str] = []
        #: Broken promises that a fault itself has found.
        self.complaints: list[str] = []
        self._record = record
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="nemesis")

    def busy(self, target: str) -> bool:
        """Tell whether a process is down or stopped on purpose at the moment."""
        return self._locks[target].locked()

    def run(self, faults: Iterator[Fault], count: int, *, deadline: float) -> None:
        """Strike `count` times, or until a moment of the monotonic clock, and wait until everything is whole again."""
        begun, running = time.monotonic(), []
        for fault in faults:
            if len(self.struck) >= count or time.monotonic() >= deadline:
                break
            pause = begun + fault.at - time.monotonic()
            if pause > 0:
                threading.Event().wait(pause)
            lock = self._locks[_suffering(fault)]
            if lock.acquire(blocking=False):
                self._note(fault)
                running.append(self._pool.submit(self._strike, fault, lock))
        self._settle(running)

    def _settle(self, running: list[Future[None]]) -> None:
        for one in running:
            one.result()
        self._pool.shutdown()
        self.cluster.heal()

    def _note(self, fault: Fault) -> None:
        self.struck.append(fault)
        with self._record.open("a") as file:
            file.write(json.dumps(asdict(fault)) + "\n")

    def _strike(self, fault: Fault, lock: threading.Lock) -> None:
        try:
            BLOWS[fault.kind](self, fault)
        except Exception as error:  # noqa: BLE001 - a broken blow is told with the results
            self.failures.append(f"{fault}: {error!r}")
        finally:
            lock.release()


def _suffering(fault: Fault) -> str:
    """Return what may suffer from one fault at a time."""
    role = fault.kind.partition(".")[0]
    return f"{fault.target}-{role}" if "-" in role else fault.target
