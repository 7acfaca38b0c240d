"""What a task makes of the checked items of a spawn task is its own job's loss, and holds up no other job."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from echelon.controller.core.states import State
from echelon.shared.messages import Finished, Outcome
from tests.engine.house import House, Puppet

CATALOGUE = """
    tasks:
      list: {exec_command: "true"}
      say: {exec_command: "true", input: {text: {source: parameter}}}
    jobs:
      fan:
        stages:
        - {name: Say, spawn_task: list, task_class: say, job_failed_on_error: false}
"""

Spoil = Callable[[Path], None]


def _replace(content: bytes) -> Spoil:
    return lambda file: (file.write_bytes(content), None)[1]


def _link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/etc/passwd")


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _move(file: Path) -> None:
    job = file.parents[3]
    job.rename(job.with_name("elsewhere"))


def _huge(file: Path) -> None:
    os.truncate(file, 0)
    os.truncate(file, 1 << 40)


SPOILT: dict[str, Spoil] = {
    "gone": Path.unlink,
    "a link": _link,
    "a fifo": _fifo,
    "moved with its job": _move,
    "a line without end": _huge,
    "empty": _replace(b""),
    "not JSON": _replace(b"{\n"),
    "not UTF-8": _replace(b'{"text": "\xff"}\n'),
    "no object": _replace(b"[1]\n"),
    "a NUL": _replace(b'{"text": "\\u0000"}\n'),
    "half a surrogate pair": _replace(b'{"text": "\\ud800"}\n'),
    "a number without end": _replace(b'{"text": 1' + b"0" * 5000 + b"}\n"),
    "a reason that no store takes": _replace(b'"\\u0000 \\ud800 \\u001b[31m"\n'),
    "infinite": _replace(b'{"text": 1e999}\n'),
    "deep": _replace(b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"),
    "another's seal": _replace(json.dumps({"text": "sealed:x"}).encode() + b"\n"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_spoilt_items_fail_their_own_stage_and_nothing_else(tmp_path: Path, spoilt: str) -> None:
    house = House(tmp_path, CATALOGUE)
    puppet = Puppet(house, room={"*": 1})
    first, second = house.submit("fan"), house.submit("fan")
    puppet.room = {"*": 2}
    puppet.heartbeat()
    puppet.room = {}
    ends = []
    for grant, task in (puppet.take(), puppet.take()):
        spawned = puppet._spawn(grant, task, [{"text": "a"}, {"text": "b"}])
        if grant.job_id == first:
            SPOILT[spoilt](tmp_path / "volume" / spawned.path)
        ends.append(Finished(grant.job_id, task.task_id, task.attempt, Outcome.COMPLETED, spawned=spawned))
    puppet.report(finished=tuple(ends), room={})

    house.turn()
    assert [task.state for task in house.tasks(second) if task.index >= 0] == [State.QUEUED, State.QUEUED]

    # A network mount may be late: what is gone is looked for a while.
    house.clock.pass_(61)
    house.turn(6)
    made = [task for task in house.tasks(first) if task.index >= 0]
    assert len(made) == 2
    assert all(task.state is State.FAILED and task.error for task in made[1:])
    puppet.room = {"*": 10}
    puppet.heartbeat()
    puppet.run_all()
    assert house.view(second).state is State.COMPLETED
    house.close()
