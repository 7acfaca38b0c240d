"""Schemas: what the migrations make, what is refused, and that no hot statement walks through a table."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, event

from echelon.controller import datastore
from echelon.controller.core.states import State
from echelon.controller.datastore import sqlite
from echelon.controller.datastore.base import MOVE_BACK
from echelon.controller.datastore.claims import CLAIM, CLAIMABLE, CLAIMABLE_IN
from echelon.controller.datastore.errors import SchemaMismatch
from echelon.controller.datastore.filters import JobFilter, TaskFilter
from echelon.controller.datastore.job_views import select_jobs
from echelon.controller.datastore.open import migrate_datastore, open_datastore
from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.reader import Reader
from echelon.controller.datastore.secrets import LOST_SECRET
from echelon.controller.datastore.tables import metadata
from echelon.shared.errors import InvalidInput, StoreUnavailable
from tests.contract.older import leave_first_store
from tests.contract.stores import fan_out, plain_job, submitted

STATEMENTS = {
    name: statement
    for path in sorted(Path(datastore.__path__[0]).glob("*.py"))
    for name, statement in vars(importlib.import_module(f"{datastore.__name__}.{path.stem}")).items()
    if isinstance(statement, Prepared)
}
#: A walk through a whole table that grows for ever; through a partial index it is not.
WALK = re.compile(r"SCAN (tasks|stages|jobs|job_inputs|attempts|events|workers)\b(?! USING)")


@pytest.mark.parametrize("older", [False, True])
def test_the_migrations_make_the_tables_that_the_code_uses(store_url: str, older: bool) -> None:
    if older:
        leave_first_store(store_url, token="sealed")
    migrate_datastore(store_url)
    engine = create_engine(store_url.replace("postgresql://", "postgresql+psycopg://"))

    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()

    assert [item for item in differences if item[0] != "remove_table" or item[1].name != "alembic_version"] == []


def test_a_migration_may_be_run_again(store_url: str) -> None:
    assert migrate_datastore(store_url) == migrate_datastore(store_url)
    open_datastore(store_url).close()


def test_a_newer_schema_is_refused_and_left_alone(store_url: str) -> None:
    migrate_datastore(store_url)
    set_schema(store_url, "9999")

    with pytest.raises(SchemaMismatch, match="newer"):
        open_datastore(store_url)
    with pytest.raises(SchemaMismatch, match="newer"):
        migrate_datastore(store_url)


@pytest.mark.server
def test_postgresql_without_our_schema_names_the_remedy(postgresql_url: str) -> None:
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("DROP TABLE alembic_version")

    with pytest.raises(SchemaMismatch, match="echelon migrate"):
        open_datastore(postgresql_url)


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://x/y", "sqlite://", "sqlite:///:memory:", "postgresql://h:x/"])
def test_a_url_that_names_no_datastore_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        open_datastore(url)


def test_a_server_that_is_not_there_is_unavailable_and_its_password_is_not_shown() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        open_datastore("postgresql://echelon:geheim@127.0.0.1:1/echelon")

    assert "geheim" not in str(caught.value)


def test_a_place_that_cannot_hold_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnavailable):
        open_datastore(f"sqlite:///{tmp_path}/file/echelon.db")


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but somebody's notes" * 100)

    with pytest.raises(StoreUnavailable):
        open_datastore(f"sqlite:///{tmp_path}/notes.txt")

    assert (tmp_path / "notes.txt").read_text().startswith("not a database")


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_has_its_text_for_each_driver(name: str) -> None:
    statement = STATEMENTS[name]

    assert statement.sqlite.count("?") == len(statement.parameters)
    assert statement.postgresql.count("%s") == len(statement.parameters)


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_write_walks_through_a_table(filled: Connection, name: str) -> None:
    statement = STATEMENTS[name]

    plan = explained(filled, statement.sqlite, (None,) * len(statement.parameters))

    assert not WALK.search(plan), plan


def test_claims_are_read_from_the_index_of_queued_tasks(filled: Connection) -> None:
    plan = explained(filled, CLAIM.sqlite, (None,) * len(CLAIM.parameters))

    assert "USING INDEX tasks_queued (stage=? AND idx>? AND idx<?)" in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (CLAIMABLE, "SEARCH stages USING INDEX stages_ready (claim_rank<?)"),
        (CLAIMABLE_IN, "SEARCH stages USING INDEX stages_ready_by_queue (claim_queue=? AND claim_rank<?)"),
        (MOVE_BACK, "SEARCH line USING INDEX stages_ready (claim_rank=?)"),
    ],
)
def test_places_are_read_from_the_indexes_of_stages_in_line(
    filled: Connection, statement: Prepared, found: str
) -> None:
    plan = explained(filled, statement.sqlite, (None,) * len(statement.parameters))

    assert found in plan
    assert "TEMP B-TREE" not in plan


def test_a_lost_secret_is_read_from_the_index_of_sealed_tasks(filled: Connection) -> None:
    plan = explained(filled, LOST_SECRET.sqlite, (None,) * 4)

    assert "USING INDEX tasks_sealed (stage=? AND seal_number<?)" in plan
    assert "TEMP B-TREE" not in plan


def test_no_page_walks_through_the_tasks_or_sorts_them(filled: Connection) -> None:
    seen: list[tuple[str, Any]] = []

    def note(_c: object, _k: object, statement: str, parameters: Any, _x: object, _m: object) -> None:
        seen.append((statement, parameters))

    job_id = filled.exec_driver_sql("SELECT job_id FROM jobs WHERE type = 'fan_out'").scalar_one()
    reader = Reader(filled, lambda: 0.0)
    event.listen(filled, "before_cursor_execute", note)
    page = reader.list_tasks(job_id, TaskFilter(), limit=2, cursor=None)
    reader.list_tasks(job_id, TaskFilter(stage=0, states=(State.FAILED,)), limit=2, cursor=page.next_cursor)
    reader.list_jobs(JobFilter(states=(State.RUNNING,)), limit=2, cursor=None)
    reader.list_jobs(JobFilter(type="plain"), limit=2, cursor=None)
    reader.find_job(job_id)
    reader.find_task_at(job_id, 0, 1)
    reader.find_next_due(job_id, 0)
    reader.find_first_paused(job_id, 0)
    reader.list_attempts(page.items[0].task_id)
    reader.list_attempts_since(job_id, after=0, limit=2)
    reader.list_running(job_id, limit=2)
    reader.list_failures(job_id, limit=2)
    reader.list_events(job_id, limit=2, cursor=None)
    reader.find_by_prefix("a", limit=2)
    reader.count_queues()
    reader.count_open_jobs(limit=2)
    reader.count_states()
    event.remove(filled, "before_cursor_execute", note)

    assert len(seen) > 15
    for statement, parameters in seen:
        plan = explained(filled, statement, parameters)
        assert not WALK.search(plan), f"{statement}\n{plan}"
        if "tasks.state = 'FAILED' AND" in statement:
            assert "tasks_failed" in plan


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (JobFilter(states=(State.RUNNING,), created_before=5.0), r"jobs_by_state \(state=\? AND created_at<\?\)"),
        (JobFilter(oldest_first=True, created_after=5.0), r"jobs_by_time \(created_at>\?\)"),
        (JobFilter(type="plain", created_after=5.0), r"jobs_by_type \(type=\? AND state=\? AND created_at>\?\)"),
        (JobFilter(states=(State.RUNNING,), type="plain", updated_after=5.0), r"jobs_by_update \(updated_at>\?\)"),
    ],
)
def test_a_list_of_jobs_reads_the_index_of_its_filter(filled: Connection, wanted: JobFilter, index: str) -> None:
    query = select_jobs(wanted, 51).compile(dialect=filled.dialect, compile_kwargs={"literal_binds": True})

    plan = explained(filled, str(query), ())

    assert re.search(f"SEARCH jobs USING (COVERING )?INDEX {index}", plan), plan
    assert "SCAN jobs" not in plan


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Connection]:
    """Give a connection to an SQLite datastore with a few jobs in it."""
    path = tmp_path / "echelon.db"
    store = open_datastore(f"sqlite:///{path}")
    fan_out(store, 20)
    for _ in range(5):
        submitted(store, plain_job(stages=2))
    store.close()
    engine = create_engine("sqlite://", creator=lambda: sqlite.open_connection(str(path)))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def explained(connection: Connection, statement: str, parameters: Any) -> str:
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", tuple(parameters)).all()
    return "\n".join(str(row[3]) for row in rows)


def set_schema(url: str, name: str) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{name}'")
    engine.dispose()
