"""One fault run: people work on a cluster while faults strike; then everything has to end and is checked."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.simulation.history import History
from tests.system.check import count_descriptors, find_complaints, left_processes, messages_that_stay
from tests.system.cluster import Cluster, Shape
from tests.system.history import gather_history
from tests.system.nemesis import Fault, Nemesis, schedule
from tests.system.observer import Observer, Seen
from tests.system.people import Diary, Person
from tests.system.process import until
from tests.system.workload import Workload


@dataclass(frozen=True, slots=True)
class Profile:
    """How long and how hard a run is."""

    faults: int
    #: Seconds between two faults, on average.
    gap: float
    people: int
    #: Items of the widest fan-out.
    widest: int
    #: Seconds after which no more faults strike, however many there were.
    longest: float
    #: Seconds in which every accepted job has to end after the last fault.
    calm: float
    shape: Shape = field(default_factory=Shape)


PROFILES = {
    "smoke": Profile(faults=40, gap=0.9, people=3, widest=60, longest=60.0, calm=90.0),
    "sqlite": Profile(
        faults=30,
        gap=0.9,
        people=3,
        widest=60,
        longest=60.0,
        calm=90.0,
        shape=Shape(controllers=1, workers=2, datastore="sqlite"),
    ),
    "full": Profile(faults=1000, gap=0.9, people=6, widest=200, longest=3600.0, calm=180.0),
}


def run_chaos(seed: int, profile: Profile, folder: Path, *, replay: Iterator[Fault] | None = None) -> dict[str, object]:
    """Run and return the summary; its `violations` are what broke a promise."""
    workload, diary, begun = Workload(seed, folder), Diary([], [], []), time.time()
    with Cluster(folder, workload.catalogue(1), profile.shape) as cluster:
        nemesis = Nemesis(cluster, workload.catalogue, folder / "schedule.jsonl")
        people = [
            Person(f"{seed} {number}", cluster.urls, workload.plans, diary, widest=profile.widest)
            for number in range(profile.people)
        ]
        files = count_descriptors(cluster)
        with Observer(cluster, workload.ledger, nemesis.busy) as observer:
            faults = replay or schedule(seed, profile.shape, gap=profile.gap)
            calm_from = _let_people_work(people, profile, partial(nemesis.run, faults, profile.faults))
        quiet = time.time() - calm_from
        left = _list_leftovers(cluster, files)
        history = gather_history(cluster, workload, diary, observer.seen, calm_from=calm_from, ended=time.time())
        for worker in cluster.workers:
            worker.terminate()
        for worker in cluster.workers:
            worker.wait()
        left += [f"I9 no leaks: process {one}" for one in left_processes(folder)]
    wrong = [
        *find_complaints(history, diary.jobs),
        *diary.complaints,
        *observer.seen.complaints,
        *nemesis.complaints,
        *left,
    ]
    summary = {
        "seed": seed,
        "seconds": round(time.time() - begun, 1),
        "seconds to the end of all jobs": round(quiet, 1),
    }
    summary |= _make_summary(history, observer.seen, nemesis, wrong)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2))
    return summary


def _let_people_work(people: list[Person], profile: Profile, strike: Callable[..., None]) -> float:
    """Let people work while the nemesis strikes, and then see their jobs end; return when the last fault was over."""
    leave, over = threading.Event(), [float("inf")]
    threads = [
        threading.Thread(target=one.run, args=(leave,), kwargs={"deadline": lambda: over[0]}, name="person")
        for one in people
    ]
    for thread in threads:
        thread.start()
    try:
        strike(deadline=time.monotonic() + profile.longest)
    finally:
        calm_from = time.time()
        over[0] = time.monotonic() + profile.calm
        leave.set()
        for thread in threads:
            thread.join()
    return calm_from


def _list_leftovers(cluster: Cluster, files: dict[str, int]) -> list[str]:
    """Return what is left although nothing runs any more."""
    until(cluster.ready, "the cluster is whole again")
    stay = messages_that_stay(cluster)
    if stay:
        return [f"I9 no leaks: {one}" for one in stay]
    grown = {name: (files[name], now) for name, now in count_descriptors(cluster).items() if now > files[name] + 20}
    return [f"I9 no leaks: open files grew from {before} to {now} in {name}" for name, (before, now) in grown.items()]


def _make_summary(history: History, seen: Seen, nemesis: Nemesis, wrong: list[str]) -> dict[str, object]:
    rules = Counter(one.partition(":")[0] for one in wrong)
    starts = Counter((run.task_id, run.attempt) for run in history.ledger)
    return {
        "faults": len(nemesis.struck),
        "faults by kind": dict(sorted(Counter(fault.kind for fault in nemesis.struck).items())),
        "faults that could not be dealt as meant": nemesis.failures,
        "jobs": dict(Counter(str(row["state"]) for row in history.jobs)),
        "tasks": dict(Counter(str(row["state"]) for row in history.tasks)),
        "processes of tasks": len(history.ledger),
        "attempts by outcome": dict(Counter(str(row["outcome"]) for row in history.attempts)),
        "requests": dict(Counter(f"{asked.what} {asked.answer}" for asked in history.asked)),
        "answers to GET": seen.answers,
        "lost jobs": rules["I1 accepted survives"],
        "tasks counted twice": rules["I2 counted once"] + rules["I2 stage totals"],
        "attempts started twice": sum(1 for count in starts.values() if count > 1),
        "order violations": rules["I3 stage order"],
        "leaked processes": sum(1 for one in wrong if one.startswith("I9 no leaks: process")),
        "violations by rule": dict(rules),
        "violations": wrong,
    }
