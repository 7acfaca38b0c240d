"""Turn the checked items of a spawn.json into tasks, chunk by chunk; the first run while the last are being made.

Each chunk is a transaction of its own that says where the next one begins, so that a crash in between costs one chunk
of work and no task: nothing is doubled, nothing is missing.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from typing import BinaryIO

import msgspec

from echelon.controller.core.events import TasksCreated
from echelon.controller.core.planner import plan_item
from echelon.controller.core.states import State
from echelon.controller.datastore.fanout import Expansion
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import NewTask
from echelon.controller.engine.base.items import TaskSealing, explain_erased, open_item, open_sealing
from echelon.controller.engine.base.snapshots import Snapshots
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.shared.ablation import ablated
from echelon.shared.clock import Clock
from echelon.shared.errors import VolumeUnavailable
from echelon.shared.failpoints import failpoint
from echelon.shared.ids import new_task_ids
from echelon.shared.sealing import Sealer
from echelon.shared.volume import Volume
from echelon.shared.volume.beneath import REFUSED

log = logging.getLogger(__name__)

#: Items of one transaction: small enough that a submit waiting behind it does not notice.
CHUNK = 1_000
#: Stages of one look.
_STAGES = 16
#: Longest line of a file of items, and most bytes of a chunk. An item has at most 2**20 characters, and JSON may need
#: twelve bytes for one.
_LONGEST, _MOST = 16 << 20, 512 << 20
#: A file that is not there, or is something else: a task has done that.
_TAKEN_AWAY = frozenset({*REFUSED, errno.EACCES, errno.EPERM, errno.ESTALE})
#: For so many seconds it is looked for all the same: a network mount may not show at once what a worker has written.
_PATIENCE = 60.0


class Expander:
    """Makes tasks of items. Used by the engine's thread alone."""

    def __init__(self, *, store: Datastore, snapshots: Snapshots, volume: Volume, sealer: Sealer, clock: Clock) -> None:
        self._clock = clock
        #: The files that could not be read, and since when.
        self._missing: dict[str, float] = {}
        self._store = store
        self._snapshots = snapshots
        self._volume = volume
        self._sealer = sealer

    def add_chunks(self) -> bool:
        """Make one chunk of tasks of every stage that lacks some; return whether there was any whose file is there."""
        with self._store.write() as tx:
            expansions = tx.find_expansions(limit=_STAGES + len(self._missing))
        paths = {expansion.path for expansion in expansions}
        self._missing = {path: since for path, since in self._missing.items() if path in paths}
        found = False
        for expansion in expansions:
            read = self._read_items(expansion)
            if read is not None:
                found = True
                self._add_chunk(expansion, *read)
        return found

    def _add_chunk(self, expansion: Expansion, lines: Sequence[bytes], offset: int) -> None:
        inputs = self._snapshots.find_facts(expansion.job_id).inputs
        tasks = self._plan_tasks(expansion, lines, open_sealing(self._sealer, inputs))
        with self._store.write() as tx:
            unit = UnitOfWork(tx)
            unit.lock_jobs([expansion.job_id])
            job = unit.find_job(expansion.job_id)
            # Another controller may have been faster, or the job may have ended: then this chunk is not ours to add.
            if job is None or job.stage(expansion.stage).state is not State.RUNNING:
                return
            stage = job.stage(expansion.stage)
            # The list is that of a run that has ended.
            if stage.run != expansion.run:
                return
            # Tasks that were added by hand come before it; so does what another controller has made of this chunk.
            if stage.tally.total - stage.added != expansion.created and not ablated("expansion_check"):
                return
            # The job ended meanwhile and was reopened: values sealed here could not be opened.
            if unit.tx.load_inputs(expansion.job_id).seal_number != inputs.seal_number:
                return
            for place, task in enumerate(tasks):
                task.index = stage.next_index + place
            failpoint("expand.before_insert")
            tx.insert_tasks(expansion.job_id, expansion.stage, tasks)
            created = expansion.created + len(tasks)
            tx.set_expanded(expansion.job_id, expansion.stage, created=created, offset=offset)
            refused = [task for task in tasks if task.state is State.FAILED]
            error = f"item {refused[0].index}: {refused[0].error}" if refused else None
            for task in refused[:20]:
                detail = {"index": task.index, "error": task.error}
                tx.record_event(expansion.job_id, "task_failed", stage=expansion.stage, detail=detail)
            created_tasks = TasksCreated(expansion.stage, len(tasks) - len(refused), len(refused), error)
            unit.apply_event(expansion.job_id, created_tasks)
            unit.save_jobs()
            failpoint("expand.before_commit")
        failpoint("expand.after_commit")

    def _read_items(self, expansion: Expansion) -> tuple[list[bytes], int] | None:
        """Return the next items and where they end in the file; None: it has to be looked for again.

        A file that a task has taken away gives no items.
        """
        wanted = min(CHUNK, expansion.expected - expansion.created)
        try:
            with self._volume.open_items(expansion.path, expansion.offset) as file:
                lines = _read_lines(file, wanted)
                self._missing.pop(expansion.path, None)
                return lines, file.tell()
        except OSError as error:
            if error.errno not in _TAKEN_AWAY:
                raise VolumeUnavailable(f"cannot read the spawned items in {expansion.path}: {error}") from error
            self._volume.check_present()
            now = self._clock.monotonic()
            if now - self._missing.setdefault(expansion.path, now) < _PATIENCE:
                return None
            log.warning(
                "the spawned items in %s are gone, a task of the job must have done that: %s", expansion.path, error
            )
            return [], expansion.offset

    def _plan_tasks(self, expansion: Expansion, lines: Sequence[bytes], own: TaskSealing) -> list[NewTask]:
        definition = self._snapshots.find_definition(expansion.job_id)
        stage = definition.stages[expansion.stage]
        task_class = self._snapshots.task_class(expansion.job_id, stage.task_class)
        # The job was accepted with a value for each of its inputs.
        given = frozenset(definition.input)
        secret = self._snapshots.secret_inputs_of(expansion.job_id, stage.task_class)
        wanted = min(CHUNK, expansion.expected - expansion.created)
        tasks = []
        for place, task_id in enumerate(new_task_ids(wanted)):
            item = _decode_item(lines[place]) if place < len(lines) else None
            item, lost = open_item(own.seal, item, secret)
            values, error = plan_item(task_class, item, given | lost)
            values, seal_number = own.seal_values(values, secret)
            if error:
                # It never runs, so its lost secret is not asked for.
                seal_number = None
            elif lost:
                # As if its job had ended after it was made: a retry asks for what is gone.
                error, seal_number = explain_erased(lost), own.number - 1
                values |= dict.fromkeys(lost, "")
            tasks.append(
                NewTask(
                    task_id=task_id,
                    index=expansion.created + place,
                    state=State.FAILED if error else State.QUEUED,
                    task_class=stage.task_class,
                    queue=task_class.queue,
                    input=values,
                    seal_number=seal_number,
                    error=error,
                )
            )
        return tasks


def _read_lines(file: BinaryIO, wanted: int) -> list[bytes]:
    """Return the next lines, as far as they are whole and not longer than a worker's."""
    lines: list[bytes] = []
    room = _MOST
    while len(lines) < wanted and (line := file.readline(min(_LONGEST, room))).endswith(b"\n"):
        lines.append(line)
        room -= len(line)
    return lines


def _decode_item(line: bytes) -> object:
    """Return an item; None for a line that no worker has written: a task has changed the file since."""
    try:
        return msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return None
