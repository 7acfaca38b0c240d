"""RUNNING means a process: no figure shows more tasks running than slots, and attempts are counted by starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import Standalone, until

pytestmark = pytest.mark.slow

SLOTS = 2
CATALOGUE = """
tasks:
  list:
    input: {count: {source: parameter, type: integer}}
    exec_command: python3
    exec_args: [-c, "import json,os,sys; json.dump([{'n': n} for n in range(int(sys.argv[1]))],
      open(os.environ['ECHELON_SPAWN_FILE'], 'w'))", "{count}"]
  nothing: {input: {n: {source: parameter, type: integer}}, exec_command: "true"}
  wait:
    input: {n: {source: parameter, type: integer}}
    exec_command: sh
    exec_args: [-c, 'echo "$1 $ECHELON_ATTEMPT" >> marks; while [ ! -e go ]; do sleep 0.05; done', sh, "{n}"]
jobs:
  short:
    input: {count: {source: parameter, type: integer}}
    stages: [{name: Short, spawn_task: list, task_class: nothing}]
  long:
    input: {count: {source: parameter, type: integer}}
    stages: [{name: Long, spawn_task: list, task_class: wait}]
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Standalone]:
    with Standalone(tmp_path, CATALOGUE, "--slots", str(SLOTS)) as engine:
        yield engine


def read_marks(engine: Standalone, job_id: str) -> list[tuple[int, int]]:
    """Return the (index, attempt) of every process, in the order of their starts."""
    marks = engine.volume / "jobs" / job_id / "work" / "marks"
    lines = marks.read_text().split("\n")[:-1] if marks.exists() else []
    return [(int(index), int(attempt)) for index, attempt in map(str.split, lines)]


def count_running(engine: Standalone, job_id: str) -> int:
    """Look at every figure of what runs; return the largest."""
    client = engine.client
    (worker,) = client.list_workers()
    figures = [
        sum(task["state"] == "RUNNING" for task in client.list_tasks(job_id)),
        *(stage["counts"]["RUNNING"] for stage in client.get_job(job_id)["stages"]),
        *(queue["running"] for queue in client.list_queues()),
        worker["running"],
        len(worker["attempts"]),
    ]
    return max(figures)


def submit_after_short_tasks(engine: Standalone) -> str:
    """Let a worker learn that tasks are short, so that it is given many ahead; then submit tasks that are long."""
    assert engine.ended(engine.client.submit_job("short", input={"count": 300})["job_id"]) == "COMPLETED"
    return str(engine.client.submit_job("long", input={"count": 12})["job_id"])


def test_no_figure_shows_more_tasks_running_than_slots_and_a_kill_ends_what_has_a_process(engine: Standalone) -> None:
    job_id = submit_after_short_tasks(engine)
    seen = []

    def look(enough: int) -> bool:
        seen.append(count_running(engine, job_id))
        return seen[-1] >= enough and len(read_marks(engine, job_id)) >= enough

    until(lambda: look(SLOTS), "as many run as there are slots")
    killed = engine.client.kill_job(job_id)["changed"]["tasks"]

    assert engine.ended(job_id) == "FAILED"
    ran = {index for index, _ in read_marks(engine, job_id)}
    tasks = list(engine.client.list_tasks(job_id, stage=0))[1:]
    assert max(seen) == SLOTS == killed
    assert {task["index"] for task in tasks if task["state"] == "FAILED"} == ran
    assert {(task["state"], task["attempt"]) for task in tasks if task["index"] not in ran} == {("CANCELLED", 0)}
    kinds = [event["kind"] for event in engine.client.list_events(job_id)]
    assert kinds.count("task_failed") == SLOTS and "attempt_failed" not in kinds


def test_the_first_start_is_attempt_1_and_no_number_comes_twice_although_the_engine_is_killed(
    engine: Standalone,
) -> None:
    job_id = submit_after_short_tasks(engine)
    for life in range(1, 3):
        until(lambda life=life: len(read_marks(engine, job_id)) >= life * SLOTS, "a life runs some")  # type: ignore[misc]
        engine.kill()
        engine.start()
    (engine.volume / "jobs" / job_id / "work" / "go").touch()

    assert engine.ended(job_id) == "COMPLETED"
    marks = read_marks(engine, job_id)
    numbers = {index: [attempt for one, attempt in marks if one == index] for index in range(12)}
    assert all(given == list(range(1, len(given) + 1)) for given in numbers.values()), numbers
    told = {task["index"]: task["attempt"] for task in engine.client.list_tasks(job_id, stage=0) if not task["spawn"]}
    assert told == {index: len(given) for index, given in numbers.items()}
