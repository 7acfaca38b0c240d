"""Schemas: check which one a database has, and migrate it to this release's."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from echelon.controller.datastore.errors import SchemaMismatch

#: The schema of this release: the last script in migrations/versions.
HEAD = "0017"


def read_revision(connection: Connection) -> str | None:
    """Return a database's schema; None if it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def require_schema(connection: Connection) -> None:
    """Raise SchemaMismatch unless the database has the schema of this release."""
    found = read_revision(connection)
    if found == HEAD:
        return
    if found is None or found in _known_revisions():
        raise SchemaMismatch(
            f"the datastore's schema is {found or 'not there yet'}, this release needs {HEAD}: run `echelon migrate`"
        )
    raise _newer_schema(found)


def upgrade_schema(connection: Connection) -> str:
    """Migrate the database within the connection's open transaction; return the schema's name."""
    found = read_revision(connection)
    if found == HEAD:
        return HEAD
    if found is not None and found not in _known_revisions():
        raise _newer_schema(found)
    # Alembic takes a tenth of a second to import: only a migration pays for it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return HEAD


def _known_revisions() -> frozenset[str]:
    """Return the schemas that this release can start from."""
    versions = Path(__file__).parent / "migrations" / "versions"
    return frozenset(file.name.split("_")[0] for file in versions.glob("[0-9]*.py"))


def _newer_schema(found: str) -> SchemaMismatch:
    return SchemaMismatch(
        f"the datastore has schema {found}, made by a newer release than this one (which knows up to {HEAD}):"
        " use that release; `echelon migrate` cannot go back"
    )
