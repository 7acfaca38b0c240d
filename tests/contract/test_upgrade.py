"""A store of each schema that there ever was is brought up to date at its opening, and its jobs are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from echelon.controller.datastore import migrate as migrating
from echelon.controller.datastore.filters import JobFilter, TaskFilter
from echelon.controller.datastore.migrate import HEAD
from echelon.controller.datastore.open import open_datastore
from tests.contract.older import BEGUN, CANCELLED, FAILED, HALFWAY, leave_first_store

MIGRATIONS = Path(migrating.__file__).parent / "migrations"
SCHEMAS = sorted(path.name[:4] for path in (MIGRATIONS / "versions").glob("0*.py"))


def bring_to(url: str, schema: str) -> None:
    """Bring a store up to an earlier schema, as the release of that time did."""
    engine = create_engine(url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, schema)
    engine.dispose()


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_store_of_each_release_opens_and_has_its_jobs(tmp_path: Path, schema: str) -> None:
    url = f"sqlite:///{tmp_path}/echelon.db"
    leave_first_store(url, token="sealed")
    bring_to(url, schema)

    store = open_datastore(url)
    try:
        with store.read() as reader:
            jobs = reader.list_jobs(JobFilter(), limit=10, cursor=None).items
            tasks = reader.list_tasks(HALFWAY, TaskFilter(), limit=100, cursor=None).items
        assert {job.job_id for job in jobs} == {BEGUN, HALFWAY, FAILED, CANCELLED}
        assert len(tasks) >= 4
    finally:
        store.close()


def test_the_newest_schema_is_the_one_that_this_release_needs() -> None:
    assert SCHEMAS[-1] == HEAD
