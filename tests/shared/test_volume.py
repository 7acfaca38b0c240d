"""The volume: layout, durable writes, and nothing that a task plants leads anywhere."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from echelon.shared.errors import Conflict, InvalidInput, NotFound, VolumeUnavailable
from echelon.shared.ids import JobId
from echelon.shared.volume import Volume, attempt_name, beneath, log_name, workspace_name

JOB = JobId("7c1a1c0e-6a53-4f7e-9d4e-0d8a3f3b1c11")
OTHER = JobId("7c1a1c0e-6a53-4f7e-9d4e-0d8a3f3b1c12")


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume.create(tmp_path / "volume")


@pytest.fixture
def work(volume: Volume) -> Path:
    return Path(volume.prepare_workspace(JOB, "r1"))


def writer_of(content: bytes) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        file.write(content)

    return write


@pytest.fixture(params=["openat2", "walk"])
def way_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "walk":

        def missing(*_: object) -> int:
            ctypes.set_errno(errno.ENOSYS)
            return -1

        monkeypatch.setattr(beneath, "_syscall", missing)
    return str(request.param)


# --- the marker -----------------------------------------------------------------------------------------------------


def test_a_volume_is_the_same_when_it_is_made_again(volume: Volume) -> None:
    again = Volume.create(volume.root)

    assert again.volume_id == volume.volume_id
    volume.check_present()


def test_a_volume_made_by_many_at_once_has_one_identity(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(Volume.create(tmp_path / "v").volume_id)) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1


def test_an_empty_mount_point_is_no_volume(tmp_path: Path) -> None:
    with pytest.raises(VolumeUnavailable, match="Is it mounted"):
        Volume.open(tmp_path)


def test_a_volume_that_vanished_or_was_swapped_is_noticed(volume: Volume) -> None:
    marker = Path(volume.root, ".echelon/volume-id")
    marker.write_text("another\n")
    with pytest.raises(VolumeUnavailable, match="another volume"):
        volume.check_present()

    marker.unlink()
    with pytest.raises(VolumeUnavailable, match="Is it mounted"):
        volume.check_present()


# --- names ----------------------------------------------------------------------------------------------------------


def test_names_are_relative_to_the_volume() -> None:
    assert workspace_name(JOB) == f"jobs/{JOB}/work"
    assert attempt_name(JOB, 2, 17, 3) == f"jobs/{JOB}/attempts/2/17-3"
    assert attempt_name(JOB, 0, -1, 1) == f"jobs/{JOB}/attempts/0/spawn-1"
    assert log_name(JOB, 2, 17, 3, "stderr") == f"jobs/{JOB}/attempts/2/17-3.stderr"


@pytest.mark.parametrize("wrong", ["", "..", "../../etc", JOB.upper(), f"{JOB}/x", f"{{{JOB}}}"])
def test_what_is_no_job_id_is_refused(volume: Volume, wrong: str) -> None:
    with pytest.raises(InvalidInput):
        volume.list_artefacts(JobId(wrong), limit=1)


# --- workspaces and what catalogues bring along ---------------------------------------------------------------------


def bring(volume: Volume, tmp_path: Path, revision: str = "r1") -> Path:
    files = tmp_path / "files"
    (files / "lib" / "deep").mkdir(parents=True)
    (files / "run.sh").write_text("#!/bin/sh\n")
    (files / "run.sh").chmod(0o755)
    (files / "lib" / "deep" / "data.txt").write_text("data")
    volume.install_files(revision, files)
    return files


def test_a_catalogues_files_are_found_in_the_workspace_but_are_no_artefacts(volume: Volume, tmp_path: Path) -> None:
    bring(volume, tmp_path)

    work = Path(volume.prepare_workspace(JOB, "r1"))

    assert (work / "lib/deep/data.txt").read_text() == "data"
    assert os.access(work / "run.sh", os.X_OK)
    assert (work / "run.sh").stat().st_mode & 0o222 == 0
    assert volume.list_artefacts(JOB, limit=10) == []


def test_links_hold_when_the_volume_is_mounted_elsewhere(volume: Volume, tmp_path: Path) -> None:
    bring(volume, tmp_path)
    volume.prepare_workspace(JOB, "r1")
    attempt = attempt_name(JOB, 0, 0, 1)
    volume.prepare_attempt(attempt, "r1")

    Path(volume.root).rename(tmp_path / "elsewhere")

    assert (tmp_path / "elsewhere" / workspace_name(JOB) / "lib/deep/data.txt").read_text() == "data"
    assert (tmp_path / "elsewhere" / attempt / "work/lib/deep/data.txt").read_text() == "data"


def test_a_revision_is_installed_once(volume: Volume, tmp_path: Path) -> None:
    files = bring(volume, tmp_path)
    (files / "later.txt").write_text("x")

    volume.install_files("r1", files)

    assert not Path(volume.root, "revisions/r1/files/later.txt").exists()
    assert sorted(os.listdir(Path(volume.root, "revisions/r1"))) == ["files"]


def test_a_catalogue_without_files_brings_none(volume: Volume, tmp_path: Path) -> None:
    volume.install_files("r1", None)
    volume.install_files("r2", tmp_path / "nowhere")

    assert os.listdir(volume.prepare_workspace(JOB, "r1")) == []
    assert os.listdir(volume.prepare_workspace(OTHER, "unheard-of")) == []
    assert sorted(os.listdir(Path(volume.root, "jobs", JOB))) == ["attempts", "work"], "there is nothing to note either"


def test_a_link_out_of_the_brought_folder_is_refused(volume: Volume, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "passwd").symlink_to("/etc/passwd")

    with pytest.raises(InvalidInput, match="leads out"):
        volume.install_files("r1", files)

    assert os.listdir(Path(volume.root, "revisions/r1")) == []


def test_preparing_again_and_at_once_does_no_harm(volume: Volume, tmp_path: Path) -> None:
    bring(volume, tmp_path)
    threads = [threading.Thread(target=volume.prepare_workspace, args=(JOB, "r1")) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work = Path(volume.prepare_workspace(JOB, "r1"))

    assert sorted(os.listdir(work)) == ["lib", "run.sh"]


# --- artefacts ------------------------------------------------------------------------------------------------------


def test_artefacts_come_page_by_page_in_the_order_of_their_paths(volume: Volume, work: Path) -> None:
    names = ["a/b", "a-b", "a.b", "a/b-c", "b", "a0", "a/c/d", "z/é"]
    for name in names:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("x" * 3)
    (work / "empty").mkdir()

    pages: list[str] = []
    after = ""
    while page := volume.list_artefacts(JOB, after=after, limit=3):
        pages += [artefact.path for artefact in page]
        after = page[-1].path

    assert pages == sorted(names)
    assert all(artefact.size == 3 for artefact in volume.list_artefacts(JOB, limit=100))


PLANTED: dict[str, Callable[[Path], object]] = {
    "a link to a file outside": lambda path: path.symlink_to("/etc/passwd"),
    "a link to a folder outside": lambda path: path.symlink_to("/etc"),
    "a FIFO": lambda path: os.mkfifo(path),
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_a_task_plants_is_neither_listed_nor_opened(volume: Volume, work: Path, what: str, way_in: str) -> None:
    PLANTED[what](work / "planted")

    assert volume.list_artefacts(JOB, limit=10) == []
    for path in ("planted", "planted/passwd"):
        with pytest.raises(NotFound):
            volume.open_artefact(JOB, path)


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../attempts", "/etc/passwd", "a//b", "./a", "a/../a", "a\0b", "a/", "..\\x", "x" * 5000, "\ud800"],
)
def test_a_path_that_no_listing_names_is_not_found(volume: Volume, work: Path, path: str, way_in: str) -> None:
    (work / "a").mkdir()

    with pytest.raises(NotFound):
        volume.open_artefact(JOB, path)


def test_an_artefact_is_opened_with_its_size(volume: Volume, work: Path, way_in: str) -> None:
    (work / "dir").mkdir()
    (work / "dir/a b.bin").write_bytes(b"\0\xff")

    opened = volume.open_artefact(JOB, "dir/a b.bin")

    with opened.file:
        assert opened.file.read() == b"\0\xff"
    assert opened.size == 2


def test_a_workspace_that_a_task_has_swapped_for_a_link_shows_nothing(volume: Volume, work: Path, way_in: str) -> None:
    work.rmdir()
    work.symlink_to("/etc")

    with pytest.raises(NotFound):
        volume.open_artefact(JOB, "passwd")
    with pytest.raises(Conflict, match="work is a symbolic link"):
        volume.list_artefacts(JOB, limit=10)


# --- logs, items, removal -------------------------------------------------------------------------------------------


def test_a_log_that_was_never_written_is_none(volume: Volume, work: Path) -> None:
    assert volume.open_log(JOB, 0, 0, 1, "stdout") is None


def test_items_are_read_from_an_offset(volume: Volume, work: Path) -> None:
    name = f"{attempt_name(JOB, 0, -1, 1)}/items.ndjson"
    os.makedirs(os.path.dirname(volume.absolute_path(name)))
    volume.atomic_write(name, writer_of(b'{"a":1}\n{"a":2}\n'))

    with volume.open_items(name, 8) as file:
        assert file.readline() == b'{"a":2}\n'
        assert file.tell() == 16


def test_a_failed_write_leaves_the_old_content(volume: Volume) -> None:
    volume.atomic_write("jobs/note", writer_of(b"old"))

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        volume.atomic_write("jobs/note", fail)

    assert Path(volume.root, "jobs/note").read_bytes() == b"old"
    assert os.listdir(Path(volume.root, "jobs")) == ["note"]


def test_a_removed_job_is_gone_even_where_a_task_locked_things_away(volume: Volume, work: Path) -> None:
    (work / "locked/inner").mkdir(parents=True)
    (work / "locked/inner/file").write_text("x")
    (work / "locked/inner").chmod(0)
    (work / "locked").chmod(0)

    volume.remove_job(JOB)
    volume.remove_job(JOB)

    assert not work.parent.exists()
    assert os.listdir(Path(volume.root, ".echelon/trash")) == []


def test_removing_a_job_spares_what_its_links_lead_to(volume: Volume, work: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    (work / "link").symlink_to(tmp_path)

    volume.remove_job(JOB)

    assert (tmp_path / "precious").exists()
