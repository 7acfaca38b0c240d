"""The catalogue of most tests of the engine, and ways to begin its jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import Given
from echelon.controller.engine.jobs import Jobs
from echelon.shared.errors import Conflict
from echelon.shared.ids import JobId
from echelon.shared.messages import JsonValue
from tests.engine.house import House, Puppet

CATALOGUE = """
    tasks:
      step:
        exec_command: "true"
      flaky:
        exec_command: "false"
        retry: {limit: 2, delay: 5s, factor: 2, max_delay: 1m}
      list:
        exec_command: "true"
      fetch:
        input:
          url: {source: parameter}
          size: {source: parameter, type: integer, default: 1}
          token: {source: parameter, secret: true, default: none}
        exec_command: echo
        exec_args: ["--", "{url}", "{size}"]
      encode:
        exec_command: "true"
        queue: transcoding
    jobs:
      one: {stages: [{name: One, task_class: step}]}
      two: {stages: [{name: One, task_class: step}, {name: Two, task_class: step}]}
      retried: {stages: [{name: One, task_class: flaky}]}
      encoded: {stages: [{name: One, task_class: encode}]}
      many:
        stages:
        - {name: Fetch, spawn_task: list, task_class: fetch}
        - {name: After, task_class: step}
      lenient:
        stages:
        - {name: Fetch, spawn_task: list, task_class: fetch, job_failed_on_error: false, max_parallel: 2}
        - {name: After, task_class: step}
      tolerant:
        stages: [{name: Fetch, spawn_task: list, task_class: fetch, max_failed: 25%}]
      hasty:
        stages: [{name: Fetch, spawn_task: list, task_class: fetch, fail_fast: true}]
      secret:
        input:
          url: {source: parameter}
          token: {source: http-header, key: Authorization}
        stages: [{name: Fetch, task_class: fetch}]
      guarded:
        input:
          url: {source: parameter, default: u}
          token: {source: parameter, secret: true}
        stages: [{name: Fetch, task_class: fetch}]
      adding:
        stages:
        - {name: One, task_class: step}
        - {name: Fetch, task_class: fetch, tasks: open}
"""


def urls(count: int) -> list[object]:
    """Return so many items that fit the class `fetch`."""
    return [{"url": f"http://here/{number}"} for number in range(count)]


def spawned(house: House, puppet: Puppet, type_: str, items: list[object]) -> JobId:
    """Submit a job whose first stage spawns, and let its spawn task leave these items."""
    job_id = house.submit(type_)
    puppet.finish(puppet.take(), items=items)
    return job_id


def reopen(jobs: Jobs, job_id: JobId, headers: Mapping[str, Sequence[str]] | None = None, **values: JsonValue) -> None:
    """Retry an ended job as it stands; whoever comes too late is refused."""
    view = jobs.store.find_job(job_id)
    if view is None or view.state not in (State.FAILED, State.CANCELLED):
        raise Conflict(f"the job is {view.state if view else 'gone'}")
    given = Given(values, headers or {})
    if not jobs.control.change_job(Verb.RETRY, job_id, etag=view.etag, given=given).jobs:
        raise Conflict("there is nothing to run again")
