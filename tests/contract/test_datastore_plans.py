"""How PostgreSQL finds rows whose keys are known: by their keys, however long the line is that they stand in."""

from __future__ import annotations

import re

import psycopg
import pytest

from controller.datastore import statements_tasks as sql
from controller.datastore.open import open_datastore
from controller.datastore.postgresql import _PLANS
from tests.contract.stores import WORKER, fan_out

pytestmark = pytest.mark.server

_CLAIM = (1, 0.0, 0.0, 1, 0, 1 << 27, 0, 9, 50)
#: A walk through an index: a node that reads it and has no condition on it.
_WALK = re.compile(
    r"using (tasks_\w+) on tasks\b[^\n]*\n(?!\s+Index Cond)|Bitmap Index Scan on (tasks_\w+)[^\n]*\n(?!\s+Index Cond)"
)


@pytest.mark.parametrize("count", [3, 3_000])
@pytest.mark.parametrize("name", ["CLAIM", "RENEW", "RENEWABLE"])
def test_no_index_of_a_state_is_walked_through_for_rows_that_are_known(
    postgresql_url: str, name: str, count: int
) -> None:
    store = open_datastore(postgresql_url)
    job_id = fan_out(store, count)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        claimed = tx.claim(job_id, 0, spawn=False, count=2, worker=WORKER, lease=60.0)
        keys = [task.key for task in tx.held([task.task_id for task in claimed])]
    store.close()

    with psycopg.connect(postgresql_url, options=_PLANS) as connection:
        plan = explained(connection, name, keys, [str(task.task_id) for task in claimed])

    assert not _WALK.search(plan), plan


def explained(connection: psycopg.Connection, name: str, keys: list[int], task_ids: list[str]) -> str:
    """Return the plan of a statement as a prepared one has it."""
    parameters = {"CLAIM": _CLAIM, "RENEW": (0.0, keys, 1), "RENEWABLE": (1, task_ids)}[name]
    rows = connection.execute(f"EXPLAIN {getattr(sql, name).postgresql}".encode(), parameters).fetchall()
    return "\n".join(str(row[0]) for row in rows)
