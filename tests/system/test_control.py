"""Live control on real processes: what is ended is gone soon, with everything that it has started."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.records import TaskView
from echelon.controller.engine.base.requests import Composition
from echelon.controller.settings import Settings
from echelon.controller.standalone import Standalone
from echelon.shared.ids import JobId
from tests.system.process import until

#: Seconds in which a running task hears of its end; the bar of the promise.
BAR = 2.0
SCRIPT = "sleep 300 & echo $! > child.$ECHELON_ATTEMPT; echo $$ > task.$ECHELON_ATTEMPT; wait"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Standalone]:
    """Give an engine with its worker in this process."""
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(textwrap.dedent("tasks: {nothing: {exec_command: 'true'}}"))
    settings = Settings(
        catalogue=(catalogue,), volume=tmp_path / "volume", slots=2, heartbeat=1.0, allow_inline_commands=True
    )
    standalone = Standalone(settings, environ={"PATH": os.environ["PATH"]})
    standalone.start()
    yield standalone
    standalone.kill()
    standalone.stop()


def seconds_until(what: Callable[[], object]) -> float:
    """Wait for something; return how many seconds it took."""
    begun = time.monotonic()
    until(lambda: bool(what()), "it comes")
    return time.monotonic() - begun


def only_task(house: Standalone, job_id: JobId) -> TaskView:
    with house.jobs.store.read() as reader:
        (task,) = reader.list_tasks(job_id, TaskFilter(), limit=2, cursor=None).items
    return task


def processes(house: Standalone, job_id: JobId, attempt: int) -> list[int]:
    """Return the processes that an attempt has told of."""
    folder = Path(house.jobs.volume.root) / "jobs" / job_id / "work"
    files = [folder / f"{name}.{attempt}" for name in ("task", "child")]
    texts = [file.read_text().strip() for file in files if file.exists()]
    return [int(text) for text in texts if text]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(
    ("verb", "state"),
    [
        (Verb.CANCEL, State.CANCELLED),
        (Verb.SKIP, State.SKIPPED),
        (Verb.KILL, State.FAILED),
        (Verb.RETRY, State.RUNNING),
    ],
)
def test_what_runs_is_gone_within_two_seconds_with_all_that_it_has_started(
    house: Standalone, verb: Verb, state: State
) -> None:
    stages = [{"tasks": [{"exec_command": "sh", "exec_args": ["-c", SCRIPT], "grace": "1s"}]}]
    job_id, _ = house.jobs.submit_composition(Composition("mine", stages))
    seconds_until(lambda: len(processes(house, job_id, 1)) == 2)
    seconds_until(lambda: only_task(house, job_id).state is State.RUNNING)

    house.jobs.control.change_task(verb, only_task(house, job_id).task_id)
    took = seconds_until(lambda: all(gone(pid) for pid in processes(house, job_id, 1)))

    assert took < BAR
    if verb is Verb.RETRY:
        seconds_until(lambda: len(processes(house, job_id, 2)) == 2)
    # A start is told a moment after it.
    seconds_until(lambda: only_task(house, job_id).state is state)
