"""The outputs of an attempt for the engine: its result, the items of a spawn task, and whether its files fit."""

from __future__ import annotations

import errno
from typing import Final

from msgspec.structs import replace

from echelon.shared.errors import VolumeUnavailable
from echelon.shared.messages import Outcome
from echelon.shared.volume import Volume
from echelon.shared.volume.beneath import REFUSED, NotRegular
from echelon.worker import spawnfile
from echelon.worker.attempt import AttemptEnd, StartedAttempt, describe_error
from echelon.worker.spawnfile import Limits, SpawnInvalid

#: Size limit of a result, in bytes.
RESULT_LIMIT: Final = 64 * 1024
#: Paths that an error names.
_NAMED: Final = 5


def add_result(volume: Volume, attempt: StartedAttempt, ending: AttemptEnd) -> AttemptEnd:
    """Return the end with the result that the task wrote to ECHELON_OUTPUT; an unusable result makes it a failure."""
    try:
        found = volume.open_regular(volume.relative_name(attempt.places.output_file))
    except FileNotFoundError:
        return ending
    except NotRegular as error:
        return _mark_failed(ending, f"the file at $ECHELON_OUTPUT {error.strerror}; it must be a plain file")
    except OSError as error:
        if error.errno in REFUSED:
            return _mark_failed(ending, "the file at $ECHELON_OUTPUT is not a plain file")
        return _mark_failed(ending, f"the result at $ECHELON_OUTPUT cannot be read: {describe_error(error)}")
    with found.file:
        data = found.file.read(RESULT_LIMIT + 1)
    if len(data) > RESULT_LIMIT:
        return _mark_failed(
            ending, f"the result at $ECHELON_OUTPUT is longer than {RESULT_LIMIT} bytes: leave a file instead"
        )
    return replace(ending, result=data.decode("utf-8", "replace"))


def add_spawned_items(volume: Volume, attempt: StartedAttempt, ending: AttemptEnd, limits: Limits) -> AttemptEnd:
    """Return the end of a spawn task with its items, or with the error in them."""
    prepared = attempt.prepared
    try:
        spawned = spawnfile.keep_items(
            volume,
            attempt_path=volume.relative_name(attempt.places.folder),
            working_path=volume.relative_name(attempt.places.working),
            shared=prepared.recipe.shares_folder,
            limits=replace(limits, items=prepared.recipe.max_items),
            secrets=spawnfile.Secrets(prepared.recipe.item_secret, prepared.seal),
        )
    except SpawnInvalid as error:
        return AttemptEnd(Outcome.SPAWN_INVALID, ending.exit, str(error), ending.result)
    except OSError as error:
        damage = volume.find_damage(volume.relative_name(attempt.places.folder))
        blamed = damage is not None or error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = damage or describe_error(error)
        return AttemptEnd(
            Outcome.FAILED if blamed else Outcome.WORKER_FAULT,
            ending.exit,
            f"the items of {spawnfile.NAME} cannot be kept: {reason}",
        )
    return replace(ending, spawned=spawned)


def check_files(volume: Volume, attempt: StartedAttempt, ending: AttemptEnd) -> AttemptEnd:
    """Return the end of a task with a folder of its own; files that cannot be published make it a failure."""
    try:
        path = volume.relative_name(attempt.places.folder)
        hindered = volume.find_hindered(attempt.prepared.grant.job_id, path)
    except VolumeUnavailable:
        # The controller publishes them when the volume is back.
        return ending
    if not hindered:
        return ending
    names = ", ".join([*hindered[:_NAMED], *(["..."] if len(hindered) > _NAMED else [])])
    return _mark_failed(
        ending,
        f"{len(hindered)} of its files or folders cannot be moved into the job's workspace: {names}. There, a folder"
        " has the name of a file, a folder is another user's or has been replaced, or the path is too deep: use another"
        " name, or remove what is in the way in an earlier task",
    )


def _mark_failed(ending: AttemptEnd, error: str) -> AttemptEnd:
    """Return a failure instead of success; an attempt that has failed keeps its own reason."""
    return replace(ending, outcome=Outcome.FAILED, error=error) if ending.outcome is Outcome.COMPLETED else ending
