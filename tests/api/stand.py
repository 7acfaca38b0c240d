"""The interface on a real engine and store. The engine turns by hand; the worker says what a test says."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from echelon.controller.api.config import ApiSettings
from echelon.controller.app import create_app
from echelon.controller.datastore.open import open_datastore
from echelon.controller.serve import Controller, Outside, watch_catalogue
from echelon.controller.settings import Settings
from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.clock import SystemClock
from echelon.shared.ids import JobId
from echelon.shared.volume import Volume, log_name, workspace_name
from tests.engine.house import House, Puppet

API = "/api/v1"

CATALOGUE = """
    tasks:
      say:
        input: {text: {source: parameter}}
        exec_command: echo
        exec_args: ["{text}"]
      list_texts:
        input: {text: {source: parameter}}
        exec_command: list-texts
        exec_args: ["{text}"]
      list_apart:
        exec_command: list-texts
        queue: lists
      fetch:
        input: {text: {source: parameter}, token: {source: parameter, secret: true}}
        exec_command: fetch
        exec_args: ["--token={token}", "{text}"]
      make:
        exec_command: make
        workdir: task
    jobs:
      hello:
        description: Says one thing.
        input:
          text: {source: parameter, type: string, default: hello}
          times: {source: parameter, type: integer, minimum: 1, maximum: 9, default: 1}
        stages:
        - {name: Say, task_class: say}
      fan:
        input: {text: {source: parameter, default: hello}}
        stages:
        - {name: Prepare, task_class: say}
        - {name: Say all, spawn_task: list_texts, task_class: say, job_failed_on_error: false}
      guarded:
        input:
          text: {source: parameter}
          token: {source: http-header, key: Authorization}
        stages:
        - {name: Fetch, task_class: fetch}
      apart:
        stages:
        - {name: Say all, spawn_task: list_apart, task_class: say}
      made:
        stages: [{name: Make, task_class: make}]
"""


class Stand(House):
    """A controller, its interface, and a client of it."""

    def __init__(
        self, folder: Path, settings: ApiSettings | None = None, *, catalogue: str = CATALOGUE, **more: Any
    ) -> None:
        file = folder / "catalogue.yaml"
        file.write_text(textwrap.dedent(catalogue))
        self.settings = Settings(catalogue=(file,), volume=folder / "volume", **more)
        self.broker = MemoryBroker()
        self.volume = Volume.create(self.settings.volume)
        system = SystemClock()
        self.store = open_datastore(self.settings.datastore_url, clock=system)
        outside = Outside(self.store, self.broker, self.volume, system)
        self.controller = Controller(self.settings, outside, watch_catalogue(self.settings, self.volume))
        self.jobs = self.controller.jobs
        self.app = create_app(self.jobs, settings or ApiSettings())
        self.client: FlaskClient = self.app.test_client()

    def get(self, path: str, **more: Any) -> Any:
        """Return the JSON of a GET that is answered well."""
        response = self.client.get(API + path, **more)
        assert response.status_code == 200, response.text
        return response.json

    def post(self, job_type: str = "hello", **values: object) -> dict[str, Any]:
        """Submit a job over REST, let the engine see it, and return the job."""
        response = self.client.post(f"{API}/jobs", json={"type": job_type, "input": values})
        assert response.status_code == 201, response.text
        self.turn()
        found: dict[str, Any] = response.json
        return found

    def finished(self, job_type: str = "hello", **values: object) -> dict[str, Any]:
        """Return a job that has run to its end."""
        job = self.post(job_type, **values)
        puppet = Puppet(self)
        puppet.run_all()
        puppet.report(goodbye=True)
        found: dict[str, Any] = self.get(f"/jobs/{job['job_id']}")
        assert found["state"] == "COMPLETED"
        return found

    def leave(self, job_id: str, path: str, content: bytes = b"") -> Path:
        """Put a file into a job's workspace, as a task would."""
        file = self.settings.volume / workspace_name(JobId(job_id)) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def print(
        self, job_id: str, stream: str, content: bytes, *, stage: int = 0, index: int = 0, attempt: int = 1
    ) -> None:
        """Add to what an attempt has printed, as a worker would."""
        assert stream in ("stdout", "stderr")
        file = self.settings.volume / log_name(JobId(job_id), stage, index, attempt, stream)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as log:
            log.write(content)
