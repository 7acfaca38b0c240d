"""The measurements of the soak: growth is found, and steady figures are not reported."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import cast

from tests.system.cluster import Cluster
from tests.system.gauges import Gauge, children_of, gauge, processes_of, zombies_of
from tests.system.process import until
from tests.system.soak import Done, Watch, summarize_soak

_MIB = 1 << 20
#: Seconds between two looks, and looks, of half an hour.
EVERY, LOOKS = 5.0, 360


def watched(*, memory: float = 0.0, files: float = 0.0, threads: float = 0.0, store: float = 0.0) -> Watch:
    """Return looks at one process that grows by so much in an hour."""
    watch = Watch(cast(Cluster, None))
    for number in range(LOOKS):
        at = EVERY * number
        hours = at / 3600.0
        # Figures that rise and fall again are no growth.
        noise = number % 3
        one = Gauge(
            int((90 + memory * hours) * _MIB) + noise * 4096,
            20 + round(files * hours) + noise,
            8 + round(threads * hours),
        )
        watch.gauges["worker1, 7"].append((at, one))
        watch.store.append((at, int((5 + store * hours) * _MIB) + noise * 4096))
    return watch


def missed(watch: Watch, *, tasks: int = 10_000) -> object:
    return summarize_soak(watch, Done(jobs=1, tasks=tasks), seconds=EVERY * LOOKS, warm_up=360.0)["missed"]


def test_what_stays_as_it_is_misses_no_bar() -> None:
    assert missed(watched(memory=0.5)) == []


def test_what_grows_is_told_with_its_process() -> None:
    assert missed(watched(memory=2.0)) == ["worker1, 7: MiB per hour"]
    assert missed(watched(files=30.0)) == ["worker1, 7: files"]
    assert missed(watched(threads=30.0)) == ["worker1, 7: threads"]
    assert missed(watched(store=60.0)) == ["the store grows"]


def test_a_process_that_ended_is_told_and_a_task_that_has_just_begun_is_not_taken_for_one() -> None:
    watch = watched()
    watch.gauges["worker1, 8"] = watch.gauges["worker1, 7"][:1]
    watch.gauges["controller1, 9"] = watch.gauges["worker1, 7"][: LOOKS // 2]

    assert missed(watch) == ["controller1, 9: it was not there all the time"]


def test_a_run_that_did_too_little_shows_nothing() -> None:
    assert missed(watched(), tasks=100) == ["less than 5 tasks per second"]


def test_a_process_is_gauged_as_it_is() -> None:
    before = gauge(os.getpid())
    reading, writing = os.pipe()
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    held = bytearray(os.urandom(1) * (64 * _MIB))
    after = gauge(os.getpid())
    over.set()
    thread.join()
    os.close(reading)
    os.close(writing)

    assert after.files == before.files + 2
    assert after.threads == before.threads + 1
    assert after.memory - before.memory > 32 * _MIB < len(held)


def test_a_child_that_ended_and_was_not_buried_is_a_zombie_and_a_task_is_no_process_of_ours() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    try:
        until(lambda: child.pid in zombies_of(os.getpid()), "it has ended")
        assert child.pid in children_of(os.getpid())
        assert child.pid not in set(processes_of(os.getpid()))
    finally:
        child.wait()

    assert child.pid not in zombies_of(os.getpid())
