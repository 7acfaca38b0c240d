"""The executor as its agent sees it: attempts go in, ends come out, whatever happens in between."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.shared.messages import Outcome
from echelon.worker.runtimes.fake import FakeRuntime, Plan
from echelon.worker.runtimes.port import CannotStart, Exit, Launch
from tests.worker.workbench import Workbench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    made = Workbench(tmp_path, volume_check=0.0)
    yield made
    made.executor.close()


def _open_files() -> list[str]:
    return os.listdir("/proc/self/fd")


# --- results --------------------------------------------------------------------------------------------------------


def test_a_result_is_what_was_written_to_the_output(bench: Workbench) -> None:
    finished = bench.shell('printf "42\\n" > "$ECHELON_OUTPUT"')

    assert (finished.outcome, finished.result) == (Outcome.COMPLETED, "42\n")


def test_a_failed_task_has_a_result_too(bench: Workbench) -> None:
    assert bench.shell('echo half > "$ECHELON_OUTPUT"; exit 1').result == "half\n"


def test_no_result_is_none_and_an_empty_one_is_empty(bench: Workbench) -> None:
    assert bench.run("true").result is None
    assert bench.shell(': > "$ECHELON_OUTPUT"').result == ""


def test_what_is_not_utf8_in_a_result_is_replaced(bench: Workbench) -> None:
    assert bench.shell("printf 'a\\377b' > $ECHELON_OUTPUT").result == "a\ufffdb"


def test_the_longest_result_is_whole_and_a_longer_one_fails_the_task(bench: Workbench) -> None:
    whole = bench.shell("head -c 65536 /dev/zero | tr '\\0' x > $ECHELON_OUTPUT")
    over = bench.shell("head -c 65537 /dev/zero > $ECHELON_OUTPUT")

    assert whole.result == "x" * 65536
    assert (over.outcome, over.exit_code) == (Outcome.FAILED, 0)
    assert over.error == "the result at $ECHELON_OUTPUT is longer than 65536 bytes: leave a file instead"


@pytest.mark.parametrize("plant", ["ln -s /etc/passwd", "mkfifo", "mkdir"])
def test_a_result_that_is_no_plain_file_fails_the_task(bench: Workbench, plant: str) -> None:
    finished = bench.shell(f"{plant} $ECHELON_OUTPUT")

    assert (finished.outcome, finished.result) == (Outcome.FAILED, None)
    assert "plain file" in (finished.error or "")


# --- folders --------------------------------------------------------------------------------------------------------


def test_a_task_that_leaves_its_folder_empty_passes_it_on(bench: Workbench) -> None:
    for index in range(3):
        bench.shell("pwd > /dev/null; echo $ECHELON_TASK_DIR; ls -A $ECHELON_TASK_DIR", index=index)

    assert len({bench.log(index=index) for index in range(3)}) == 1
    assert len(list(Path(bench.volume.root, "jobs", bench.job_id, "attempts").glob("task-*"))) == 1


@pytest.mark.parametrize(
    "leave", ["echo x > {}/file", "mkdir {}/folder", "touch {}/x; rm {}/x", "chmod 700 {}", "rmdir {}"]
)
def test_a_folder_that_was_touched_is_nobody_elses(bench: Workbench, leave: str) -> None:
    bench.shell(f"echo $ECHELON_TASK_DIR; {leave.format('$ECHELON_TASK_DIR', '$ECHELON_TASK_DIR')}", index=0)
    bench.shell("echo $ECHELON_TASK_DIR", index=1)

    assert bench.log(index=0) != bench.log(index=1)


def test_a_task_that_left_something_running_does_not_pass_its_folder_on(bench: Workbench) -> None:
    bench.shell("echo $ECHELON_TASK_DIR; sleep 300 &", index=0)
    bench.shell("echo $ECHELON_TASK_DIR", index=1)

    assert bench.log(index=0) != bench.log(index=1)


def test_folders_that_were_passed_on_are_gone_when_the_worker_is(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.run("true")

    bench.executor.close()

    assert os.listdir(Path(bench.volume.root, "jobs", bench.job_id, "attempts")) == []


# --- the volume -----------------------------------------------------------------------------------------------------


def test_a_volume_that_is_gone_is_the_workers_trouble_and_it_recovers(bench: Workbench) -> None:
    bench.run("true")
    marker = Path(bench.volume.root, ".echelon/volume-id")
    content = marker.read_bytes()
    marker.unlink()

    gone = bench.run("true")
    marker.write_bytes(content)

    assert gone.outcome is Outcome.WORKER_FAULT
    assert "Is it mounted?" in (gone.error or "")
    assert bench.run("true").outcome is Outcome.COMPLETED


def mounted(folder: Path, options: str) -> bool:
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    return done.returncode == 0


def test_a_full_volume_fails_tasks_and_spares_the_worker(tmp_path: Path) -> None:
    if not mounted(tmp_path / "volume", "size=1m"):
        pytest.skip("mounting takes a right that this user does not have")
    try:
        bench = Workbench(tmp_path)
        own = bench.shell("head -c 2000000 /dev/zero > big", index=0)
        printed = bench.shell("echo printed", index=1)
        (bench.work / "big").unlink()
        after = bench.shell("echo again", index=2)
        bench.executor.close()

        assert own.outcome is Outcome.FAILED
        assert "No space left on device" in (own.error or "")
        assert printed.outcome is Outcome.COMPLETED
        assert printed.error == "stdout is not complete: No space left on device (ENOSPC)"
        assert (after.outcome, after.error, bench.log(index=2)) == (Outcome.COMPLETED, None, b"again\n")
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "volume")], check=True)


def test_a_volume_without_inodes_fails_tasks_and_one_mounted_read_only_stops_the_worker(tmp_path: Path) -> None:
    if not mounted(tmp_path / "volume", "size=1m,nr_inodes=20"):
        pytest.skip("mounting takes a right that this user does not have")
    try:
        bench = Workbench(tmp_path, volume_check=0.0)
        bench.shell("n=0; while : > file$n; do n=$((n+1)); done")
        full = bench.run("true", workdir="task")
        # A worker that runs nothing holds no file open.
        while any(os.path.realpath(f"/proc/self/fd/{fd}").startswith(str(tmp_path / "volume")) for fd in _open_files()):
            bench.executor.poll_ended(0.1)
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "volume")], check=True)
        fixed = bench.run("true", workdir="task")
        bench.executor.close()

        assert full.outcome is Outcome.NOT_STARTED
        assert full.error == "the volume is full: No space left on device (ENOSPC)"
        assert fixed.outcome is Outcome.WORKER_FAULT
        assert "read-only" in (fixed.error or "")
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "volume")], check=True)


# --- the loop, without processes ------------------------------------------------------------------------------------


def test_an_attempt_runs_until_its_process_ends(tmp_path: Path) -> None:
    runtime = FakeRuntime(Plan(exit=None))
    bench = Workbench(tmp_path, runtime=runtime)

    ref = bench.start("anything", "{n}", task_input={"n": 1})
    nothing = bench.executor.poll_ended(0)
    running = list(bench.executor.running_attempts)
    runtime.end_attempt(ref, Exit(exit_code=3))
    (finished,) = bench.executor.poll_ended(5)

    assert (nothing, running) == ([], [ref])
    assert (finished.task_id, finished.attempt, finished.outcome, finished.exit_code) == (
        *ref_of(ref),
        Outcome.FAILED,
        3,
    )
    assert list(bench.executor.running_attempts) == []
    assert [(launch.command, launch.arguments) for launch in runtime.launches] == [(b"anything", [b"1"])]


def ref_of(ref: object) -> tuple[object, object]:
    return ref.task_id, ref.attempt  # type: ignore[attr-defined]


def test_a_refused_start_comes_out_of_the_next_poll(tmp_path: Path) -> None:
    runtime = FakeRuntime(Plan(error=CannotStart("no process to be had", worker_fault=True)))
    bench = Workbench(tmp_path, runtime=runtime)

    bench.start("anything")
    (finished,) = bench.executor.poll_ended(60)

    assert (finished.outcome, finished.error) == (Outcome.WORKER_FAULT, "no process to be had")
    assert bench.executor.poll_ended(0) == []


def test_output_of_a_fake_is_kept_like_any(tmp_path: Path) -> None:
    def act(launch: Launch) -> None:
        Path(launch.folder, "made.txt").write_text("made")

    bench = Workbench(
        tmp_path, runtime=FakeRuntime({"job": Plan(stdout=b"out", stderr=b"why\n", exit=Exit(1), act=act)})
    )

    finished = bench.run("job")

    assert (finished.error, bench.log(), (bench.work / "made.txt").read_text()) == ("exit code 1: why", b"out", "made")


def test_a_stubborn_process_is_killed_after_its_grace(tmp_path: Path) -> None:
    runtime = FakeRuntime(Plan(exit=None, stubborn=True))
    bench = Workbench(tmp_path, runtime=runtime)
    ref = bench.start("anything", grace=0.05)

    bench.executor.stop_attempt(ref, Outcome.STOPPED, "cancelled")
    bench.executor.stop_attempt(ref, Outcome.INTERRUPTED, "later")
    finished = bench.end(ref)

    assert (finished.outcome, finished.error) == (Outcome.STOPPED, "cancelled")
    assert [number.name for number in runtime.processes[ref].signals] == ["SIGTERM", "SIGKILL"]


def test_a_lost_lease_shortens_the_grace(tmp_path: Path) -> None:
    runtime = FakeRuntime(Plan(exit=None, stubborn=True))
    bench = Workbench(tmp_path, runtime=runtime)
    ref = bench.start("anything", grace=600.0)

    bench.executor.stop_attempt(ref, Outcome.STOPPED, "lease_lost", grace=0.05)

    assert bench.end(ref).outcome is Outcome.STOPPED


class Unkillable(FakeRuntime):
    """Processes that hang in the kernel until the test lets go of them."""

    def start_command(self, launch: Launch):  # type: ignore[no-untyped-def]
        process = super().start_command(launch)
        process.kill = process.terminate = lambda: None  # type: ignore[method-assign]
        return process


def test_a_process_that_cannot_be_killed_is_given_up_and_reaped_when_it_ends(tmp_path: Path) -> None:
    runtime = Unkillable(Plan(exit=None))
    bench = Workbench(tmp_path, runtime=runtime, give_up=0.05)
    ref = bench.start("anything", grace=0.0)

    bench.executor.stop_attempt(ref, Outcome.STOPPED, "cancelled")
    finished = bench.end(ref)
    hanging = not runtime.processes[ref].reaped
    runtime.end_attempt(ref)
    bench.until(lambda: runtime.processes[ref].reaped)

    assert (finished.outcome, finished.error) == (Outcome.STOPPED, "cancelled; its process cannot be killed")
    assert hanging
    assert list(bench.executor.running_attempts) == []


def test_wake_ends_a_wait_from_another_thread(bench: Workbench) -> None:
    begun = time.monotonic()
    thread = threading.Thread(target=bench.executor.wake)

    thread.start()
    bench.executor.poll_ended(60)
    thread.join()

    assert time.monotonic() - begun < 30


def test_closing_kills_what_still_runs(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.start("sleep", "300")
    before = bench.executor.running_attempts

    bench.executor.close()

    assert list(before) == []


def test_closing_removes_what_tasks_have_left_in_their_temporary_folder(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    assert bench.shell('touch "$TMPDIR/left"; mkdir "$TMPDIR/folder"').outcome is Outcome.COMPLETED
    assert len(list(Path(bench.temporary).rglob("*"))) == 3

    bench.executor.close()

    assert list(Path(bench.temporary).iterdir()) == []
