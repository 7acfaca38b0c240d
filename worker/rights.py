"""Lets tasks run as another user, who can enter the folders of his own job and no others.

Every job has a group of its own, which is only a number: the folder of the job lets this group in and no other user.
A task runs with its job's group as its primary one, so it cannot look into the processes of other jobs either. The
workspace and the folders of attempts belong to the user of tasks; everything else stays the engine's.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from dataclasses import dataclass
from typing import Final

from echelon.shared.errors import InvalidInput
from echelon.shared.ids import JobId
from echelon.shared.volume import Volume
from echelon.shared.volume.layout import REVISIONS, job_name, revision_name

#: The groups of jobs are the numbers from here on, as many: no user of a system has these.
_GROUPS: Final = 1 << 30
#: A folder that others may pass through but not list.
_PASSABLE: Final = 0o711


@dataclass(frozen=True, slots=True)
class TaskUser:
    """The user that tasks run as."""

    name: str
    uid: int
    #: The supplementary group of tasks, which may enter the folders of catalogues' files.
    gid: int
    home: str


def find_task_user(text: str, *, root: str) -> TaskUser:
    """Return the user that `USER` or `USER:GROUP` names; raise InvalidInput if tasks cannot run as that user.

    `root`: the folder of the volume.
    """
    name, _, group = text.partition(":")
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise InvalidInput(f"task_user: this machine has no user {name!r}") from None
    try:
        gid = grp.getgrnam(group).gr_gid if group else found.pw_gid
    except KeyError:
        raise InvalidInput(f"task_user: this machine has no group {group!r}") from None
    if found.pw_uid == 0 or gid == 0:
        raise InvalidInput(f"task_user: {text!r} is root, who can read everything: name another user and group")
    if os.geteuid() != 0:
        raise InvalidInput("task_user: only root can start tasks as another user: start the engine as root")
    _check_passable(root, name)
    return TaskUser(name, found.pw_uid, gid, found.pw_dir)


def _check_passable(root: str, name: str) -> None:
    above = os.path.dirname(root)
    while above != os.path.dirname(above):
        mode = stat.S_IMODE(os.stat(above).st_mode)
        if not mode & stat.S_IXOTH:
            raise InvalidInput(
                f"task_user: {name} cannot reach the volume, because {above} has mode {mode:03o}: let others pass"
                f" through it (chmod o+x {above}), or move the volume"
            )
        above = os.path.dirname(above)


def group_of(job_id: JobId) -> int:
    """Return the number of a job's group."""
    return _GROUPS + int(job_id.replace("-", "")[:15], 16) % _GROUPS


class Rights:
    """Gives the user of tasks what they need on the volume. One thread uses it; all methods raise OSError."""

    def __init__(self, volume: Volume, user: TaskUser, temporary: str) -> None:
        self._volume, self.user, self._temporary = volume, user, temporary
        self._revisions: set[str] = set()

    def open_job(self, job_id: JobId) -> None:
        """Let the tasks of a job pass through to its folder; call it before its workspace is made."""
        for path in (self._volume.root, self._volume.absolute_path("jobs"), self._volume.absolute_path(REVISIONS)):
            os.chmod(path, _PASSABLE)
        self._make_temporary(job_id)
        with self._volume.enter_folder(job_name(job_id), make=True) as folder:
            os.fchown(folder, -1, group_of(job_id))
            # What is made in there gets the group of the job as well.
            os.fchmod(folder, 0o2750)

    def temporary_of(self, job_id: JobId) -> str:
        """Return the path of the TMPDIR of a job's tasks."""
        return f"{self._temporary}/{job_id}"

    def _make_temporary(self, job_id: JobId) -> None:
        """Make the TMPDIR of a job. The folders above it are the engine's, so that no task can replace one."""
        path = self.temporary_of(job_id)
        os.makedirs(path, 0o700, exist_ok=True)
        for above in (os.path.dirname(self._temporary), self._temporary):
            os.chmod(above, _PASSABLE)
        # The group alone lets tasks in: all jobs have the same user.
        os.chown(path, -1, group_of(job_id))
        os.chmod(path, 0o2770)

    def give_folder(self, path: str) -> None:
        """Give a new folder, and the folders in it, to the user of tasks."""
        with self._volume.enter_folder(self._volume.relative_name(path)) as top:
            if os.fstat(top).st_uid != self.user.uid:
                for _, _, _, folder in os.fwalk(".", topdown=False, dir_fd=top):
                    os.fchown(folder, self.user.uid, -1)

    def show_revision(self, revision: str) -> None:
        """Let the user of tasks read the files of a catalogue."""
        if revision in self._revisions:
            return
        # A catalogue without files may have no folder.
        with contextlib.suppress(FileNotFoundError), self._volume.enter_folder(revision_name(revision)) as top:
            for _, _, _, folder in os.fwalk(".", dir_fd=top):
                os.fchown(folder, -1, self.user.gid)
            self._revisions.add(revision)
