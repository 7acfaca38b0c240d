"""The growth bench: the same fan-out and the same pages with more and more finished tasks in the store.

The finished tasks are rows of jobs of 1,000 tasks that went through the datastore's own port like an engine's:
inserted, claimed, settled. Only their processes are omitted.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psycopg

from bench.contestant import GROWTH
from bench.echelon import Shape, run_echelon
from bench.records import Record
from bench.resources import Resources
from bench.rest import Rest
from bench.session import Session
from echelon.controller.datastore.open import migrate_datastore, open_datastore
from tests.contract import stores
from tests.contract.servers import fresh_database

#: Tasks of each finished job, and of the measured fan-out.
FAN_OUT = 1_000
#: Fan-outs, and requests for each page, per round.
REPEATS, _PAGES = 5, 20
#: Items of a page.
_PAGE = 50


class Stores:
    """Filled stores, made once and used in all rounds."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._stack = ExitStack()
        #: (contestant, finished tasks) -> URL.
        self.urls: dict[tuple[str, int], str] = {}

    def close(self) -> None:
        """Drop the databases."""
        self._stack.close()

    def fill(self, shapes: Sequence[Shape], sizes: Sequence[int]) -> None:
        """Make a store of every size (ascending) for every contestant."""
        on_files = [shape for shape in shapes if not shape.postgresql]
        if on_files:
            self._fill_sqlite(on_files, sizes)
        for shape in shapes:
            if shape.postgresql:
                self._fill_postgresql(shape, sizes)
        # Writes to the disk must not go on while contestants are measured.
        os.sync()

    def _fill_sqlite(self, shapes: Sequence[Shape], sizes: Sequence[int]) -> None:
        folder = self._resources.make_folder("stores")
        original = folder / "original.db"
        migrate_datastore(f"sqlite:///{original}")
        held = 0
        for size in sizes:
            insert_finished(f"sqlite:///{original}", size - held)
            held = size
            for shape in shapes:
                copy = folder / f"{shape.name}-{size}.db"
                shutil.copy(original, copy)
                self.urls[shape.name, size] = f"sqlite:///{copy}"

    def _fill_postgresql(self, shape: Shape, sizes: Sequence[int]) -> None:
        template, held = None, 0
        for size in sizes:
            server = self._resources.postgresql.url
            url = self._stack.enter_context(fresh_database(server, template=template))
            migrate_datastore(url)
            insert_finished(url, size - held)
            with psycopg.connect(url, autocommit=True) as connection:
                # Autovacuum and the checkpointer would do this later, perhaps during a measurement.
                connection.execute("VACUUM ANALYZE")
                connection.execute("CHECKPOINT")
            self.urls[shape.name, size] = url
            template, held = url.rpartition("/")[2], size


def insert_finished(url: str, count: int) -> None:
    """Insert finished tasks into a store."""
    store = open_datastore(url)
    for _ in range(count // FAN_OUT):
        job_id = stores.fan_out(store, FAN_OUT)
        with store.write() as tx:
            claimed = stores.claim(tx, job_id, FAN_OUT)
            stores.settle(tx, job_id, [task.task_id for task in claimed])
    store.close()


def measure_growth(session: Session, shape: Shape, round_: int, size: int, filled: Stores) -> None:
    """Measure fan-outs and pages with `size` finished tasks in the store."""
    folder: Path = session.resources.make_folder(f"growth-{shape.name}")
    with run_echelon(session.resources, folder, shape, datastore=filled.urls[shape.name, size]) as echelon:
        echelon.run_fan_out(200)
        seconds = statistics.median(echelon.run_fan_out(FAN_OUT) for _ in range(REPEATS))
        for _ in range(_PAGE):
            # A page is full even without finished tasks, as with a million.
            echelon.rest.wait_completed(echelon.rest.submit_job("single"))
        newest = echelon.rest.get_page("/jobs?type=fan_out&limit=1")["items"][0]["job_id"]
        figures = {
            "rate": (FAN_OUT + 2) / seconds,
            "jobs_ms": _time_page(echelon.rest, f"/jobs?limit={_PAGE}"),
            "completed_ms": _time_page(echelon.rest, f"/jobs?state=COMPLETED&limit={_PAGE}"),
            "tasks_ms": _time_page(echelon.rest, f"/jobs/{newest}/tasks?limit={_PAGE}"),
        }
    session.keep_record(Record(GROWTH, shape.name, size, round_, figures))


def _time_page(rest: Rest, path: str) -> float:
    """Return the median milliseconds of a request for a page."""
    seen = []
    for _ in range(_PAGES):
        begun = time.perf_counter()
        rest.get_page(path)
        seen.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(seen)
