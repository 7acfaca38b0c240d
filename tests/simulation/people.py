"""People: they submit jobs, repeat unanswered requests, cancel jobs, and retry failed ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import ENDED, State
from echelon.controller.engine.base.requests import Submission
from echelon.controller.engine.jobs import Jobs
from echelon.shared.errors import Conflict, InvalidInput, NotFound, PreconditionFailed, Unavailable
from echelon.shared.ids import JobId
from tests.engine.jobs import reopen
from tests.simulation.catalogue import JOBS
from tests.simulation.faults import CALM_FROM
from tests.simulation.history import Asked
from tests.simulation.witness import Wish
from tests.simulation.world import Killed

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

#: The last jobs are submitted so many seconds before the calm.
BUSY_UNTIL = CALM_FROM - 40.0
Request = Callable[[Jobs], object]


def first_token(number: object) -> str:
    """Return the secret with which person `number` submits a job."""
    return f"token-{number}-1"


class Person:
    """Wants one job to run."""

    def __init__(self, cluster: Cluster, number: int, *, calm: bool = False) -> None:
        self._cluster = cluster
        self._world = cluster.world
        rng = self._world.rng
        self._type = "calm" if calm else f"job{rng.randrange(JOBS)}"
        self._number = number
        self._key = f"key-{number}" if rng.random() < 0.8 else None
        # A stream of its own, so that seeds go on meaning what they meant.
        self._priority = random.Random(f"{self._world.seed}/{number}").choice((None, None, None, 1, 9))
        self._tokens = 0
        self.job_id: JobId | None = None
        self.done = False
        self._world.at(CALM_FROM + 8.0 if calm else rng.uniform(0.5, BUSY_UNTIL), None, self._submit_job)

    # --- submit

    def _submit_job(self) -> None:
        token = self._new_token() if self._tokens == 0 else self._last_token()
        headers = {"X-Token": [token]} if self._type == "job1" else {}
        submission = Submission(self._type, {"note": str(self._number)}, headers, self._key, priority=self._priority)
        asked, answer = self._send_request(
            "submit", lambda jobs: jobs.submit_job(submission), key=self._key, token=token
        )
        if asked.answer == "ok":
            assert isinstance(answer, tuple)
            asked.job_id = answer[0]
            self._plan_next(answer[0])
        elif asked.answer == "info" and self._key is not None:
            self._act_later(1.0, 5.0, self._submit_job)
        else:
            # Without a key a repeated request could make a second job.
            self.done = True

    def _plan_next(self, job_id: JobId) -> None:
        rng = self._world.rng
        first, self.job_id = self.job_id is None, job_id
        if self._type == "calm":
            self.done = True
        if not first or self.done:
            return
        if self._key is not None and rng.random() < 0.4:
            self._act_later(0.1, 60.0, self._submit_job)
        if rng.random() < 0.25:
            self._act_later(0.1, 40.0, self._cancel_job)
        elif rng.random() < 0.5:
            self._act_later(5.0, 60.0, self._retry_when_ended)
        else:
            self.done = True

    # --- cancel and retry

    def _cancel_job(self) -> None:
        job_id = self._get_job_id()
        asked, _ = self._send_request("cancel", lambda jobs: jobs.control.change_job(Verb.CANCEL, job_id))
        if asked.answer == "info":
            self._act_later(1.0, 5.0, self._cancel_job)
        elif self._world.rng.random() < 0.3:
            self._act_later(0.5, 30.0, self._retry_when_ended)
        else:
            self.done = True

    def _retry_when_ended(self) -> None:
        """Retry the job when it has failed or was cancelled; look again otherwise."""
        job_id = self._get_job_id()
        state = self._read_state(job_id)
        if state is State.COMPLETED or self._world.now > BUSY_UNTIL:
            self.done = True
        elif state is None or state not in ENDED:
            self._act_later(5.0, 20.0, self._retry_when_ended)
        else:
            self._send_retry(job_id)

    def _send_retry(self, job_id: JobId) -> None:
        token = self._new_token()
        headers = {"X-Token": [token]} if self._type == "job1" else {}
        wish = Wish(0, Verb.RETRY, (job_id,), token=token)
        asked, _ = self._send_request("retry", lambda jobs: reopen(jobs, job_id, headers), token=token, wish=wish)
        if asked.answer == "ok" and self._world.rng.random() < 0.5:
            self.done = True
        else:
            self._act_later(1.0, 20.0, self._retry_when_ended)

    # --- asking

    def _send_request(
        self,
        what: str,
        request: Request,
        *,
        key: str | None = None,
        token: str | None = None,
        wish: Wish | None = None,
    ) -> tuple[Asked, object]:
        """Send one request to a controller that answers; return what was noted, and the answer."""
        world = self._world
        asked = Asked(what, "info", world.now, world.now, self.job_id, key, [self._cluster.catalogue.revision], token)
        self._cluster.asked.append(asked)
        answer: object = None
        controllers = [one for one in self._cluster.controllers if one.answers]
        if not controllers:
            asked.answer = "info"
            return asked, None
        controller = world.rng.choice(controllers)
        try:
            answer = controller.call(request, around=self._cluster.around(wish))
            asked.answer = "ok"
        except (Conflict, PreconditionFailed, NotFound, InvalidInput) as error:
            asked.answer = "refused"
            world.log("person", f"{what} {self._number} refused: {error}")
        except (Unavailable, Killed) as error:
            world.log("person", f"{what} {self._number} got no answer: {error}")
        asked.ended = world.now
        asked.revisions = [*asked.revisions, self._cluster.catalogue.revision]
        world.log("person", f"{what} {self._number} {asked.answer} {self.job_id or answer or ''}")
        return asked, answer

    def _read_state(self, job_id: JobId) -> State | None:
        states = self._cluster.job_states()
        return State(states[job_id]) if job_id in states else None

    def _act_later(self, low: float, high: float, action: Callable[[], None]) -> None:
        self._world.at(self._world.rng.uniform(low, high), None, action)

    def _get_job_id(self) -> JobId:
        assert self.job_id is not None
        return self.job_id

    def _new_token(self) -> str:
        self._tokens += 1
        return self._last_token()

    def _last_token(self) -> str:
        return f"token-{self._number}-{self._tokens}"
