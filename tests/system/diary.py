"""A diary of every change of a state, written by triggers in the very transactions that make the changes."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg
from sqlalchemy.engine import make_url

from tests.simulation.store import DIARY as SQLITE_DIARY

#: Functions of the simulation's store -> what stands for them here. A process cannot tell which transaction it is.
_REAL = {"now()": "((julianday('now') - 2440587.5) * 86400.0)", "skew()": "0.0", "turn()": "NULL"}
_POSTGRESQL = """
CREATE TABLE diary (
    seq BIGSERIAL PRIMARY KEY, at DOUBLE PRECISION, kind TEXT, key BIGINT, before TEXT, after TEXT,
    attempt INTEGER, worker INTEGER, lease_until DOUBLE PRECISION, started_at DOUBLE PRECISION
);
CREATE FUNCTION diary_state() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO diary (at, kind, key, before, after)
    VALUES (extract(epoch FROM clock_timestamp()), TG_ARGV[0], NEW.key, OLD.state, NEW.state);
    RETURN NULL;
END $$;
CREATE FUNCTION diary_task() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO diary (at, kind, key, before, after, attempt, worker, lease_until, started_at)
    VALUES (extract(epoch FROM clock_timestamp()), 'task', NEW.key, OLD.state, NEW.state, NEW.attempt, NEW.worker,
        NEW.lease_until, NEW.started_at);
    RETURN NULL;
END $$;
CREATE FUNCTION diary_new() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO diary (at, kind, key, before, after)
    VALUES (extract(epoch FROM clock_timestamp()), 'task', NEW.key, NULL, NEW.state);
    RETURN NULL;
END $$;
CREATE TRIGGER diary_jobs AFTER UPDATE OF state ON jobs FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION diary_state('job');
CREATE TRIGGER diary_stages AFTER UPDATE OF state ON stages FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION diary_state('stage');
CREATE TRIGGER diary_tasks AFTER UPDATE OF state, attempt, lease_until, started_at ON tasks FOR EACH ROW
    WHEN (OLD.state <> NEW.state OR OLD.attempt <> NEW.attempt OR OLD.lease_until IS DISTINCT FROM NEW.lease_until
        OR OLD.started_at IS DISTINCT FROM NEW.started_at)
    EXECUTE FUNCTION diary_task();
CREATE TRIGGER diary_new_tasks AFTER INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION diary_new();
"""


def keep_diary(url: str) -> None:
    """Make a database that has just been migrated keep a diary."""
    if url.startswith("postgresql"):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_POSTGRESQL.encode())
        return
    script = SQLITE_DIARY
    for function, real in _REAL.items():
        script = script.replace(function, real)
    with closing(sqlite3.connect(make_url(url).database or "")) as connection:
        connection.executescript(script)
