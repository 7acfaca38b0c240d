"""People: they submit jobs, repeat unanswered requests, cancel jobs, and retry failed ones."""

from __future__ import annotations

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
        self._tokens = 0
        self.job_id: JobId | None = None
        self.done = False
        self._world.at(CALM_FROM + 8.0 if calm else rng.uniform(0.5, BUSY_UNTIL), None, self._submit)

    # --- submit

    def _submit(self) -> None:
        token = self._token() if self._tokens == 0 else self._last_token()
        headers = {"X-Token": [token]} if self._type == "job1" else {}
        submission = Submission(self._type, {"note": str(self._number)}, headers, self._key)
        asked, answer = self._ask("submit", lambda jobs: jobs.submit(submission), key=self._key, token=token)
        if asked.answer == "ok":
            assert isinstance(answer, tuple)
            asked.job_id = answer[0]
            self._accepted(answer[0])
        elif asked.answer == "info" and self._key is not None:
            self._later(1.0, 5.0, self._submit)
        else:
            # Without a key a repeated request could make a second job.
            self.done = True

    def _accepted(self, job_id: JobId) -> None:
        rng = self._world.rng
        first, self.job_id = self.job_id is None, job_id
        if self._type == "calm":
            self.done = True
        if not first or self.done:
            return
        if self._key is not None and rng.random() < 0.4:
            self._later(0.1, 60.0, self._submit)
        if rng.random() < 0.25:
            self._later(0.1, 40.0, self._cancel)
        elif rng.random() < 0.5:
            self._later(5.0, 60.0, self._retry)
        else:
            self.done = True

    # --- cancel and retry

    def _cancel(self) -> None:
        job_id = self._mine()
        asked, _ = self._ask("cancel", lambda jobs: jobs.cancel(job_id))
        if asked.answer == "info":
            self._later(1.0, 5.0, self._cancel)
        elif self._world.rng.random() < 0.3:
            self._later(0.5, 30.0, self._retry)
        else:
            self.done = True

    def _retry(self) -> None:
        """Retry the job when it has failed or was cancelled; look again otherwise."""
        job_id = self._mine()
        state = self._look(job_id)
        if state is State.COMPLETED or self._world.now > BUSY_UNTIL:
            self.done = True
        elif state is None or state not in ENDED:
            self._later(5.0, 20.0, self._retry)
        else:
            self._reopen(job_id)

    def _reopen(self, job_id: JobId) -> None:
        token = self._token()
        headers = {"X-Token": [token]} if self._type == "job1" else {}
        wish = Wish(0, Verb.RETRY, (job_id,), token=token)
        asked, _ = self._ask("retry", lambda jobs: reopen(jobs, job_id, headers), token=token, wish=wish)
        if asked.answer == "ok" and self._world.rng.random() < 0.5:
            self.done = True
        else:
            self._later(1.0, 20.0, self._retry)

    # --- asking

    def _ask(
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

    def _look(self, job_id: JobId) -> State | None:
        states = self._cluster.job_states()
        return State(states[job_id]) if job_id in states else None

    def _later(self, low: float, high: float, action: Callable[[], None]) -> None:
        self._world.at(self._world.rng.uniform(low, high), None, action)

    def _mine(self) -> JobId:
        assert self.job_id is not None
        return self.job_id

    def _token(self) -> str:
        self._tokens += 1
        return self._last_token()

    def _last_token(self) -> str:
        return f"token-{self._number}-{self._tokens}"
