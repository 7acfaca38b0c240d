"""What one call does to the tasks of a stage takes the same statements for a thousand of them as for ten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.verbs import CALLS
from echelon.controller.datastore.postgresql import PostgresqlSession
from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.sqlite import SqliteSession
from tests.api.live import CATALOGUE, done
from tests.api.stand import Stand

FEW, MANY = 10, 1_000
#: How often a call changes tasks: what runs by itself, for its workers are told; all others at once. What opens again
#: is put off where something of its last attempt may be there.
CHANGES = {
    "pause": 1, "resume": 1, "cancel": 2, "retry": 2, "skip": 2, "retry_all": 2, "cancel_job": 2, "retry_job": 2,
    "skip_job": 2,
}  # fmt: skip


class Counted:
    """Counts the statements that go to a database; those of one call as often as they have rows of parameters."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: Counter[str] = Counter()
        for session in (SqliteSession, PostgresqlSession):
            for name in ("fetch_rows", "send_rows", "send_guarded"):
                monkeypatch.setattr(session, name, self._counting(name, getattr(session, name)))

    def _counting(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def counting(session: object, statement: Prepared, *parameters: Any, **more: Any) -> Any:
            rows = len(parameters[0]) if name == "send_guarded" else len(parameters) if name == "send_rows" else 1
            self.seen[statement.sqlite] += rows
            return method(session, statement, *parameters, **more)

        return counting


def in_line(stand: Stand, count: int) -> str:
    """Return a job with so many tasks that could start, and nobody who would start them."""
    job_id = str(done(stand, "/jobs", {"type": "growing"})["job_id"])
    stand.turn()
    done(stand, f"/jobs/{job_id}/stages/0/tasks", [{"url": "u"}] * (count + 1))
    done(stand, f"/jobs/{job_id}/stages/0/resume")
    stand.turn()
    assert stand.get(f"/jobs/{job_id}/stages/0")["counts"]["QUEUED"] == count + 1
    return job_id


def statements(stand: Stand, counted: Counted, count: int) -> dict[str, Counter[str]]:
    """Return what every call sends to the database."""
    job_id = in_line(stand, count)
    found = {}
    for call, (path, query) in CALLS.items():
        counted.seen.clear()
        answer = done(stand, f"/jobs/{job_id}{path}{query.format(last=count)}")
        assert answer["changed"]["tasks"] >= count, (call, answer)
        found[call] = Counter(counted.seen)
    return found


def test_a_call_takes_the_same_statements_however_many_tasks_it_is_for(
    tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = "      growing: {stages: [{name: Held, task_class: fetch, tasks: open, paused: true}]}\n"
    stand = Stand(tmp_path, catalogue=CATALOGUE + growing, datastore=store_url)
    try:
        counted = Counted(monkeypatch)

        few, many = (statements(stand, counted, count) for count in (FEW, MANY))

        assert few == many
        changes = {
            call: sum(count for text, count in seen.items() if text.startswith("UPDATE tasks"))
            for call, seen in many.items()
        }
        assert changes == CHANGES
        assert max(sum(seen.values()) for seen in many.values()) <= 12
    finally:
        stand.close()
