"""The use cases of the API and the command: each is one transaction, and may wake the engine."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from echelon.controller.catalogue.definitions import Catalogue
from echelon.controller.catalogue.inline import compose_job
from echelon.controller.catalogue.stored import to_json
from echelon.controller.core.events import Submitted
from echelon.controller.core.model import Job
from echelon.controller.core.planner import plan_stages
from echelon.controller.core.states import ENDED, State
from echelon.controller.datastore.records import JobInputs, JobView, NewJob, Remembered, WorkerView
from echelon.controller.datastore.transaction import Transaction
from echelon.controller.engine.base.health import EngineHealth
from echelon.controller.engine.base.inputs import Inputs, gather_inputs
from echelon.controller.engine.base.items import new_seal, open_sealing, plan_tasks
from echelon.controller.engine.base.labels import MASK, TaskLabels
from echelon.controller.engine.base.outbox import order_drain
from echelon.controller.engine.base.requests import (
    Composition,
    InvalidInputs,
    Prune,
    Pruned,
    RequestMistake,
    Submission,
    Who,
)
from echelon.controller.engine.base.snapshots import JobOrigin
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.controller.engine.control.control import Control, check_etag
from echelon.controller.engine.control.opening import Opening
from echelon.controller.engine.dependencies import JobDependencies
from echelon.controller.engine.upkeep.publisher import FilePublisher
from echelon.controller.engine.upkeep.remover import Remover
from echelon.controller.engine.why.health import check_health
from echelon.controller.engine.why.reasons import Reasons
from echelon.shared.ablation import ablated
from echelon.shared.errors import Conflict, NotFound
from echelon.shared.failpoints import failpoint
from echelon.shared.ids import JobId, WorkerId, new_job_id
from echelon.shared.messages import JsonValue


class UnknownType(NotFound):
    """The catalogue has no such job."""

    def __init__(self, type_: str, known: Sequence[str]) -> None:
        super().__init__(f"the catalogue has no job {type_!r}; it has: {', '.join(sorted(known)) or 'none'}")


class Jobs:
    """Submits, cancels, retries and deletes jobs. Safe for any thread."""

    def __init__(self, parts: JobDependencies) -> None:
        self._parts = parts
        self.store = parts.store
        self.volume = parts.volume
        self.counters = parts.counters
        self.snapshots = parts.snapshots
        #: Live control: what people do to jobs that run.
        self.control = Control(parts)
        #: Why things do not move on.
        self.reasons = Reasons(parts)
        self.remover = Remover(store=parts.store, volume=parts.volume, snapshots=parts.snapshots)
        self._opening = Opening(parts)
        self._publisher = FilePublisher(store=parts.store, volume=parts.volume)
        #: Revisions that the store is known to hold.
        self._kept: set[str] = set()

    def current_catalogue(self) -> Catalogue:
        """Return the catalogue in force."""
        return self._parts.catalogue()

    def submit_job(self, submission: Submission) -> tuple[JobId, bool]:
        """Accept a job; return its id and whether it is new (False: its Idempotency-Key was used for it before).

        Raises TooManyJobs; what was accepted before is found all the same.
        """
        catalogue = self.current_catalogue()
        request_hash = self._hash_request(submission)
        known = self._find_earlier(submission, request_hash)
        if known is not None:
            return known, False
        definition = catalogue.jobs.get(submission.type)
        if definition is None:
            raise UnknownType(submission.type, list(catalogue.jobs))
        inputs = gather_inputs(catalogue, definition, submission.input, submission.headers)
        return self._accept_job(catalogue, submission, inputs, request_hash)

    def submit_composition(self, composition: Composition) -> tuple[JobId, bool]:
        """Accept a job that stands in the request; return and raise what `submit_job` does, and InvalidInputs."""
        submission = Submission(
            type=composition.name,
            input={},
            idempotency_key=composition.idempotency_key,
            request_id=composition.request_id,
            user=composition.user,
            paused=composition.paused,
            priority=composition.priority,
        )
        request_hash = self._hash_request(submission, composition.stages)
        known = self._find_earlier(submission, request_hash)
        if known is not None:
            return known, False
        composed = compose_job(
            self.current_catalogue(), composition.name, composition.stages, commands=self._parts.inline_commands
        )
        if composed.catalogue is None:
            raise InvalidInputs([RequestMistake(one.pointer, one.detail) for one in composed.mistakes])
        return self._accept_job(composed.catalogue, submission, Inputs({}, {}), request_hash)

    def _accept_job(
        self, catalogue: Catalogue, submission: Submission, inputs: Inputs, request_hash: str | None
    ) -> tuple[JobId, bool]:
        self._parts.open_jobs.refuse_more()
        new = self._plan_job(catalogue, submission, inputs, request_hash)
        # Before the commit, after which the engine may see the job at any moment.
        self.snapshots.keep_catalogue(catalogue)
        self.snapshots.keep_origin(new.job.job_id, JobOrigin(new.type, new.revision))
        with self.store.write() as tx:
            key = _key_of(submission)
            again = tx.submitted_with(key) if key else None
            if again is not None:
                return _require_same(again, request_hash), False
            failpoint("submit.before_insert")
            self._keep_catalogue(tx, catalogue)
            tx.insert_job(new)
            tx.log_fact(new.job.job_id, "job_accepted", detail={"type": new.type})
            unit = UnitOfWork(tx, request_id=submission.request_id)
            unit.lock_jobs([new.job.job_id])
            unit.apply_event(new.job.job_id, Submitted())
            post = self._parts.head_start.claim_first_tasks(unit, new.job.job_id)
            unit.save_jobs()
            failpoint("submit.after_insert")
        failpoint("submit.after_commit")
        self._parts.head_start.send_orders(post)
        if catalogue.base is None:
            self._kept.add(catalogue.revision)
        self._parts.counters.submitted.inc()
        self._parts.open_jobs.note_accepted()
        if unit.has_claimable(new.job.job_id):
            self._parts.wake()
        return new.job.job_id, True

    def delete_job(self, job_id: JobId, *, etag: int | None = None) -> None:
        """Remove an ended job: its rows first, then its folder. Asked again, it finishes what was cut off.

        Raises PreconditionFailed when it has changed since it had this etag.
        """
        try:
            with self.store.write() as tx:
                unit = UnitOfWork(tx)
                job = unit.require_job(job_id)
                check_etag(etag, lambda: tx.job_etag(job_id), f"job {job_id}")
                if job.state not in ENDED:
                    raise Conflict(f"the job is {job.state}; cancel it before it can be deleted")
                removal = tx.delete_job(job_id)
                failpoint("delete.before_commit")
        except NotFound:
            self.remover.finish_job(job_id)
            raise
        failpoint("delete.after_commit")
        self.remover.finish_removal(removal)

    def prune_jobs(self, wanted: Prune, *, limit: int, seconds: float) -> Pruned:
        """Remove jobs that ended long ago, or (a dry run) measure them; stop at a number of jobs or of seconds."""
        with self.store.read() as reader:
            before = reader.now() - wanted.older_than
            found = reader.list_ended(before=before, after=wanted.after, only=wanted.type, limit=limit)
        pruned, until = Pruned(), time.monotonic() + seconds
        for one in found:
            size = self.volume.measure_job(one.job_id)
            if wanted.dry_run or self.remover.remove_jobs([one]):
                pruned.jobs, pruned.bytes = pruned.jobs + 1, pruned.bytes + size
            pruned.next = one.key
            if time.monotonic() >= until:
                return pruned
        if len(found) < limit:
            pruned.next = None
        return pruned

    def drain_worker(self, worker_id: WorkerId) -> WorkerView:
        """Order a worker to take no more tasks and to end; raise Conflict if it cannot be told."""
        with self.store.read() as reader:
            known = {one.worker_id: one for one in reader.list_workers(lost_after=self._parts.lease)}
        if worker_id not in known:
            raise NotFound(f"there is no worker {worker_id}; 'echelon workers' lists them")
        if self._parts.broker.volatile:
            raise Conflict("this worker is a part of the controller's process: stop that one instead")
        order_drain(self._parts.broker, worker_id, lease=self._parts.lease)
        return known[worker_id]

    def wait_for_end(self, job_id: JobId, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a job's end; return whether it has ended."""

        def has_ended() -> bool:
            view = self.store.find_job(job_id)
            return view is None or view.state in ENDED

        return self._parts.changes.await_change(has_ended, timeout)

    def show_files(self, job_id: JobId) -> None:
        """See to it that the files of every attempt that counts by now are in the job's workspace."""
        self._publisher.publish_job(job_id)

    def masked_input(self, view: JobView) -> dict[str, JsonValue]:
        """Return a job's input as anybody may see it."""
        return dict(view.input) | dict.fromkeys(view.secret, MASK)

    def label_tasks(self, view: JobView) -> TaskLabels:
        """Return what names the tasks of a job and masks the secrets in their items."""
        return self.snapshots.label_tasks(view.job_id, partial(self.masked_input, view))

    @property
    def is_broker_connected(self) -> bool:
        """Tell whether the broker takes messages."""
        return self._parts.broker.connected

    @property
    def disks(self) -> Sequence[str]:
        """Return the folders whose disks must not be full."""
        return self._parts.disks

    def check_health(self) -> EngineHealth:
        """Ask every system that the engine leans on."""
        return check_health(self._parts)

    def _find_earlier(self, submission: Submission, request_hash: str | None) -> JobId | None:
        """Return the job of an earlier request with the same key, even if the catalogue has changed since."""
        key = _key_of(submission)
        if key is None:
            return None
        with self.store.write() as tx:
            known = tx.submitted_with(key)
        return _require_same(known, request_hash) if known else None

    def _keep_catalogue(self, tx: Transaction, catalogue: Catalogue) -> None:
        if catalogue.base is None and catalogue.revision not in self._kept:
            tx.save_definition(catalogue.revision, to_json(catalogue))

    def _plan_job(
        self, catalogue: Catalogue, submission: Submission, inputs: Inputs, request_hash: str | None
    ) -> NewJob:
        definition = catalogue.jobs[submission.type]
        if submission.priority is not None:
            definition = replace(definition, priority=submission.priority)
        stages = plan_stages(catalogue, definition)
        seal = new_seal(self._parts.sealer, catalogue, definition)
        own = open_sealing(self._parts.sealer, JobInputs({}, {}, seal, int(seal is not None)))
        tasks = [
            plan_tasks(catalogue, stage, described, own)
            for stage, described in zip(stages, definition.stages, strict=True)
        ]
        return NewJob(
            job=Job(new_job_id(), State.PENDING, stages, by=_paused_by(submission)),
            type=submission.type,
            revision=catalogue.revision,
            input=inputs.values,
            sealed=self._seal_inputs(inputs),
            classes=[(stage.task_class, stage.spawn_task) for stage in definition.stages],
            tasks=tasks,
            composition=None if catalogue.base is None else to_json(catalogue),
            seal=seal,
            idempotency_key=_key_of(submission),
            request_hash=request_hash,
            request_id=submission.request_id,
        )

    def _hash_request(self, submission: Submission, *more: object) -> str | None:
        """Return a digest of what is asked for; header values are left out, a token may differ between two tries.

        None: the request has no key under which it could come again.
        """
        if submission.idempotency_key is None:
            return None
        asked = [submission.type, submission.input, submission.paused, *more]
        if submission.priority is not None:
            asked.append({"priority": submission.priority})
        return self._parts.sealer.digest_text(json.dumps(asked, sort_keys=True))

    def _seal_inputs(self, inputs: Inputs) -> dict[str, str]:
        return {name: self._parts.sealer.seal_text(value) for name, value in inputs.secrets.items()}


def _paused_by(submission: Submission) -> str | None:
    return Who(submission.request_id, submission.user).name if submission.paused else None


def _key_of(submission: Submission) -> str | None:
    """Return the key by which a repeated request finds its job."""
    return None if ablated("idempotency_key") else submission.idempotency_key


def _require_same(known: Remembered, request_hash: str | None) -> JobId:
    # Of what an earlier release has accepted nothing is known but the key: that alone makes no second job.
    if known.request_hash and known.request_hash != request_hash:
        raise Conflict("this Idempotency-Key was used for another request; choose a new key")
    return known.job_id
