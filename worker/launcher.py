"""Starts an attempt: prepares its folders on the volume and starts its process. Collects its outputs at its end."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Final

from echelon.shared.errors import VolumeUnavailable
from echelon.shared.failpoints import failpoint
from echelon.shared.messages import AttemptRef, Grant, GrantedTask, Outcome
from echelon.shared.volume import Volume
from echelon.shared.volume.layout import entry_name
from echelon.shared.volume.starts import StartLog
from echelon.worker import spawnfile
from echelon.worker.attempt import AttemptEnd, StartedAttempt, describe_error
from echelon.worker.folders import Folders
from echelon.worker.outputs import add_result, add_spawned_items, check_files
from echelon.worker.preparation import Places, Preparation, PreparedGrant
from echelon.worker.rights import Rights, group_of
from echelon.worker.runtimes.port import CannotStart, Runtime, StartRefused

#: Most jobs whose workspaces are remembered as made.
_WORKSPACES: Final = 1000


class Launcher:
    """Starts the attempts of one worker and collects their outputs. One thread uses it."""

    def __init__(
        self,
        volume: Volume,
        runtime: Runtime,
        preparation: Preparation,
        limits: spawnfile.Limits,
        starts: StartLog,
        rights: Rights | None = None,
    ) -> None:
        self._volume, self._runtime, self._preparation, self._limits = volume, runtime, preparation, limits
        self._starts = starts
        #: None: tasks run as the user of this process.
        self._rights = rights
        self._folders = Folders(volume, owner=-1 if rights is None else rights.user.uid)
        self._workspaces: dict[str, None] = {}

    def close(self) -> None:
        """Remove the spare folders."""
        self._folders.close()
        self.close_starts()

    def close_starts(self) -> None:
        """Close the file of starts while nothing runs."""
        self._starts.close()

    def start_attempt(self, grant: Grant, task: GrantedTask, may_start: Callable[[], bool]) -> StartedAttempt:
        """Start an attempt; raise CannotStart, or another EchelonError if the worker is the cause.

        When all is prepared, ask `may_start`; if it says no, raise StartRefused.
        """
        prepared = self._preparation.get_prepared(grant)
        try:
            if grant.job_id not in self._workspaces:
                self._make_workspace(grant)
            places, spare_from = self._make_places(prepared, task)
        except OSError as error:
            raise self._explain_error(error, prepared) from error
        masker = prepared.masker
        try:
            launch, masker = self._preparation.build_launch(prepared, task, places)
            launch.may_start = partial(self._may_begin, launch.ref, prepared, may_start)
            if self._rights is not None:
                launch.group = group_of(grant.job_id)
            failpoint("exec.before_spawn")
            process = self._runtime.start_command(launch)
        except CannotStart as error:
            if spare_from is not None:
                self._folders.return_folder(spare_from, places.folder, prepared.compiled.files, clean=True)
            if isinstance(error, StartRefused):
                raise
            raise CannotStart(masker.mask_text(str(error)), worker_fault=error.worker_fault) from error
        return StartedAttempt(launch.ref, prepared, task, places, masker, process, spare_from)

    def collect_outputs(self, attempt: StartedAttempt, ending: AttemptEnd, *, clean: bool) -> AttemptEnd:
        """Return the end with the attempt's outputs. Clean: no process is left that could use its folder."""
        if attempt.spare_from is not None and not self._folders.return_folder(
            attempt.spare_from, attempt.places.folder, attempt.prepared.compiled.files, clean=clean
        ):
            return ending
        if ending.outcome in (Outcome.COMPLETED, Outcome.FAILED):
            ending = add_result(self._volume, attempt, ending)
        if ending.outcome is Outcome.COMPLETED and attempt.prepared.recipe.spawns:
            ending = add_spawned_items(self._volume, attempt, ending, self._limits)
        if ending.outcome is Outcome.COMPLETED and attempt.prepared.recipe.workdir == "task":
            ending = check_files(self._volume, attempt, ending)
        return ending

    def _may_begin(self, ref: AttemptRef, prepared: PreparedGrant, may_start: Callable[[], bool]) -> bool:
        """Write the start down, then ask `may_start`.

        In this order nothing that takes time comes between the answer and the start: this process may be paused there.
        An attempt that is refused is handed back; its line counts only if this worker is lost at the same time.
        """
        try:
            self._starts.add_start(ref)
        except OSError as error:
            raise self._explain_error(error, prepared) from error
        return may_start()

    def _make_workspace(self, grant: Grant) -> None:
        if self._rights is not None:
            self._rights.open_job(grant.job_id)
            self._rights.show_revision(grant.revision)
        workspace = self._volume.prepare_workspace(grant.job_id, grant.revision)
        if self._rights is not None:
            self._rights.give_folder(workspace)
        if len(self._workspaces) >= _WORKSPACES:
            del self._workspaces[next(iter(self._workspaces))]
        self._workspaces[grant.job_id] = None

    def _make_places(self, prepared: PreparedGrant, task: GrantedTask) -> tuple[Places, str | None]:
        """Return an attempt's paths, and the parent of its folder if another attempt may reuse the folder."""
        recipe = prepared.recipe
        if recipe.workdir == "job" and not recipe.spawns:
            folder = self._folders.take_folder(prepared.attempts_folder, prepared.compiled.files)
            return Places(folder, prepared.workspace), prepared.attempts_folder
        folder = f"{prepared.stage_folder}/{entry_name(task.index, task.attempt)}"
        name, working = self._volume.relative_name(folder), prepared.workspace
        if recipe.workdir == "task":
            working = self._volume.prepare_attempt(name, prepared.grant.revision)
        else:
            self._volume.make_folder(name)
        if self._rights is not None:
            self._rights.give_folder(folder)
        self._folders.write_files(folder, prepared.compiled.files)
        if recipe.spawns and not recipe.shares_folder:
            spawnfile.remove_stale(self._volume, self._volume.relative_name(working))
        return Places(folder, working), None

    def _explain_error(self, error: OSError, prepared: PreparedGrant) -> CannotStart:
        """Return the error for a failed operation on the volume: the tasks', or the worker's fault."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return CannotStart(f"the volume is full: {describe_error(error)}")
        try:
            self._volume.check_present()
        except VolumeUnavailable as reason:
            return CannotStart(str(reason), worker_fault=True)
        for folder in (prepared.workspace, prepared.stage_folder):
            damage = self._volume.find_damage(self._volume.relative_name(folder))
            if damage is not None:
                return CannotStart(damage)
        return CannotStart(f"the worker cannot prepare the attempt: {error}", worker_fault=True)
