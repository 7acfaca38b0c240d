"""The use cases: what people ask for, through the API or the command. Each is one transaction and perhaps a nudge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from controller.catalogue.definitions import Catalogue, to_json
from controller.core.model import CancelRequested, Job, RetryRequested, Source, Submitted
from controller.core.planner import plan_stages
from controller.core.states import ENDED, State
from controller.datastore.port import Datastore, Transaction
from controller.datastore.records import SPAWN_INDEX, JobView, NewJob, NewTask, Remembered
from controller.engine.board import Board
from controller.engine.changes import Changes
from controller.engine.counters import Counters
from controller.engine.health import Health, Part
from controller.engine.inputs import Inputs, gather_inputs
from controller.engine.outbox import stop_messages
from controller.engine.publisher import Publisher
from controller.engine.requests import Submission
from controller.engine.snapshots import Origin, Snapshots
from shared.broker.port import Broker
from shared.errors import Conflict, EchelonError, NotFound
from shared.failpoints import failpoint
from shared.ids import JobId, new_job_id, new_task_ids
from shared.messages import JsonValue
from shared.sealing import Sealer
from shared.volume import Volume

#: What stands in the place of a secret, everywhere.
MASK = "********"


class UnknownType(NotFound):
    """The catalogue has no such job."""

    def __init__(self, type_: str, known: Sequence[str]) -> None:
        super().__init__(f"the catalogue has no job {type_!r}; it has: {', '.join(sorted(known)) or 'none'}")


@dataclass(frozen=True, slots=True)
class JobsParts:
    """What the use cases lean on; the composition root builds it."""

    store: Datastore
    broker: Broker
    volume: Volume
    sealer: Sealer
    snapshots: Snapshots
    changes: Changes
    counters: Counters
    #: The catalogue in force.
    catalogue: Callable[[], Catalogue]
    #: What is wrong with a newer catalogue that was not taken; empty: nothing.
    catalogue_problems: Callable[[], Sequence[str]]
    #: Tells this process's engine that there is something to claim; another's finds it at its next sweep.
    nudge: Callable[[], None]
    #: Seconds that a lease lasts.
    lease: float


class Jobs:
    """Submits, cancels, retries and deletes jobs. Safe for any thread."""

    def __init__(self, parts: JobsParts) -> None:
        self._parts = parts
        self.store = parts.store
        self.volume = parts.volume
        self.counters = parts.counters
        self.snapshots = parts.snapshots
        self._publisher = Publisher(store=parts.store, volume=parts.volume)
        #: Revisions that the store is known to hold.
        self._kept: set[str] = set()

    def catalogue(self) -> Catalogue:
        """Return the catalogue in force."""
        return self._parts.catalogue()

    def submit(self, submission: Submission) -> tuple[JobId, bool]:
        """Accept a job; return its id and whether it is new (False: its Idempotency-Key was used for it before)."""
        catalogue = self.catalogue()
        request_hash = _hash(submission)
        known = self._known(submission, request_hash)
        if known is not None:
            return known, False
        definition = catalogue.jobs.get(submission.type)
        if definition is None:
            raise UnknownType(submission.type, list(catalogue.jobs))
        inputs = gather_inputs(catalogue, definition, submission.input, submission.headers)
        new = self._plan(catalogue, submission, inputs, request_hash)
        # Before the commit, after which the engine may see the job at any moment.
        self.snapshots.remember(new.job.job_id, Origin(new.type, new.revision))
        with self.store.write() as tx:
            again = tx.submitted_with(submission.idempotency_key) if submission.idempotency_key else None
            if again is not None:
                return _same(again, request_hash), False
            failpoint("submit.before_insert")
            self._keep(tx, catalogue)
            tx.insert_job(new)
            board = Board(tx, request_id=submission.request_id)
            board.lock([new.job.job_id])
            board.apply(new.job.job_id, Submitted())
            board.save()
            failpoint("submit.after_insert")
        failpoint("submit.after_commit")
        self._kept.add(catalogue.revision)
        self._parts.counters.submitted.inc()
        self._parts.nudge()
        return new.job.job_id, True

    def cancel(self, job_id: JobId, *, request_id: str | None = None) -> None:
        """End a job for good. Cancelling a cancelled job is no error; another end is a Conflict."""
        with self.store.write() as tx:
            board = Board(tx, request_id=request_id)
            job = _locked(board, job_id)
            if job.state in ENDED and job.state is not State.CANCELLED:
                raise Conflict(f"the job is {job.state} already; only an open job can be cancelled")
            board.apply(job_id, CancelRequested())
            board.save()
            failpoint("cancel.before_commit")
        failpoint("cancel.after_commit")
        self._after(board)

    def retry(
        self,
        job_id: JobId,
        *,
        input: Mapping[str, JsonValue],  # noqa: A002  (the word users see)
        headers: Mapping[str, Sequence[str]],
        request_id: str | None = None,
    ) -> None:
        """Open a FAILED or CANCELLED job again; secrets, erased at its end, must be given anew."""
        facts = self.snapshots.facts(job_id)
        catalogue = self.snapshots.catalogue(facts.revision)
        definition = catalogue.jobs[facts.type]
        inputs = gather_inputs(catalogue, definition, input, headers, kept=facts.input)
        with self.store.write() as tx:
            board = Board(tx, request_id=request_id)
            job = _locked(board, job_id)
            if job.state not in (State.FAILED, State.CANCELLED):
                raise Conflict(f"the job is {job.state}; only a FAILED or CANCELLED job can be retried")
            tx.replace_input(job_id, inputs.values, self._sealed(inputs))
            board.apply(job_id, RetryRequested())
            board.save()
            failpoint("retry.before_commit")
        failpoint("retry.after_commit")
        self._after(board)

    def delete(self, job_id: JobId) -> None:
        """Remove an ended job: its rows first, then its folder. Asked again, it finishes what was cut off."""
        try:
            with self.store.write() as tx:
                board = Board(tx)
                job = _locked(board, job_id)
                if job.state not in ENDED:
                    raise Conflict(f"the job is {job.state}; cancel it before it can be deleted")
                tx.delete_job(job_id)
                failpoint("delete.before_commit")
        except NotFound:
            self.volume.remove_job(job_id)
            raise
        failpoint("delete.after_commit")
        self.snapshots.forget(job_id)
        self.volume.remove_job(job_id)

    def wait(self, job_id: JobId, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a job's end; return whether it has ended."""

        def over() -> bool:
            view = self.store.job(job_id)
            return view is None or view.state in ENDED

        return self._parts.changes.wait(over, timeout)

    def show_files(self, job_id: JobId) -> None:
        """See to it that the files of every attempt that counts by now are in the job's workspace."""
        self._publisher.show(job_id)

    def masked_input(self, view: JobView) -> dict[str, JsonValue]:
        """Return a job's input as anybody may see it."""
        return dict(view.input) | dict.fromkeys(view.secret, MASK)

    def health(self) -> Health:
        """Ask every system that the engine leans on."""
        return Health(
            (
                _checked("store", self.store.check),
                _checked("volume", self.volume.check),
                Part("broker", self._parts.broker.connected, "connected" if self._parts.broker.connected else "away"),
                self._catalogue_part(),
            )
        )

    def _catalogue_part(self) -> Part:
        """Tell of the catalogue; a newer file that is not valid is a warning: the last good revision serves on."""
        revision = f"revision {self.catalogue().revision} is in force"
        problems = self._parts.catalogue_problems()
        if not problems:
            return Part("catalogue", True, revision, needed=False)
        return Part(
            "catalogue", False, f"{revision}; what lies there now is not valid: {'; '.join(problems)}", needed=False
        )

    def _known(self, submission: Submission, request_hash: str) -> JobId | None:
        """Return the job of an earlier request with the same key, even if the catalogue has changed since."""
        if submission.idempotency_key is None:
            return None
        with self.store.write() as tx:
            known = tx.submitted_with(submission.idempotency_key)
        return _same(known, request_hash) if known else None

    def _keep(self, tx: Transaction, catalogue: Catalogue) -> None:
        if catalogue.revision not in self._kept:
            tx.save_definition(catalogue.revision, to_json(catalogue))

    def _plan(self, catalogue: Catalogue, submission: Submission, inputs: Inputs, request_hash: str) -> NewJob:
        definition = catalogue.jobs[submission.type]
        stages = plan_stages(catalogue, definition)
        tasks: list[list[NewTask]] = []
        for stage, described in zip(stages, definition.stages, strict=True):
            spawns = stage.source is Source.SPAWN
            task_class = described.spawn_task if spawns else described.task_class
            queue = stage.spawn_queue if spawns else stage.queue
            index = SPAWN_INDEX if spawns else 0
            assert task_class is not None and queue is not None, "a stage that spawns has a spawn task"
            tasks.append([NewTask(new_task_ids(1)[0], index, State.PENDING, task_class, queue)])
        return NewJob(
            job=Job(new_job_id(), State.PENDING, stages),
            type=submission.type,
            revision=catalogue.revision,
            input=inputs.values,
            sealed=self._sealed(inputs),
            classes=[(stage.task_class, stage.spawn_task) for stage in definition.stages],
            tasks=tasks,
            idempotency_key=submission.idempotency_key,
            request_hash=request_hash,
            request_id=submission.request_id,
        )

    def _sealed(self, inputs: Inputs) -> dict[str, str]:
        return {name: self._parts.sealer.seal(value) for name, value in inputs.secrets.items()}

    def _after(self, board: Board) -> None:
        """Tell workers of attempts that lost their claim, and the engine and those who wait that something changed."""
        self._parts.broker.publish(stop_messages(board.stops, lease=self._parts.lease))
        self._parts.changes.ring(board.ended)
        self._parts.nudge()


def _locked(board: Board, job_id: JobId) -> Job:
    board.lock([job_id])
    job = board.job(job_id)
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    return job


def _same(known: Remembered, request_hash: str) -> JobId:
    if known.request_hash != request_hash:
        raise Conflict("this Idempotency-Key was used for another request; choose a new key")
    return known.job_id


def _hash(submission: Submission) -> str:
    """Return a digest of what is asked for; header values are left out, a token may differ between two tries."""
    body = json.dumps([submission.type, submission.input], sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()


def _checked(name: str, check: Callable[[], None]) -> Part:
    try:
        check()
    except EchelonError as error:
        return Part(name, False, str(error))
    return Part(name, True, "answers")
