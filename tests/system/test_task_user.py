"""A standalone whose tasks run as another user: a job, its log and its files as without."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import Standalone

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start tasks as another user"),
]

CATALOGUE = """
tasks:
  list:
    exec_command: sh
    exec_args: [-c, 'echo "[{}, {}]" > "$ECHELON_SPAWN_FILE"']
  own:
    exec_command: sh
    exec_args: [-c, 'id -un; mkdir -p sub; echo made > "sub/$ECHELON_INDEX"; echo kept > "$TMPDIR/x"']
    workdir: task
  forbidden:
    exec_command: sh
    exec_args: [-c, 'cat ../../../.echelon/echelon.db']
jobs:
  own: {stages: [{name: Own, spawn_task: list, task_class: own}]}
  forbidden: {stages: [{name: Forbidden, task_class: forbidden}]}
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that every user can pass through; pytest's own cannot be."""
    made = Path(tempfile.mkdtemp(prefix="echelon-user-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def test_a_job_runs_as_the_user_of_tasks_and_its_log_and_files_are_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHELON_TASK_USER", "nobody")
    with Standalone(folder, CATALOGUE) as engine:
        job_id = str(engine.client.submit_job("own")["job_id"])
        assert engine.ended(job_id) == "COMPLETED", engine.client.get_job(job_id)
        work = engine.volume / "jobs" / job_id / "work"
        assert {path.name: path.owner() for path in (work / "sub").iterdir()} == {"0": "nobody", "1": "nobody"}
        logs = (engine.volume / "jobs" / job_id / "attempts" / "0").glob("*.stdout")
        assert [log.read_text() for log in logs] == ["nobody\n", "nobody\n"]

        job_id = str(engine.client.submit_job("forbidden")["job_id"])
        assert engine.ended(job_id) == "FAILED"
        assert "Permission denied" in str(engine.client.get_job(job_id)["error"])
        engine.client.delete_job(job_id)
        assert not (engine.volume / "jobs" / job_id).exists()
    assert "tasks can call this interface" in engine.log.read_text()
