"""How PostgreSQL finds rows whose keys are known: by their keys, however long the line is that they stand in."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from psycopg.sql import Literal
from sqlalchemy.dialects import postgresql

from echelon.controller.core.states import State
from echelon.controller.datastore import base, claims
from echelon.controller.datastore.cursors import cursor_after, encode_time
from echelon.controller.datastore.filters import JobFilter
from echelon.controller.datastore.job_views import select_jobs
from echelon.controller.datastore.open import open_datastore
from echelon.controller.datastore.postgresql import _PLANS
from echelon.controller.datastore.prepared import Prepared
from tests.contract.stores import WORKER, fan_out, plain_job, submitted

pytestmark = pytest.mark.server

_CLAIM = (1, 0.0, 1, 0, 1 << 27, 0, 9, 50)
#: A walk through an index: a node that reads it and has no condition on it.
_WALK = re.compile(
    r"using (tasks_\w+) on tasks\b[^\n]*\n(?!\s+Index Cond)|Bitmap Index Scan on (tasks_\w+)[^\n]*\n(?!\s+Index Cond)"
)


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize("name", ["CLAIM", "RENEW", "RENEWABLE"])
def test_no_index_of_a_state_is_walked_through_for_rows_that_are_known(
    postgresql_url: str, name: str, analysed: bool
) -> None:
    store = open_datastore(postgresql_url)
    # A statement is planned while there are few tasks, and its plan is kept when there are many.
    job_id = fan_out(store, 3_000 if analysed else 3)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        claimed = tx.claim_tasks(job_id, 0, spawn=False, count=2, worker=WORKER, lease=60.0)
        keys = [task.key for task in tx.load_tasks([task.task_id for task in claimed])]
    store.close()

    with psycopg.connect(postgresql_url, options=_PLANS, autocommit=True) as connection:
        if analysed:
            connection.execute("VACUUM ANALYZE tasks")
        given = {"CLAIM": _CLAIM, "RENEW": (0.0, keys, 1), "RENEWABLE": (1, [task.task_id for task in claimed])}
        plan = kept_plan(connection, getattr(claims, name).postgresql, given[name])

    assert not _WALK.search(plan), plan


@pytest.mark.parametrize(
    ("statement", "given", "found"),
    [
        (claims.CLAIMABLE, (0, 64), r"Limit.*using stages_ready on stages"),
        (
            claims.CLAIMABLE_IN,
            (0, "default", 64),
            r"Limit.*using stages_ready_by_queue on stages.*Index Cond: \(\(claim_queue.*claim_rank",
        ),
        (base.MOVE_BACK, (0, 1, 1), r"Limit.*Backward using stages_ready on stages line.*Index Cond: \(\(claim_rank"),
    ],
)
def test_places_are_read_from_the_indexes_of_stages_in_line(
    postgresql_url: str, statement: Prepared, given: Sequence[object], found: str
) -> None:
    store = open_datastore(postgresql_url)
    submitted(store, plain_job())
    store.close()

    with psycopg.connect(postgresql_url, options=_PLANS, autocommit=True) as connection:
        plan = kept_plan(connection, statement.postgresql, given)

    assert re.search(found, plan, re.DOTALL), plan
    assert "Sort" not in plan


WANTED = [
    (JobFilter(), r"jobs_by_time"),
    (JobFilter(oldest_first=True, created_after=5.0), r"jobs_by_time .*Index Cond: [^\n]*created_at >="),
    (JobFilter(states=(State.FAILED, State.CANCELLED)), r"jobs_by_state .*Index Cond: [^\n]*state = .*jobs_by_state "),
    (JobFilter(states=(State.FAILED,), created_before=5.0), r"jobs_by_state .*Index Cond: [^\n]*created_at <"),
    (JobFilter(type="t"), r"jobs_by_type .*Index Cond: [^\n]*type = [^\n]*state ="),
    (JobFilter(states=(State.COMPLETED,), updated_after=1990.0), r"jobs_by_update .*Index Cond: [^\n]*updated_at >="),
]


#: One in 50 has failed.
MANY_JOBS = """
    INSERT INTO jobs (key, job_id, type, state, stage_count, etag, created_at, updated_at)
    SELECT n, n, 't', CASE WHEN n % 50 = 0 THEN 'FAILED' ELSE 'COMPLETED' END, 1, 1, n, n
    FROM generate_series(1, 2000) n
"""


@pytest.mark.parametrize("page", [1, 2])
@pytest.mark.parametrize(("wanted", "found"), WANTED)
def test_a_list_of_jobs_reads_the_index_of_its_filter(
    postgresql_url: str, wanted: JobFilter, found: str, page: int
) -> None:
    open_datastore(postgresql_url).close()
    query = select_jobs(wanted, 51, cursor_after("jobs", encode_time(9.0), 7) if page == 2 else None)
    text = query.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})

    with psycopg.connect(postgresql_url, options=_PLANS, autocommit=True) as connection:
        connection.execute(MANY_JOBS)
        connection.execute("ANALYZE jobs")
        rows = connection.execute(f"EXPLAIN {text}".encode()).fetchall()
    plan = "\n".join(str(row[0]) for row in rows)

    assert re.search(found, plan, re.DOTALL), plan
    assert "Seq Scan on jobs" not in plan
    if page == 2 and wanted.updated_after is None:
        assert re.search(r"Index Cond: [^\n]*ROW\(", plan), plan


def kept_plan(connection: psycopg.Connection[Any], statement: str, given: Sequence[object]) -> str:
    """Return the plan that a prepared statement keeps: made for any values, not for those that are given."""
    count = itertools.count(1)
    numbered = re.sub("%s", lambda _: f"${next(count)}", statement)
    connection.execute(f"PREPARE prepared AS {numbered}".encode())
    values = ", ".join(Literal(value).as_string(connection) for value in given)
    rows = connection.execute(f"EXPLAIN EXECUTE prepared ({values})".encode()).fetchall()
    return "\n".join(str(row[0]) for row in rows)
