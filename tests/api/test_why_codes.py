"""Each reason that can hold something back, told alike over REST and on the command line, wherever it holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner
from werkzeug.serving import make_server

from echelon.controller import shapes
from echelon.controller.commands.why import why as command
from echelon.controller.engine.why.explanations import Code
from echelon.shared import failpoints
from echelon.shared.failpoints import VARIABLE, FailpointReached, arm_failpoints
from echelon.shared.messages import Outcome, WorkerCard
from tests.api.live import done, spawned, task_of, work
from tests.api.shape import assert_shape
from tests.api.stand import Stand
from tests.engine.house import Puppet, ref


@dataclass(frozen=True, slots=True)
class Held:
    """What is held back, and what is told of it."""

    job_id: str
    #: Stage, index of a task: what a reason is asked for; a job when there is no stage.
    places: tuple[tuple[int | None, int | None], ...]
    sentence: str
    facts: dict[str, object] = field(default_factory=dict)


ALL = ((None, None), (0, None), (0, 0))


def waiting_stage(stand: Stand) -> Held:
    job_id = str(stand.post("open")["job_id"])
    return Held(
        job_id, ((2, None), (2, 0)), "Stage 2 (Last) waits for stage 0 (First), which is RUNNING.", {"stage": 2}
    )


def waiting_files(stand: Stand) -> Held:
    puppet = Puppet(stand)
    job_id = str(stand.post("made")["job_id"])
    puppet.heartbeat()
    arm_failpoints({VARIABLE: "files.before_publish:raise"})
    with pytest.raises(FailpointReached):
        puppet.finish(puppet.take())
    sentence = (
        "Stage 1 (Use) waits for files: those of task 0 of stage 0 (Make) are on their way to the job's workspace."
    )
    return Held(job_id, ((None, None), (1, None), (1, 0)), sentence, {"stage": 1})


def paused_job(stand: Stand) -> Held:
    job_id = str(stand.post("open")["job_id"])
    done(stand, f"/jobs/{job_id}/pause", X_Request_ID="r-1")
    return Held(
        job_id, (*ALL, (2, 0)), "The job is paused by a client that gave no name (request r-1).", {"by": "request r-1"}
    )


def paused_stage(stand: Stand) -> Held:
    job_id = str(stand.post("open")["job_id"])
    done(stand, f"/jobs/{job_id}/stages/0/pause", X_Request_ID="r-1")
    return Held(
        job_id,
        ALL,
        "Stage 0 (First) is paused by a client that gave no name (request r-1).",
        {"by": "request r-1", "stage": 0},
    )


def paused_task(stand: Stand) -> Held:
    job_id = str(stand.post("open")["job_id"])
    task = task_of(stand, job_id)
    done(stand, f"/tasks/{task['task_id']}/pause", X_Request_ID="r-1")
    facts = {"by": "request r-1", "stage": 0, "task_id": task["task_id"], "index": 0}
    return Held(
        job_id, ALL[:2], "Task 0 of stage 0 (First) is paused by a client that gave no name (request r-1).", facts
    )


def paused_task_itself(stand: Stand) -> Held:
    held = paused_task(stand)
    return Held(held.job_id, ((0, 0),), "Task 0 is paused by a client that gave no name (request r-1).", held.facts)


def max_parallel(stand: Stand) -> Held:
    puppet = Puppet(stand)
    job_id = spawned(stand, puppet, 3, "limited")
    work(puppet, 3)
    puppet.take()
    sentence = "As many tasks of stage 0 (Fetch) run as may: 1/1."
    return Held(job_id, ((None, None), (0, None), (0, 2)), sentence, {"running": 1, "limit": 1})


def no_worker_for_queue(stand: Stand) -> Held:
    Puppet(stand, room={"default": 5})
    job_id = str(stand.post("apart")["job_id"])
    sentence = "1 task waits for the queue 'elsewhere', and no worker takes tasks from it."
    return Held(job_id, ALL, sentence, {"queue": "elsewhere", "stage": 0})


def all_slots_busy(stand: Stand) -> Held:
    puppet = Puppet(stand, room={"default": 1})
    stand.post("open")
    puppet.heartbeat()
    card = WorkerCard("puppet", "host", 1, "test", {"default": 1})
    puppet.report(running=(ref(puppet.take()),), room={"default": 0}, card=card)
    job_id = str(stand.post("open")["job_id"])
    sentence = "All slots of the workers for the queue 'default' are busy: 1/1."
    return Held(job_id, ALL, sentence, {"queue": "default", "running": 1, "limit": 1})


def retry_at(stand: Stand) -> Held:
    puppet = Puppet(stand)
    job_id = str(stand.post("flaky")["job_id"])
    puppet.heartbeat()
    puppet.finish(puppet.take(), Outcome.FAILED)
    return Held(job_id, ALL, "Task 0 waits for the time of its attempt 2.", {"stage": 0, "index": 0})


def blocked_by_failure(stand: Stand) -> Held:
    puppet = Puppet(stand)
    job_id = str(stand.post("blocking")["job_id"])
    done(stand, f"/jobs/{job_id}/stages/1/skip")
    puppet.heartbeat()
    puppet.finish(puppet.take(), Outcome.FAILED)
    facts = {"stage": 0, "index": 0, "task_id": task_of(stand, job_id)["task_id"]}
    return Held(job_id, ALL[:2], "Stage 0 (Left) waits for a person: task 0 is FAILED: it failed.", facts)


def broker_down(stand: Stand) -> Held:
    Puppet(stand, room={})
    job_id = str(stand.post("open")["job_id"])
    stand.broker.close(timeout=1.0)
    sentence = "The message broker is away, so no worker can be told to start anything: closed."
    return Held(job_id, ALL, sentence, {"stage": 0})


SITUATIONS: dict[Callable[[Stand], Held], Code] = {
    waiting_stage: Code.WAITING_STAGE,
    waiting_files: Code.WAITING_FILES,
    paused_job: Code.PAUSED,
    paused_stage: Code.PAUSED,
    paused_task: Code.PAUSED,
    paused_task_itself: Code.PAUSED,
    max_parallel: Code.MAX_PARALLEL,
    no_worker_for_queue: Code.NO_WORKER_FOR_QUEUE,
    all_slots_busy: Code.ALL_SLOTS_BUSY,
    retry_at: Code.RETRY_AT,
    blocked_by_failure: Code.BLOCKED_BY_FAILURE,
    broker_down: Code.BROKER_DOWN,
}


@pytest.fixture(autouse=True)
def _disarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a situation arms end with its test."""
    monkeypatch.setattr(failpoints, "_armed", None)


@pytest.fixture
def url(live: Stand) -> Iterator[str]:
    """Give the address at which the stand answers commands."""
    server = make_server("127.0.0.1", 0, live.app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def told_on_the_command_line(url: str, place: str) -> dict[str, Any]:
    called = CliRunner().invoke(command, [place, "--json"], env={"ECHELON_URL": url}, catch_exceptions=False)
    assert called.exit_code == 0, called.output
    found: dict[str, Any] = json.loads(called.stdout)
    return found


def path_of(stand: Stand, held: Held, stage: int | None, index: int | None) -> str:
    if stage is None:
        return f"/jobs/{held.job_id}"
    if index is None:
        return f"/jobs/{held.job_id}/stages/{stage}"
    return f"/tasks/{task_of(stand, held.job_id, stage, index)['task_id']}"


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.__name__)
def test_a_reason_is_told_alike_by_both_for_all_that_it_holds_back(
    live: Stand, url: str, situation: Callable[[Stand], Held]
) -> None:
    held = situation(live)

    for stage, index in held.places:
        place = ".".join(str(part) for part in (held.job_id, stage, index) if part is not None)
        reason = live.get(f"{path_of(live, held, stage, index)}/why")
        said = told_on_the_command_line(url, place)

        assert_shape(reason, shapes.Why)
        assert said == reason
        assert (reason["code"], reason["sentence"]) == (SITUATIONS[situation], held.sentence), place
        assert held.facts.items() <= reason.items()
        now = datetime.now(UTC)
        if reason["code"] == "PAUSED":
            assert now - timedelta(minutes=1) < datetime.fromisoformat(reason["at"]) <= now
        elif reason["code"] == "RETRY_AT":
            assert now < datetime.fromisoformat(reason["at"]) <= now + timedelta(hours=1)


def test_every_code_that_can_hold_something_back_has_a_situation() -> None:
    assert set(SITUATIONS.values()) == set(Code) - {Code.READY, Code.RUNNING, Code.ENDED}
