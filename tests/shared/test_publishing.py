"""Publishing: files of an attempt move into the workspace, and nothing that a task does keeps it from going on."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from echelon.shared.errors import InvalidInput, VolumeUnavailable
from echelon.shared.volume import Volume, attempt_name, workspace_name
from tests.shared.spoiling import without_overlooking_modes
from tests.shared.test_volume import JOB, OTHER, bring


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume.create(tmp_path / "volume")


@pytest.fixture
def work(volume: Volume) -> Path:
    return Path(volume.prepare_workspace(JOB, "r1"))


def attempt_with(volume: Volume, number: int, files: dict[str, str]) -> str:
    attempt = attempt_name(JOB, 0, 0, number)
    folder = Path(volume.prepare_attempt(attempt, "r1"))
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return attempt


def paths(volume: Volume) -> list[str]:
    return [artefact.path for artefact in volume.list_artefacts(JOB, limit=100)]


def test_published_files_join_those_that_are_there(volume: Volume, work: Path) -> None:
    (work / "out").mkdir()
    (work / "out/old.txt").write_text("old")
    (work / "out/both.txt").write_text("old")
    attempt = attempt_with(volume, 1, {"out/new.txt": "new", "out/both.txt": "new", "own/a/b.txt": "x"})

    assert volume.publish_files(JOB, attempt) == ()
    assert volume.publish_files(JOB, attempt) == ()

    assert paths(volume) == ["out/both.txt", "out/new.txt", "out/old.txt", "own/a/b.txt"]
    assert (work / "out/both.txt").read_text() == "new"


def test_publishing_never_follows_a_link_out_of_the_job(volume: Volume, work: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (work / "out").symlink_to(outside)
    attempt = attempt_with(volume, 1, {"out/a.txt": "a"})

    volume.publish_files(JOB, attempt)

    assert os.listdir(outside) == []
    assert (work / "out/a.txt").read_text() == "a"


def test_a_file_never_takes_the_place_of_a_folder(volume: Volume, work: Path) -> None:
    (work / "name").mkdir()
    (work / "name/kept.txt").write_text("kept")
    attempt = attempt_with(volume, 1, {"name": "a file", "other": "x"})

    assert volume.publish_files(JOB, attempt) == ("name",)

    assert paths(volume) == ["name/kept.txt", "other"]


def test_links_to_the_catalogues_files_are_not_published(volume: Volume, tmp_path: Path) -> None:
    bring(volume, tmp_path)
    volume.prepare_workspace(JOB, "r1")
    attempt = attempt_with(volume, 1, {"lib/made.txt": "x"})

    volume.publish_files(JOB, attempt)

    work = Path(volume.root, workspace_name(JOB))
    assert (work / "lib/deep/data.txt").read_text() == "data"
    assert paths(volume) == ["lib/made.txt"]


def test_two_may_publish_the_same_attempt_at_once(volume: Volume, work: Path) -> None:
    left: list[tuple[str, ...]] = []
    for number in range(1, 21):
        files = {f"{number}/{place % 7}/{place}.txt": "x" for place in range(60)}
        (work / f"{number}/3").mkdir(parents=True)
        attempt = attempt_with(volume, number, files)
        together = threading.Barrier(3)

        def publish(attempt: str = attempt, together: threading.Barrier = together) -> None:
            together.wait()
            left.append(volume.publish_files(JOB, attempt))

        threads = [threading.Thread(target=publish) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(len(files) for _, _, files in os.walk(work / str(number))) == 60

    assert left == [()] * 60


def test_folders_that_a_task_made_read_only_are_published(volume: Volume, work: Path) -> None:
    (work / "cache").mkdir()
    attempt = attempt_with(volume, 1, {"cache/inner/a.txt": "a", "b.txt": "b"})
    folder = Path(volume.root, attempt, "work")
    for name in ("cache/inner", "cache", "."):
        (folder / name).chmod(0o555)

    assert volume.publish_files(JOB, attempt) == ()

    assert paths(volume) == ["b.txt", "cache/inner/a.txt"]


def test_an_attempt_of_another_job_is_not_published(volume: Volume, work: Path) -> None:
    with pytest.raises(InvalidInput):
        volume.publish_files(JOB, attempt_name(OTHER, 0, 0, 1))
    with pytest.raises(InvalidInput):
        volume.publish_files(JOB, "../../etc")


def test_files_stay_where_they_are_while_the_volume_is_away(volume: Volume, work: Path) -> None:
    attempt = attempt_with(volume, 1, {"a.txt": "a"})
    away = Path(f"{volume.root}.away")
    os.rename(volume.root, away)
    os.mkdir(volume.root)

    with pytest.raises(VolumeUnavailable):
        volume.publish_files(JOB, attempt)

    os.rmdir(volume.root)
    os.rename(away, volume.root)
    assert volume.publish_files(JOB, attempt) == ()
    assert paths(volume) == ["a.txt"]


@pytest.mark.parametrize("mode", [0o555, 0o000])
@pytest.mark.parametrize("side", ["attempt", "workspace"])
@pytest.mark.parametrize("name", [".", "d", "d/e"])
def test_folders_that_tasks_have_locked_keep_no_file_back(
    volume: Volume, work: Path, side: str, name: str, mode: int
) -> None:
    attempt = attempt_with(volume, 1, {"d/e/new.txt": "new", "d/e/both.txt": "new"})
    if side == "workspace":
        (work / "d/e").mkdir(parents=True)
        (work / "d/e/both.txt").write_text("old")
    (Path(volume.root, attempt, "work") if side == "attempt" else work).joinpath(name).chmod(mode)

    with without_overlooking_modes():
        assert volume.find_hindered(JOB, attempt) == ()
        assert volume.publish_files(JOB, attempt) == ()

    work.joinpath("d/e").chmod(0o700)
    assert paths(volume) == ["d/e/both.txt", "d/e/new.txt"]
    assert (work / "d/e/both.txt").read_text() == "new"


def test_what_cannot_be_published_is_known_before(volume: Volume, work: Path) -> None:
    for name in ("name", "in/both", "in/same"):
        (work / name).mkdir(parents=True)
    (work / "file").write_text("to be replaced")
    attempt = attempt_with(volume, 1, {"name": "x", "in/both": "x", "in/same/a": "x", "file": "x", "other": "x"})
    os.mkfifo(Path(volume.root, attempt, "work", "fifo"))

    assert volume.find_hindered(JOB, attempt) == ("in/both", "name")
    assert paths(volume) == ["file"], "it only looks"
    assert volume.publish_files(JOB, attempt) == ("in/both", "name")


def test_a_workspace_that_a_task_has_removed_is_made_again(volume: Volume, work: Path) -> None:
    shutil.rmtree(work)

    assert volume.publish_files(JOB, attempt_with(volume, 1, {"a.txt": "a", "b/c.txt": "c"})) == ()

    assert paths(volume) == ["a.txt", "b/c.txt"]


def test_a_workspace_that_tasks_have_replaced_by_a_link_gets_no_files_and_that_is_told(
    volume: Volume, work: Path, tmp_path: Path
) -> None:
    shutil.rmtree(work)
    work.symlink_to(tmp_path)
    attempt = attempt_with(volume, 1, {"a.txt": "a", "b/c.txt": "c"})

    assert volume.find_hindered(JOB, attempt) == ("a.txt", "b")
    assert volume.publish_files(JOB, attempt) == ("a.txt", "b")
    assert not (tmp_path / "a.txt").exists()


@pytest.mark.parametrize("before", ["file", "link"])
def test_a_published_folder_that_replaces_something_keeps_its_owner(volume: Volume, work: Path, before: str) -> None:
    if before == "file":
        (work / "d").write_text("x")
    else:
        (work / "d").symlink_to("/tmp")
    attempt = attempt_with(volume, 1, {"d/x": "x"})
    made = Path(volume.root, attempt, "work/d").stat()

    assert volume.publish_files(JOB, attempt) == ()

    there = (work / "d").stat()
    assert (there.st_ino, there.st_uid, there.st_mode) == (made.st_ino, made.st_uid, made.st_mode)
