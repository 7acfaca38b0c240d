"""The catalogue follows its files: a better revision is taken, a worse one is not, whatever editors and mounts do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from echelon.controller.catalogue.definitions import Catalogue
from echelon.controller.catalogue.mistakes import CatalogueError
from echelon.controller.catalogue.watcher import LOOK_EVERY, QUIET, CatalogueWatcher
from echelon.shared.errors import VolumeUnavailable

DEADLINE = 20.0


class HeldClock:
    """A clock that moves when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Installed:
    """Takes revisions as a volume would, and can be out of order."""

    def __init__(self) -> None:
        self.revisions: list[str] = []
        self.broken = False

    def __call__(self, catalogue: Catalogue) -> None:
        if self.broken:
            raise VolumeUnavailable()
        self.revisions.append(catalogue.revision)


def text(command: str) -> str:
    return f"tasks:\n  t:\n    exec_command: {command}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "catalogue.yaml").write_text(text("one"))
    return folder / "catalogue.yaml"


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def installed() -> Installed:
    return Installed()


@pytest.fixture
def watcher(file: Path, clock: HeldClock, installed: Installed) -> Iterator[CatalogueWatcher]:
    watcher = CatalogueWatcher([file], installed, clock=clock)
    yield watcher
    watcher.close()


def settle(watcher: CatalogueWatcher, clock: HeldClock) -> bool:
    """Let the slow look see what is there, and see it again when it has been left alone."""
    clock.now += LOOK_EVERY
    watcher.turn()
    clock.now += QUIET
    return watcher.turn()


def command(watcher: CatalogueWatcher) -> str:
    return watcher.current.tasks["t"].exec_command


def test_the_first_revision_is_installed_before_anything_else(watcher: CatalogueWatcher, installed: Installed) -> None:
    assert installed.revisions == [watcher.current.revision]
    assert command(watcher) == "one"
    assert watcher.mistakes == ()


def test_an_invalid_first_catalogue_is_an_error_with_every_mistake(file: Path, installed: Installed) -> None:
    file.write_text("tasks:\n  t: {}\n  u: {exec_comand: x}\n")

    with pytest.raises(CatalogueError) as caught:
        CatalogueWatcher([file], installed)

    assert [mistake.line for mistake in caught.value.mistakes] == [2, 3]
    assert installed.revisions == []


def test_a_missing_first_catalogue_is_an_error(tmp_path: Path, installed: Installed) -> None:
    with pytest.raises(CatalogueError, match="No such file"):
        CatalogueWatcher([tmp_path / "none.yaml"], installed)


def test_a_valid_change_is_installed_and_then_in_force(
    file: Path, watcher: CatalogueWatcher, clock: HeldClock, installed: Installed
) -> None:
    before = watcher.current
    file.write_text(text("two"))

    assert settle(watcher, clock)

    assert command(watcher) == "two"
    assert installed.revisions == [before.revision, watcher.current.revision]
    assert before.tasks["t"].exec_command == "one"


def test_an_invalid_change_leaves_the_last_good_revision(
    file: Path, watcher: CatalogueWatcher, clock: HeldClock, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text("tasks:\n  t: {exec_comand: x}\n")
    assert settle(watcher, clock)

    assert command(watcher) == "one"
    assert [mistake.line for mistake in watcher.mistakes] == [2]
    assert "did you mean exec_command?" in caplog.text

    file.write_text(text("two"))
    assert settle(watcher, clock)

    assert (command(watcher), watcher.mistakes) == ("two", ())


def test_a_deleted_or_emptied_file_leaves_the_last_good_revision(
    file: Path, watcher: CatalogueWatcher, clock: HeldClock
) -> None:
    file.unlink()
    settle(watcher, clock)
    assert "No such file" in watcher.mistakes[0].message

    file.write_text("")
    settle(watcher, clock)
    assert "is empty" in watcher.mistakes[0].message

    assert command(watcher) == "one"
    file.write_text(text("two"))
    settle(watcher, clock)
    assert (command(watcher), watcher.mistakes) == ("two", ())


def test_a_file_that_is_still_being_written_is_not_read(
    file: Path, watcher: CatalogueWatcher, clock: HeldClock, installed: Installed
) -> None:
    whole = text("two") + "    exec_args: [a, b]\n"
    clock.now += LOOK_EVERY
    for end in range(10, len(whole), 5):
        file.write_text(whole[:end])
        clock.now += QUIET / 2
        assert not watcher.turn()

    file.write_text(whole)
    assert settle(watcher, clock)

    assert watcher.current.tasks["t"].exec_args == ("a", "b")
    assert len(installed.revisions) == 2


def test_nothing_is_read_again_while_nothing_changes(
    file: Path, watcher: CatalogueWatcher, clock: HeldClock, installed: Installed
) -> None:
    (file.parent / "unrelated.txt").write_text("x")

    assert not any(settle(watcher, clock) for _ in range(3))
    assert len(installed.revisions) == 1


def test_a_change_without_meaning_is_no_new_revision(
    file: Path, watcher: CatalogueWatcher, clock: HeldClock, installed: Installed
) -> None:
    file.write_text("# a comment\n" + text("one"))

    assert settle(watcher, clock)

    assert installed.revisions == [watcher.current.revision]


def test_a_revision_that_cannot_be_installed_is_tried_again(
    file: Path, watcher: CatalogueWatcher, clock: HeldClock, installed: Installed
) -> None:
    installed.broken = True
    file.write_text(text("two"))
    settle(watcher, clock)
    assert command(watcher) == "one"
    assert "cannot be installed" in watcher.mistakes[0].message

    installed.broken = False
    settle(watcher, clock)

    assert (command(watcher), watcher.mistakes) == ("two", ())


def test_a_change_of_what_tasks_bring_along_is_a_new_revision(
    file: Path, watcher: CatalogueWatcher, clock: HeldClock, installed: Installed
) -> None:
    script = file.parent / "files" / "sub" / "script.py"
    script.parent.mkdir(parents=True)
    script.write_text("1")
    settle(watcher, clock)
    script.write_text("22")
    settle(watcher, clock)

    assert len(set(installed.revisions)) == 3
    assert watcher.current.files == file.parent / "files"


def test_a_folder_is_watched_for_new_files(tmp_path: Path, clock: HeldClock, installed: Installed) -> None:
    (tmp_path / "a.yaml").write_text(text("one"))
    watcher = CatalogueWatcher([tmp_path], installed, clock=clock)
    (tmp_path / "b.yaml").write_text("tasks: {u: {exec_command: x}}\n")

    settle(watcher, clock)

    watcher.close()
    assert set(watcher.current.tasks) == {"t", "u"}


# --- with the real watchdog and the real clock


def until(true: Callable[[], bool]) -> None:
    """Wait until something is true, at most DEADLINE seconds."""
    pause, deadline = threading.Event(), time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        pause.wait(0.02)


@pytest.fixture
def running(file: Path, installed: Installed, monkeypatch: pytest.MonkeyPatch) -> Iterator[CatalogueWatcher]:
    # Only events can make it look: the slow look would come after the deadline.
    monkeypatch.setattr("echelon.controller.catalogue.watcher.LOOK_EVERY", 10 * DEADLINE)
    watcher, stop = CatalogueWatcher([file], installed), threading.Event()
    thread = threading.Thread(target=watcher.run, args=(stop,))
    watcher.turn()
    thread.start()
    yield watcher
    stop.set()
    thread.join(DEADLINE)
    assert not thread.is_alive()


def in_place(file: Path, content: str) -> None:
    file.write_text(content)


def by_rename(file: Path, content: str) -> None:
    other = file.with_name(".catalogue.yaml.swp")
    other.write_text(content)
    other.rename(file)


def by_delete(file: Path, content: str) -> None:
    file.unlink()
    file.write_text(content)


def by_backup(file: Path, content: str) -> None:
    file.rename(file.with_name("catalogue.yaml~"))
    file.write_text(content)


@pytest.mark.parametrize("edit", [in_place, by_rename, by_delete, by_backup])
def test_an_edit_of_any_kind_is_noticed(
    file: Path, running: CatalogueWatcher, edit: Callable[[Path, str], None]
) -> None:
    edit(file, text("two"))
    until(lambda: command(running) == "two")

    edit(file, "tasks: [")
    until(lambda: len(running.mistakes) == 1)
    assert command(running) == "two"

    edit(file, text("three"))
    until(lambda: command(running) == "three")
    assert running.mistakes == ()


def test_files_that_are_opened_read_or_being_written_wake_no_thread(running: CatalogueWatcher) -> None:
    # inotify(7): IN_ACCESS, IN_MODIFY, IN_CLOSE_NOWRITE, IN_OPEN. A volume beside the catalogue has thousands of each.
    unwanted = 0x01 | 0x02 | 0x10 | 0x20
    until(lambda: bool(watched_events()))

    assert not any(mask & unwanted for mask in watched_events())


def watched_events() -> list[int]:
    """Return the masks of all inotify watches of this process."""
    found: list[int] = []
    for info in Path("/proc/self/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            lines = [line for line in info.read_text().splitlines() if line.startswith("inotify ")]
            found += [int(word[5:], 16) for line in lines for word in line.split() if word.startswith("mask:")]
    return found


def test_a_change_among_the_brought_files_is_noticed(
    file: Path, running: CatalogueWatcher, installed: Installed
) -> None:
    folder = file.parent / "files"
    folder.mkdir()
    (folder / "a").write_text("1")
    until(lambda: len(installed.revisions) >= 2)

    before = len(installed.revisions)
    (folder / "deep").mkdir()
    (folder / "deep" / "b").write_text("2")
    until(lambda: len(installed.revisions) > before)


def test_a_link_that_is_swapped_is_noticed(
    tmp_path: Path, installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "catalogue.yaml").write_text(text(version))
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "catalogue.yaml").symlink_to("data/catalogue.yaml")
    monkeypatch.setattr("echelon.controller.catalogue.watcher.LOOK_EVERY", 10 * DEADLINE)
    watcher = CatalogueWatcher([tmp_path / "catalogue.yaml"], installed)
    watcher.turn()

    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "data")

    until(lambda: watcher.turn() or command(watcher) == "two")
    watcher.close()
    assert command(watcher) == "two"


def test_readers_of_many_threads_see_whole_revisions(file: Path, running: CatalogueWatcher) -> None:
    stop, torn = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            catalogue = running.current
            if catalogue.tasks["t"].exec_command != (
                catalogue.tasks["u"].exec_command if "u" in catalogue.tasks else "one"
            ):
                torn.append(catalogue)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(3):
        by_rename(file, text(f"c{number}") + f"  u:\n    exec_command: c{number}\n")
        until(lambda number=number: command(running) == f"c{number}")
    stop.set()
    for reader in readers:
        reader.join()

    assert torn == []
