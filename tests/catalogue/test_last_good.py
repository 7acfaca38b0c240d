"""A start with files that are torn, gone or not valid: the last good revision of the same files is in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from echelon.controller.catalogue.last_good import LastGood
from echelon.controller.catalogue.mistakes import CatalogueError
from echelon.controller.catalogue.watcher import CatalogueWatcher, look_at_files
from tests.catalogue.test_watcher import HeldClock, Installed, settle, text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config" / "catalogue.yaml"
    path.parent.mkdir()
    path.write_text(text("one"))
    return path


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def installed() -> Installed:
    return Installed()


def test_a_start_with_a_torn_file_goes_on_with_the_last_good_revision_and_takes_the_file_when_it_is_mended(
    file: Path, installed: Installed, clock: HeldClock, tmp_path: Path
) -> None:
    last_good = LastGood(tmp_path / "volume", [file])
    good = CatalogueWatcher([file], last_good.keep_catalogue).current
    file.write_text(text("two")[:12])

    watcher = CatalogueWatcher([file], installed, clock=clock, last_good=last_good.read_catalogue)
    assert watcher.current == good
    assert [mistake.file for mistake in watcher.mistakes] == [str(file)]
    assert installed.revisions == [], "its files lie on the volume already"

    file.write_text(text("two"))
    settle(watcher, clock)
    watcher.close()
    assert watcher.current.tasks["t"].exec_command == "two"
    assert watcher.mistakes == ()


def test_a_start_without_the_file_goes_on_with_the_last_good_revision(
    file: Path, installed: Installed, tmp_path: Path
) -> None:
    last_good = LastGood(tmp_path, [file])
    good = CatalogueWatcher([file], last_good.keep_catalogue).current
    file.unlink()

    assert CatalogueWatcher([file], installed, last_good=last_good.read_catalogue).current == good


def test_the_last_good_revision_of_other_files_is_no_way_out(file: Path, installed: Installed, tmp_path: Path) -> None:
    other = file.with_name("other.yaml")
    other.write_text("tasks: [")
    CatalogueWatcher([file], LastGood(tmp_path, [file]).keep_catalogue)

    with pytest.raises(CatalogueError):
        CatalogueWatcher([other], installed, last_good=LastGood(tmp_path, [other]).read_catalogue)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"revision": 1}'])
def test_a_last_good_revision_that_cannot_be_read_is_none(file: Path, tmp_path: Path, content: bytes) -> None:
    last_good = LastGood(tmp_path, [file])
    CatalogueWatcher([file], last_good.keep_catalogue)
    (kept,) = (tmp_path / ".echelon" / "catalogues").iterdir()
    kept.write_bytes(content)

    assert last_good.read_catalogue() is None


def test_what_was_found_before_the_start_is_not_read_again(file: Path, installed: Installed, clock: HeldClock) -> None:
    first = look_at_files([file])
    file.write_text(text("two"))

    watcher = CatalogueWatcher([file], installed, clock=clock, first=first)
    assert watcher.current.tasks["t"].exec_command == "one"
    settle(watcher, clock)
    watcher.close()
    assert watcher.current.tasks["t"].exec_command == "two"
