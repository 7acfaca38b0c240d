"""A catalogue of tasks with folders of their own, and the files that their attempts leave."""

from __future__ import annotations

from pathlib import Path

from echelon.shared.ids import JobId
from echelon.shared.messages import Grant, GrantedTask
from echelon.shared.volume import attempt_name
from tests.engine.house import House, Puppet

CATALOGUE = """
    tasks:
      make: {exec_command: "true", workdir: task}
      step: {exec_command: "true"}
      list: {exec_command: "true", workdir: task}
    jobs:
      one: {stages: [{name: Make, task_class: make}]}
      two: {stages: [{name: Make, task_class: make}, {name: Use, task_class: step}]}
      many: {stages: [{name: Make, spawn_task: list, task_class: step}]}
      plain: {stages: [{name: One, task_class: step}, {name: Two, task_class: step}]}
"""

Held = tuple[Grant, GrantedTask]


def leave(house: House, held: Held, **files: str) -> None:
    """Leave files in an attempt's folder, as its process would."""
    grant, task = held
    house.volume.prepare_workspace(grant.job_id, grant.revision)
    folder = house.volume.prepare_attempt(
        attempt_name(grant.job_id, grant.stage, task.index, task.attempt), grant.revision
    )
    for name, text in files.items():
        Path(folder, name).write_text(text)


def seen(house: House, job_id: JobId) -> dict[str, str]:
    """Return the files in a job's workspace."""
    found = {}
    for artefact in house.volume.list_artefacts(job_id, limit=100):
        with house.volume.open_artefact(job_id, artefact.path).file as file:
            found[artefact.path] = file.read().decode()
    return found


def began(house: House, puppet: Puppet, type_: str, **files: str) -> tuple[JobId, Held]:
    """Submit a job and let the first attempt leave files."""
    job_id = house.submit(type_)
    held = puppet.take()
    leave(house, held, **files)
    return job_id, held
