"""A volume as a folder of this machine: a disk, a network mount, a bind mount.

Safe for any thread. Paths are strings, for the worker's hot path makes thousands of them a second.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import secrets
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, Self

from echelon.shared.errors import Conflict, InvalidInput, NotFound, VolumeUnavailable
from echelon.shared.failpoints import failpoint
from echelon.shared.ids import JobId
from echelon.shared.volume import artefacts, beneath, bundles, durable, layout, publishing, removal
from echelon.shared.volume.artefacts import StoredArtefact
from echelon.shared.volume.layout import FOLDER_MODE

log = logging.getLogger(__name__)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MARK = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file opened to read; the caller closes it."""

    file: BinaryIO
    #: Bytes at the moment of opening.
    size: int
    #: Seconds since the Unix epoch.
    modified_at: float | None


class Volume:
    """One shared volume. Made by `create` or `open`."""

    def __init__(self, root: str, volume_id: str) -> None:
        self.root = root
        #: Tells this volume from any other, and from an empty mount point.
        self.volume_id = volume_id
        self._bundle = functools.lru_cache(maxsize=64)(self._read_bundle)

    @classmethod
    def create(cls, root: str | os.PathLike[str]) -> Self:
        """Open a volume, making it first when there is none at this place."""
        path = os.path.abspath(root)
        try:
            os.makedirs(os.path.join(path, layout.ENGINE), FOLDER_MODE, exist_ok=True)
            for name in ("jobs", layout.REVISIONS):
                os.makedirs(os.path.join(path, name), FOLDER_MODE, exist_ok=True)
            marker = os.path.join(path, layout.MARKER)
            if not os.path.exists(marker):
                failpoint("volume.before_marker")
                durable.write_bytes(marker, f"{uuid.uuid4()}\n".encode(), replace=False)
                failpoint("volume.after_marker")
        except OSError as error:
            raise VolumeUnavailable(f"cannot make a volume at {path}: {error.strerror}") from error
        return cls.open(path)

    @classmethod
    def open(cls, root: str | os.PathLike[str]) -> Self:
        """Open a volume that exists; raise VolumeUnavailable when there is none."""
        path = os.path.abspath(root)
        return cls(path, _read_marker(path))

    def check_present(self) -> None:
        """Raise VolumeUnavailable when the volume is gone, has been swapped for another or cannot be written to."""
        found = _read_marker(self.root)
        if found != self.volume_id:
            raise VolumeUnavailable(f"{self.root} is another volume now: {found} instead of {self.volume_id}")
        if os.statvfs(self.root).f_flag & os.ST_RDONLY:
            raise VolumeUnavailable(f"the volume at {self.root} is mounted read-only")

    def absolute_path(self, name: str) -> str:
        """Return the path on this machine of a name that is relative to the volume."""
        return f"{self.root}/{name}"

    def relative_name(self, path: str) -> str:
        """Return the name, relative to the volume, of an absolute path in it."""
        return path[len(self.root) + 1 :]

    # --- jobs -------------------------------------------------------------------------------------------------------

    def prepare_workspace(self, job_id: JobId, revision: str) -> str:
        """Make a job's workspace, with the revision's files in it, and return its absolute path. Repeats do no harm."""
        with self.enter_folder(layout.job_name(job_id), make=True) as job:
            if not _is_file(job, "prepared"):
                # Nearly every attempt gets a folder in there: asked for later, that would be found out by failing.
                beneath.make_folder(job, "attempts", FOLDER_MODE)
                beneath.make_folder(job, "work", FOLDER_MODE)
                with _closing_fd(beneath.open_beneath(job, "work", beneath.FOLDER)) as workspace:
                    bundle = self._bundle(revision)
                    if bundle.folders or bundle.files:
                        bundles.link_into(workspace, bundle, way=f"../../../{_files_path(revision)}")
                        # Without files there is nothing that a task could remove and another process would restore.
                        os.close(os.open("prepared", _MARK, 0o640, dir_fd=job))
        return self.absolute_path(layout.workspace_name(job_id))

    def prepare_attempt(self, attempt_path: str, revision: str) -> str:
        """Make the working directory of an attempt that does not run in the workspace; return its absolute path."""
        name = f"{attempt_path}/work"
        with self.enter_folder(name, make=True) as folder:
            bundles.link_into(folder, self._bundle(revision), way=f"../../../../../../{_files_path(revision)}")
        return self.absolute_path(name)

    def publish_files(self, job_id: JobId, attempt_path: str) -> tuple[str, ...]:
        """Move the files of an attempt that counts into the workspace; repeats do no harm, nor do several at once.

        Returns the paths that could not be moved: a folder of the workspace stands in their place, a folder on the way
        is another user's, or something else stands in the place of the workspace. "." stands for all files.
        """
        return self._visit_files(job_id, attempt_path, publishing.merge_folders)

    def find_hindered(self, job_id: JobId, attempt_path: str) -> tuple[str, ...]:
        """Return the paths that `publish_files` would return now, and move nothing."""
        return self._visit_files(job_id, attempt_path, publishing.find_hindered)

    def _visit_files(self, job_id: JobId, attempt_path: str, visit: Callable[[int, int], list[str]]) -> tuple[str, ...]:
        """Call `visit` with the open folders of an attempt and of its job's workspace; return what it returns."""
        if not attempt_path.startswith(f"{layout.job_name(job_id)}/attempts/"):
            raise InvalidInput(f"{attempt_path!r} is not an attempt of job {job_id}")
        with _translate_errors("publish files"):
            name = f"{attempt_path}/work"
            source = self._folder_if_there(name, unlock=True)
            if source is None:
                return (".",) if self.find_damage(name) else ()
            with _closing_fd(source):
                target = self._open_workspace(job_id)
                if target is None:
                    return tuple(sorted(os.listdir(source)))
                with _closing_fd(target):
                    return tuple(visit(source, target))

    def _open_workspace(self, job_id: JobId) -> int | None:
        """Open the workspace, made again if a task has removed it; None: something else stands in its place."""
        found = self._folder_if_there(layout.workspace_name(job_id), unlock=True)
        if found is None:
            # Within the job's folder: a job that is being removed does not come back.
            with suppress(OSError), self.enter_folder(layout.job_name(job_id)) as job:
                beneath.make_folder(job, "work", FOLDER_MODE)
                found = beneath.open_beneath(job, "work", beneath.FOLDER)
        return found

    def remove_job(self, job_id: JobId) -> None:
        """Remove everything that a job has on the volume, whatever tasks have made of it; repeats do no harm."""
        name = layout.job_name(job_id)
        with _translate_errors("remove a job"), self.enter_folder(layout.TRASH, make=True) as trash:
            try:
                self._throw_away(name, trash)
            except PermissionError:
                with self.enter_folder("jobs") as jobs:
                    beneath.unlock_folder(jobs, job_id)
                self._throw_away(name, trash)
            try:
                removal.empty_folder(trash)
            except OSError as error:
                # The job is gone. The next removal tries again.
                log.warning("%s cannot be emptied: %s", self.absolute_path(layout.TRASH), error)

    def measure_job(self, job_id: JobId) -> int:
        """Return the bytes of all files of a job: workspace, logs and folders of attempts."""
        return removal.measure_tree(self.absolute_path(layout.job_name(job_id)))

    def _throw_away(self, name: str, trash: int) -> None:
        with suppress(FileNotFoundError):
            os.rename(self.absolute_path(name), secrets.token_hex(8), dst_dir_fd=trash)

    # --- files ------------------------------------------------------------------------------------------------------

    def install_files(self, revision: str, folder: str | os.PathLike[str] | None) -> None:
        """Keep what a catalogue brings along under its revision, once; None: it brings nothing.

        Raises InvalidInput for what cannot be brought along.
        """
        with _translate_errors("install a catalogue's files"):
            bundles.install_bundle(
                None if folder is None else os.fspath(folder), self.absolute_path(_files_path(revision))
            )

    def atomic_write(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        """Write a file so that readers see all of it or nothing; raise OSError, also when it is behind a link."""
        above, _, last = name.rpartition("/")
        with self.enter_folder(above) as folder:
            durable.write_file(last, write, folder=folder)

    def open_regular(self, name: str, *, single_link: bool = False) -> OpenFile:
        """Open a file that a task may have planted; raise OSError, also when it is no regular file or behind a link."""
        with _closing_fd(os.open(self.root, _FOLDER)) as root:
            fd, status = beneath.open_regular(root, name, single_link=single_link)
        return OpenFile(os.fdopen(fd, "rb"), status.st_size, artefacts.show_time(status.st_mtime))

    def open_artefact(self, job_id: JobId, path: str) -> OpenFile:
        """Open one of a job's files by its path in the workspace; raise NotFound."""
        found = self._find_file(f"{layout.workspace_name(job_id)}/{path}") if _is_plain(path) else None
        if found is None:
            raise NotFound(f"job {job_id} has no artefact {path!r}")
        return found

    def list_artefacts(self, job_id: JobId, *, after: str = "", limit: int) -> list[StoredArtefact]:
        """Return up to `limit` of a job's files whose paths sort behind `after`, in the order of their paths."""
        return self.find_artefacts(job_id, after=after, limit=limit).files

    def find_artefacts(self, job_id: JobId, *, after: str = "", limit: int) -> artefacts.FoundArtefacts:
        """Return these files, with the number of entries between them that are none.

        Raises Conflict when tasks have made something else of the workspace.
        """
        name = layout.workspace_name(job_id)
        with _translate_errors("list artefacts"):
            workspace = self._folder_if_there(name)
            if workspace is not None:
                with _closing_fd(workspace):
                    return artefacts.find_files(workspace, after=after, limit=limit)
        damage = self.find_damage(name)
        if damage is not None:
            raise Conflict(f"the files of job {job_id} cannot be listed: {damage}")
        return artefacts.FoundArtefacts([], 0, more=False)

    def iterate_artefacts(self, job_id: JobId) -> Iterator[StoredArtefact]:
        """Yield all of a job's files by path, in one walk; raises Conflict as `find_artefacts` does."""
        name = layout.workspace_name(job_id)
        with _translate_errors("list artefacts"):
            workspace = self._folder_if_there(name)
            if workspace is not None:
                with _closing_fd(workspace):
                    yield from artefacts.iterate_files(workspace)
                return
        damage = self.find_damage(name)
        if damage is not None:
            raise Conflict(f"the files of job {job_id} cannot be listed: {damage}")

    def open_log(self, job_id: JobId, stage: int, index: int, attempt: int, stream: layout.Stream) -> BinaryIO | None:
        """Open what an attempt has printed so far; None when that is nothing. Index -1 is the spawn task."""
        found = self._find_file(layout.log_name(job_id, stage, index, attempt, stream))
        return None if found is None else found.file

    def open_items(self, name: str, offset: int = 0) -> BinaryIO:
        """Open the checked items of a spawn.json, at an offset in bytes: one JSON object per line; raise OSError."""
        file = self.open_regular(name).file
        file.seek(offset)
        return file

    def _find_file(self, name: str) -> OpenFile | None:
        try:
            return self.open_regular(name)
        except OSError as error:
            if error.errno in beneath.REFUSED or error.errno in (errno.EACCES, errno.EPERM):
                return None
            raise VolumeUnavailable(f"cannot open {name}: {error.strerror}") from error

    def make_folder(self, name: str) -> None:
        """Make a folder, with no link on the way, if it does not exist; raise OSError."""
        os.close(self._open_folder(name, FOLDER_MODE))

    @contextmanager
    def enter_folder(self, name: str, *, make: bool = False) -> Iterator[int]:
        """Open a folder, with no link on the way, for as long as the context lasts; raise OSError.

        With `make`, folders that are missing are made.
        """
        with _closing_fd(self._open_folder(name, FOLDER_MODE if make else None)) as folder:
            yield folder

    def find_damage(self, name: str) -> str | None:
        """Say what tasks have made of a folder of a job, or of one above it; None: nothing that is seen."""
        jobs, _, inner = name.partition("/")
        with self.enter_folder(jobs) as folder:
            found = beneath.find_obstacle(folder, inner)
        return None if found is None else f"a task of the job has changed its folders: {jobs}/{found}"

    def _open_folder(self, name: str, make: int | None = None) -> int:
        with _closing_fd(os.open(self.root, _FOLDER)) as root:
            return beneath.open_folder(root, name, make=make)

    def _folder_if_there(self, name: str, *, unlock: bool = False) -> int | None:
        """Open a folder; None when tasks have taken it away, but not because the whole volume is missing.

        With `unlock`, folders that tasks have locked are unlocked.
        """
        try:
            with _closing_fd(os.open(self.root, _FOLDER)) as root:
                return beneath.open_unlocked(root, name) if unlock else beneath.open_folder(root, name)
        except OSError as error:
            if error.errno not in beneath.REFUSED and self.find_damage(name) is None:
                raise
            self.check_present()
            return None

    def _read_bundle(self, revision: str) -> bundles.Bundle:
        return bundles.read_bundle(self.absolute_path(_files_path(revision)))


def _is_file(folder: int, name: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _files_path(revision: str) -> str:
    return f"{layout.revision_name(revision)}/files"


def _is_plain(path: str) -> bool:
    """Tell whether a path is one that a listing could have named."""
    return "\0" not in path and artefacts.is_printable(path) and {"", ".", ".."}.isdisjoint(path.split("/"))


def _read_marker(root: str) -> str:
    try:
        with open(os.path.join(root, layout.MARKER), encoding="ascii", errors="replace") as file:
            return file.read(100).strip()
    except OSError as error:
        raise VolumeUnavailable(
            f"{root} is not an Echelon volume: cannot read {layout.MARKER} ({error.strerror}). Is it mounted?"
        ) from error


@contextmanager
def _closing_fd(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _translate_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise VolumeUnavailable(f"the volume could not {what}: {error}") from error
