"""A backup of a running engine, made and restored with the commands of docs/how-to/back-up-and-restore.md."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.system.process import Standalone, until

PAGE = Path(__file__).parents[2] / "docs/how-to/back-up-and-restore.md"
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
CATALOGUE = """
tasks:
  say: {exec_command: sh, exec_args: ["-c", "echo said; echo kept > kept.txt"]}
  wait: {exec_command: sh, exec_args: ["-c", "while [ ! -e GO ]; do sleep 0.1; done; echo gone on > end.txt"]}
jobs:
  say: {stages: [{name: Say, task_class: say}]}
  wait: {stages: [{name: Wait, task_class: wait}]}
"""


def call(commands: str, volume: Path, backup: Path) -> None:
    """Run commands of the document, on these folders."""
    script = commands.replace("/srv/echelon", str(volume)).replace("/backup", str(backup))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr


@pytest.mark.slow
def test_a_restored_engine_has_its_jobs_and_finishes_what_ran(tmp_path: Path) -> None:
    first, second, backup = tmp_path / "first", tmp_path / "second", tmp_path / "backup"
    for folder in (first, second, second / "volume", backup):
        folder.mkdir()
    catalogue = CATALOGUE.replace("GO", str(tmp_path / "go"))
    with Standalone(first, catalogue) as engine:
        ended = engine.client.submit_job("say", wait=30.0)["job_id"]
        running = engine.client.submit_job("wait")["job_id"]
        until(lambda: engine.client.get_job(running)["stages"][0]["counts"]["RUNNING"] == 1, "the task runs")
        call(COMMANDS[0], engine.volume, backup)
        later = engine.client.submit_job("say", wait=30.0)["job_id"]
        engine.kill()

    call(COMMANDS[1], second / "volume", backup)
    (tmp_path / "go").touch()
    with Standalone(second, catalogue) as engine:
        assert engine.client.get_job(ended)["state"] == "COMPLETED"
        assert "said" in "".join(engine.client.read_log(ended))
        assert [one["path"] for one in engine.client.list_artefacts(ended)] == ["kept.txt"]
        until(lambda: engine.client.get_job(running)["state"] == "COMPLETED", "the restored job has ended")
        assert "end.txt" in [one["path"] for one in engine.client.list_artefacts(running)]
        assert later not in [job["job_id"] for job in engine.client.list_jobs()]
        assert engine.client.submit_job("say", wait=30.0)["state"] == "COMPLETED"
