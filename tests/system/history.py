"""Gathers what a run of real processes has left into the records that the simulation's checker judges."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy.engine import make_url

from tests.simulation.history import Entry, History, Life, Run
from tests.system.cluster import Cluster
from tests.system.observer import Seen
from tests.system.people import Diary
from tests.system.process import until
from tests.system.workload import RETRIES, Workload

_TABLES = {
    "jobs": "SELECT * FROM jobs JOIN job_inputs USING (key)",
    "stages": "SELECT * FROM stages",
    "tasks": "SELECT * FROM tasks",
    "attempts": "SELECT * FROM attempts",
    "events": "SELECT * FROM events",
    "diary": "SELECT * FROM diary ORDER BY seq",
    "workers": "SELECT * FROM workers",
    "definitions": "SELECT * FROM definitions",
    "unpublished": "SELECT * FROM unpublished",
}
Rows = list[dict[str, Any]]


def read_tables(url: str) -> dict[str, Rows]:
    """Return all rows of every table."""
    if url.startswith("postgresql"):
        with psycopg.connect(url, row_factory=dict_row) as connection:
            return {name: connection.execute(statement.encode()).fetchall() for name, statement in _TABLES.items()}
    with closing(sqlite3.connect(make_url(url).database or "")) as connection:
        connection.row_factory = sqlite3.Row
        return {name: [dict(row) for row in connection.execute(statement)] for name, statement in _TABLES.items()}


def gather_history(
    cluster: Cluster,
    workload: Workload,
    diary: Diary,
    seen: Seen,
    *,
    calm_from: float,
    ended: float,
    deleted: Collection[str] = (),
) -> History:
    """Return all that is known of a run, but for the jobs that were deleted; moments are Unix times."""
    until(lambda: not read_tables(cluster.database)["unpublished"], "the files of all that counts are published")
    tables = read_tables(cluster.database)
    ids = {row["key"]: row["worker_id"] for row in tables["workers"]}
    editions = {row["revision"]: _find_edition(row["document"]) for row in tables["definitions"]}
    # A job that was deleted has left nothing that its diary could be compared with.
    known = {kind: {row["key"] for row in tables[f"{kind}s"]} for kind in ("job", "stage", "task")}
    entries = [Entry(**row) for row in tables["diary"] if row["key"] in known[row["kind"]]]
    life = _find_holder(tables, entries)
    for row in tables["tasks"]:
        if row["result"]:
            task_id, attempt, mark = row["result"].split("/")
            row["result"] = f"{task_id}/{attempt}/{life(task_id, int(attempt), mark)}"
    runs = [run for run in read_ledger(workload, seen) if run.job_id not in deleted]
    for run in runs:
        run.life = life(run.task_id, run.attempt, run.life)
        run.revision = next((revision for revision, edition in editions.items() if edition == run.edition), "unknown")
    for asked in diary.asked:
        asked.revisions = list(editions)
    files = {str(path): path.read_text() for path in cluster.volume.glob("jobs/*/work/*-*-*") if path.is_file()}
    return History(
        jobs=tables["jobs"], stages=tables["stages"], tasks=tables["tasks"], attempts=tables["attempts"],
        events=tables["events"], workers=ids, diary=entries, ledger=runs, lives=_lives(cluster, seen, ids.values()),
        asked=diary.asked, editions=editions, files=files, calm_from=calm_from, ended=ended,
        late_ledger=True, max_losses=cluster.shape.max_losses, retry_limits=RETRIES,
    )  # fmt: skip


def _find_holder(tables: Mapping[str, Rows], entries: Iterable[Entry]) -> Callable[[str, int, str], str]:
    """Return what tells the life that holds an attempt, when the process that speaks is one of that worker's."""
    names = {row["key"]: f"echelon-{row['name']}-" for row in tables["workers"]}
    ids = {row["key"]: row["worker_id"] for row in tables["workers"]}
    tasks = {row["key"]: row["task_id"] for row in tables["tasks"]}
    holders = {
        (tasks[entry.key], entry.attempt): entry.worker
        for entry in entries
        if entry.kind == "task" and entry.after == "RUNNING" and entry.worker is not None
    }

    def life(task_id: str, attempt: int, mark: str) -> str:
        key = holders.get((task_id, attempt))
        return ids[key] if key is not None and mark.startswith(names[key]) else f"stranger {mark}"

    return life


def _find_edition(document: str) -> str:
    found = re.search(r"edition-\d+", document)
    return found[0] if found else "none"


def read_ledger(workload: Workload, seen: Seen) -> list[Run]:
    """Return the processes of tasks; of one that did not say when it ended, it is the moment it was seen last."""
    runs: dict[tuple[str, int, int], Run] = {}
    for line in workload.ledger.read_text().splitlines():
        kind, at, job_id, task_id, stage, index, claim, number, pid, edition, mark, more = line.split()
        key = task_id, int(claim), int(pid)
        if kind == "start":
            run = Run(
                job_id, task_id, int(stage), int(index), int(claim), int(number), mark, "", edition, "-", float(at)
            )
            run.ended = seen.alive.get(key, run.started)
            runs[key] = run
        else:
            runs[key].ended, runs[key].whole = float(at), True
            runs[key].spawned = int(more) if index == "-1" else None
    return list(runs.values())


def _lives(cluster: Cluster, seen: Seen, known: Iterable[str]) -> dict[str, Life]:
    lives = {
        life.worker_id: Life(
            life.worker_id, worker.name, life.born, life.died, life.pauses, seen.unable, cluster.shape.slots
        )
        for worker in cluster.workers
        for life in worker.lives
        if life.worker_id
    }
    # One that died before anybody saw its id cannot be told from one that stood still.
    unknown = [(0.0, float("inf"))]
    return {one: Life(one, "unknown", 0.0, None, unknown, (), cluster.shape.slots) for one in known} | lives
