"""What a task that ended well has left for the engine: its result, and the items of a spawn task."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Final

from echelon.shared.messages import Outcome
from echelon.shared.volume import Volume
from echelon.shared.volume.beneath import REFUSED, NotRegular
from echelon.worker import spawnfile
from echelon.worker.attempt import Attempt, Ending, told
from echelon.worker.spawnfile import Limits, SpawnInvalid

#: Longest result, in bytes.
RESULT_LIMIT: Final = 64 * 1024


def with_result(volume: Volume, attempt: Attempt, ending: Ending) -> Ending:
    """Return the ending with what the task wrote to ECHELON_OUTPUT; a result that cannot be used fails it."""
    try:
        found = volume.open_regular(_name(volume, attempt.places.output))
    except FileNotFoundError:
        return ending
    except NotRegular as error:
        return _failed(ending, f"what lies at $ECHELON_OUTPUT {error.strerror}; it has to be a plain file")
    except OSError as error:
        if error.errno in REFUSED:
            return _failed(ending, "what lies at $ECHELON_OUTPUT is no plain file")
        return _failed(ending, f"the result at $ECHELON_OUTPUT cannot be read: {told(error)}")
    with found.file:
        data = found.file.read(RESULT_LIMIT + 1)
    if len(data) > RESULT_LIMIT:
        return _failed(
            ending, f"the result at $ECHELON_OUTPUT is longer than {RESULT_LIMIT} bytes: leave a file instead"
        )
    return replace(ending, result=data.decode("utf-8", "replace"))


def with_items(volume: Volume, attempt: Attempt, ending: Ending, limits: Limits) -> Ending:
    """Return the ending of a spawn task with the items that it left, or what is wrong with them."""
    prepared = attempt.prepared
    try:
        spawned = spawnfile.take_in(
            volume,
            attempt_path=_name(volume, attempt.places.folder),
            working_path=_name(volume, attempt.places.working),
            limits=replace(limits, items=prepared.recipe.max_items),
            secrets=spawnfile.Secrets(prepared.recipe.item_secret, prepared.seal),
        )
    except SpawnInvalid as error:
        return Ending(Outcome.SPAWN_INVALID, ending.exit, str(error), ending.result)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        outcome = Outcome.FAILED if full else Outcome.WORKER_FAULT
        return Ending(outcome, ending.exit, f"the items of {spawnfile.NAME} cannot be kept: {told(error)}")
    return replace(ending, spawned=spawned)


def _failed(ending: Ending, error: str) -> Ending:
    """Return a failure in the place of success; what has failed already has a better reason."""
    return replace(ending, outcome=Outcome.FAILED, error=error) if ending.outcome is Outcome.COMPLETED else ending


def _name(volume: Volume, path: str) -> str:
    return path[len(volume.root) + 1 :]
