"""Where everything lies on a volume. Names only: nothing here touches a file.

``.echelon/`` is the engine's own; ``revisions/<revision>/files/`` holds what catalogues bring along; a job has
``jobs/<job id>/work/``, its workspace, and ``jobs/<job id>/attempts/<stage>/``. In there, ``<index>-<attempt>.stdout``
and ``.stderr`` hold what an attempt printed, if it did; a file of its own costs half of a folder and a file. The folder
``<index>-<attempt>/`` (``spawn-<attempt>/`` of a spawn task) is there for attempts that need one; other tasks share
``attempts/task-<random>/`` one after the other, as long as they leave it empty.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from echelon.shared.errors import InvalidInput
from echelon.shared.ids import JobId, is_uuid

ENGINE: Final = ".echelon"
MARKER: Final = f"{ENGINE}/volume-id"
KEY: Final = f"{ENGINE}/key"
TRASH: Final = f"{ENGINE}/trash"
#: The catalogues that were in force last.
CATALOGUES: Final = f"{ENGINE}/catalogues"
REVISIONS: Final = "revisions"
#: Mode of every folder that the engine makes.
FOLDER_MODE: Final = 0o750

Stream = Literal["stdout", "stderr"]
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def job_name(job_id: JobId) -> str:
    """Return the folder of a job; raise InvalidInput when the id is no UUID."""
    if not is_uuid(job_id):
        raise InvalidInput(f"{job_id!r} is not the id of a job")
    return f"jobs/{job_id}"


def workspace_name(job_id: JobId) -> str:
    """Return the folder whose content are the job's artefacts."""
    return f"{job_name(job_id)}/work"


def attempts_name(job_id: JobId) -> str:
    """Return the folder of a job's attempts."""
    return f"{job_name(job_id)}/attempts"


def stage_name(job_id: JobId, stage: int) -> str:
    """Return the folder of a stage's attempts."""
    return f"{attempts_name(job_id)}/{stage:d}"


def attempt_name(job_id: JobId, stage: int, index: int, attempt: int) -> str:
    """Return the folder of one attempt; index -1 is the spawn task."""
    return f"{stage_name(job_id, stage)}/{entry_name(index, attempt)}"


def entry_name(index: int, attempt: int) -> str:
    """Return the name of an attempt's folder within its stage's."""
    return f"spawn-{attempt:d}" if index < 0 else f"{index:d}-{attempt:d}"


def log_name(job_id: JobId, stage: int, index: int, attempt: int, stream: Stream) -> str:
    """Return the file that holds what an attempt printed."""
    if stream not in ("stdout", "stderr"):
        raise InvalidInput(f"{stream!r} is neither stdout nor stderr")
    return f"{stage_name(job_id, stage)}/{entry_name(index, attempt)}.{stream}"


def revision_name(revision: str) -> str:
    """Return the folder of a catalogue's files; raise InvalidInput when the revision cannot be a name."""
    if not _REVISION.fullmatch(revision):
        raise InvalidInput(f"{revision!r} is not the name of a revision")
    return f"{REVISIONS}/{revision}"
