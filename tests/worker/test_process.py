"""A task's process, with real processes: what traps it sets, and that the worker does not fall into them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.shared.messages import AttemptRef, Outcome
from echelon.worker.runtimes.process import ProcessRuntime
from echelon.worker.runtimes.spawning import PosixSpawn, spawn_with_popen
from tests.worker.workbench import Workbench, alive


@pytest.fixture(params=[PosixSpawn, lambda: spawn_with_popen], ids=["posix_spawn", "subprocess"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workbench]:
    made = Workbench(tmp_path, runtime=ProcessRuntime(sole_parent=False, spawner=request.param()))
    yield made
    made.executor.close()


def pid_in(path: Path) -> int:
    return int(path.read_text().split()[0])


def written(path: Path) -> bool:
    return path.exists() and path.read_text().endswith("\n")


# --- how it ends ----------------------------------------------------------------------------------------------------


def test_a_command_runs_and_leaves_nothing_when_it_prints_nothing(bench: Workbench) -> None:
    finished = bench.run("true")

    assert (finished.outcome, finished.exit_code, finished.signal, finished.error) == (Outcome.COMPLETED, 0, None, None)
    assert 0 < finished.seconds < 10
    assert not list(Path(bench.volume.root, "jobs", bench.job_id, "attempts").glob("0/*"))


@pytest.mark.parametrize("code", [1, 3, 137, 255])
def test_an_exit_code_is_reported_as_it_is(bench: Workbench, code: int) -> None:
    finished = bench.shell(f"exit {code}")

    assert (finished.outcome, finished.exit_code, finished.signal) == (Outcome.FAILED, code, None)
    assert finished.error == f"exit code {code}"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGPIPE])
def test_a_signal_is_no_exit_code(bench: Workbench, number: signal.Signals) -> None:
    finished = bench.shell(f"kill -{number:d} $$")

    assert (finished.outcome, finished.exit_code, finished.signal) == (Outcome.FAILED, None, number)
    assert finished.error == f"ended by signal {number:d} ({number.name})"


def test_a_failure_quotes_the_last_line_of_stderr_without_its_colours(bench: Workbench) -> None:
    finished = bench.shell("printf 'first\\nno \\033[31msuch host\\n\\n' >&2; exit 4")

    assert finished.error == "exit code 4: no such host"


MEMORY_LIMITED = """
import os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.worker.workbench import Workbench
own = dict(line.rstrip().split(":", 2)[1:] for line in open("/proc/self/cgroup"))
first = "memory" in own
base = f"/sys/fs/cgroup/memory{own['memory']}" if first else f"/sys/fs/cgroup{own.get('', '')}"
group = f"{base}/echelon-test-{os.getpid()}"
try:
    os.mkdir(group)
    Path(group, "memory.limit_in_bytes" if first else "memory.max").write_text("80M")
    swap = Path(group, "memory.memsw.limit_in_bytes" if first else "memory.swap.max")
    if swap.exists():
        swap.write_text("80M" if first else "0")
    Path(group, "cgroup.procs").write_text(str(os.getpid()))
except OSError as error:
    sys.exit(f"cannot limit memory here: {error}")
try:
    bench = Workbench(Path(sys.argv[1]))
    hog = "x = bytearray(300_000_000)"
    print(bench.shell("kill -9 $$").outcome)
    print(bench.run(sys.executable, "-c", hog).outcome)
    print(bench.run("sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", hog).outcome)
    print(bench.shell("kill -9 $$").outcome)
finally:
    bench.executor.close()
    Path(base, "cgroup.procs").write_text(str(os.getpid()))
    os.rmdir(group)
"""


def test_a_task_that_ran_out_of_memory_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_LIMITED, str(tmp_path), str(Path(__file__).parents[2])],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "cannot limit memory" in done.stderr:
        pytest.skip(done.stderr.strip())

    assert (done.stdout.split(), done.stderr) == (["failed", "oom_killed", "oom_killed", "failed"], "")


# --- what it gets ---------------------------------------------------------------------------------------------------


def test_arguments_arrive_as_they_are_without_a_shell(bench: Workbench) -> None:
    values = ["", " ", "a b", "; touch pwned", "$(touch pwned)", "`id`", "*", "line\nbreak", "é", "{other}"]

    finished = bench.run(
        "printf",
        "%s\\0",
        *(f"{{v{n}}}" for n in range(len(values))),
        job_input={f"v{n}": v for n, v in enumerate(values)},
    )

    assert finished.outcome is Outcome.COMPLETED
    assert bench.log() == b"".join(value.encode() + b"\0" for value in values)
    assert list(bench.work.iterdir()) == []


def test_stdin_is_empty(bench: Workbench) -> None:
    assert bench.run("cat").outcome is Outcome.COMPLETED
    assert bench.log() == b""


def test_only_three_files_are_open(bench: Workbench) -> None:
    inherited = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        bench.run(sys.executable, "-S", "-c", "import os; print(sorted(os.listdir('/proc/self/fd')))")
    finally:
        os.close(inherited)

    # The fourth is the listing itself.
    assert bench.log() == b"['0', '1', '2', '3']\n"


def test_it_has_a_session_of_its_own_no_ignored_signals_and_a_tight_umask(bench: Workbench) -> None:
    script = "import os; print(os.getsid(0) == os.getpid(), oct(os.umask(0))); print(open('/proc/self/status').read())"

    bench.run(sys.executable, "-c", script)

    lines = bench.log().decode().splitlines()
    masks = dict(line.split(":\t") for line in lines if line.startswith("Sig"))
    assert lines[0] == "True 0o27"
    # Python itself ignores SIGPIPE (13) and SIGXFSZ (25) again. 32 and 33 are the C library's own.
    assert int(masks["SigIgn"], 16) & 0x7FFFFFFF == 1 << 12 | 1 << 24


def test_it_runs_in_the_workspace_of_its_job(bench: Workbench) -> None:
    bench.shell("pwd; echo made > here.txt")

    assert bench.log().decode().strip() == str(bench.work)
    assert (bench.work / "here.txt").read_text() == "made\n"


def test_a_task_that_wants_a_directory_of_its_own_gets_one_that_can_be_published(bench: Workbench) -> None:
    finished = bench.shell("pwd; echo $ECHELON_TASK_DIR; echo made > here.txt", workdir="task")

    attempt = f"jobs/{bench.job_id}/attempts/0/0-1"
    assert finished.outcome is Outcome.COMPLETED
    assert bench.log().decode().split() == [f"{bench.volume.root}/{attempt}/work", f"{bench.volume.root}/{attempt}"]
    assert not (bench.work / "here.txt").exists()
    bench.volume.publish_files(bench.job_id, attempt)
    assert (bench.work / "here.txt").read_text() == "made\n"


# --- what cannot be started -----------------------------------------------------------------------------------------


def test_a_missing_command_is_named(bench: Workbench) -> None:
    finished = bench.run("no-such-command")

    assert finished.outcome is Outcome.NOT_STARTED
    assert "command not found: 'no-such-command' is not on the PATH" in (finished.error or "")


def test_a_command_that_vanishes_between_two_tasks_is_looked_for_again(bench: Workbench) -> None:
    one, two = bench.folder / "one", bench.folder / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "tool").write_text(f"#!/bin/sh\necho {folder.name}\n")
        (folder / "tool").chmod(0o755)
    env = {"PATH": f"{one}:{two}:/usr/bin:/bin"}

    bench.run("tool", env=env)
    (one / "tool").unlink()
    gone = bench.run("tool", env=env, index=1)
    found = bench.run("tool", env=env, index=2)

    assert bench.log() == b"one\n"
    assert gone.outcome is Outcome.NOT_STARTED
    assert found.outcome is Outcome.COMPLETED
    assert bench.log(index=2) == b"two\n"


def test_a_file_without_the_right_to_execute_is_told_apart_from_a_missing_one(bench: Workbench) -> None:
    bench.run("true")
    (bench.work / "script").write_text("#!/bin/sh\n")

    finished = bench.run("./script")

    assert finished.outcome is Outcome.NOT_STARTED
    assert finished.error == "'./script' is not executable: set its mode with chmod +x (EACCES)"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"#!/no/such/interpreter\n", "the interpreter that the first line of './tool' names does not exist"),
        (b"\x00\x01\x02", "neither a program for this machine nor a script"),
    ],
)
def test_a_file_that_cannot_be_executed_says_why(bench: Workbench, content: bytes, says: str) -> None:
    bench.run("true")
    (bench.work / "tool").write_bytes(content)
    (bench.work / "tool").chmod(0o755)

    finished = bench.run("./tool")

    assert finished.outcome is Outcome.NOT_STARTED
    assert says in (finished.error or "")


def test_a_command_in_the_working_directory_is_hinted_at(bench: Workbench) -> None:
    bench.run("true")
    (bench.work / "tool").write_text("#!/bin/sh\n")

    assert "the file in the working directory is called ./tool" in (bench.run("tool").error or "")


def test_a_missing_working_directory_is_not_taken_for_a_missing_command(bench: Workbench) -> None:
    bench.run("true")
    bench.work.rmdir()

    finished = bench.run("true")

    assert finished.outcome is Outcome.NOT_STARTED
    assert finished.error == f"the working directory {bench.work} does not exist (ENOENT)"


def test_too_long_arguments_are_refused_one_by_one_and_all_together(bench: Workbench) -> None:
    single = bench.run("true", "{x}", job_input={"x": "x" * 200_000})
    together = bench.run("true", *["x" * 100_000] * 40)

    assert single.outcome is together.outcome is Outcome.NOT_STARTED
    assert "the value of 'x' holds more than" in (single.error or "")
    assert "(E2BIG)" in (together.error or "")


def test_a_worker_without_file_descriptors_blames_itself(bench: Workbench) -> None:
    script = """
import os, resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.worker.workbench import Workbench
bench = Workbench(Path(sys.argv[1]))
print(bench.run("true").outcome)
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (16, limit[1]))
refs = [bench.start("sleep", "0.2") for _ in range(20)]
print(*{bench.end(ref).outcome for ref in refs} - {"completed"})
print(bench.end(refs[-1]).error)
print(bench.run("true").outcome)
"""
    root = str(Path(__file__).parents[2])

    done = subprocess.run(
        [sys.executable, "-c", script, str(bench.folder / "other"), root], capture_output=True, text=True, check=False
    )

    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert (lines[0], lines[1], lines[3]) == ("completed", "worker_fault", "completed")
    assert "Too many open files" in lines[2]


# --- how it is ended ------------------------------------------------------------------------------------------------


def test_a_stopped_task_ends_with_the_outcome_it_was_stopped_with(bench: Workbench) -> None:
    ref = bench.start("sleep", "300")

    bench.executor.stop_attempt(ref, Outcome.INTERRUPTED, "the worker was shut down")
    finished = bench.end(ref)

    assert (finished.outcome, finished.signal) == (Outcome.INTERRUPTED, signal.SIGTERM)
    assert finished.error == "the worker was shut down"
    assert ref not in bench.executor.running_attempts


def test_a_task_that_ignores_sigterm_is_killed_with_all_its_processes_after_its_grace(bench: Workbench) -> None:
    deaf = "trap '' TERM; {} echo $$ > {}; while :; do sleep 1; done"
    (bench.folder / "inner.sh").write_text(deaf.format("", "inner"))
    ref = bench.start("sh", "-c", deaf.format("sh ../../../../inner.sh &", "outer"), grace=0.3)
    bench.until(lambda: written(bench.work / "outer") and written(bench.work / "inner"))
    begun = time.monotonic()

    bench.executor.stop_attempt(ref, Outcome.STOPPED, "cancelled")
    finished = bench.end(ref)

    assert (finished.outcome, finished.signal) == (Outcome.STOPPED, signal.SIGKILL)
    assert 0.3 <= time.monotonic() - begun < 5
    assert not alive(pid_in(bench.work / "inner"))


def test_what_survives_the_main_process_has_the_rest_of_the_grace(bench: Workbench) -> None:
    ref = bench.start(
        "sh",
        "-c",
        "sh -c 'trap \"echo cleaned > cleaned; exit\" TERM; echo > ready; while :; do sleep 0.01; done' & wait",
    )
    bench.until(lambda: (bench.work / "ready").exists())

    bench.executor.stop_attempt(ref, Outcome.STOPPED, "cancelled")
    bench.end(ref)

    assert (bench.work / "cleaned").read_text() == "cleaned\n"


def test_a_paused_task_can_be_ended(bench: Workbench) -> None:
    ref = bench.start("sh", "-c", "echo $$ > pid; kill -STOP $$; sleep 300")
    bench.until(lambda: written(bench.work / "pid"))

    bench.executor.stop_attempt(ref, Outcome.STOPPED, "cancelled")

    assert bench.end(ref).outcome is Outcome.STOPPED


def test_a_timeout_ends_a_task(bench: Workbench) -> None:
    finished = bench.run("sleep", "300", timeout=0.2)

    assert (finished.outcome, finished.signal) == (Outcome.TIMED_OUT, signal.SIGTERM)
    assert finished.error == "ran longer than its timeout of 0.2 s"
    assert 0.2 <= finished.seconds < 5


def test_a_task_that_ends_well_when_asked_to_has_still_timed_out(bench: Workbench) -> None:
    finished = bench.shell("trap 'exit 0' TERM; sleep 300 & wait", timeout=0.2)

    assert (finished.outcome, finished.exit_code) == (Outcome.TIMED_OUT, 0)


def test_no_grace_means_no_sigterm(bench: Workbench) -> None:
    ref = bench.start("sh", "-c", "trap '' TERM; sleep 300", grace=0.0)

    bench.executor.stop_attempt(ref, Outcome.STOPPED, "cancelled")

    assert bench.end(ref).signal == signal.SIGKILL


def test_stopping_what_does_not_run_does_nothing(bench: Workbench) -> None:
    finished = bench.run("true")

    bench.executor.stop_attempt(AttemptRef(finished.task_id, 1), Outcome.STOPPED, "cancelled")

    assert bench.executor.poll_ended(0) == []


# --- many of them ---------------------------------------------------------------------------------------------------


def test_file_descriptors_stay_flat_and_every_attempt_ends_once(bench: Workbench) -> None:
    for index in range(20):
        bench.start("echo", "{index}", index=index)
    bench.until(lambda: len(bench.ended) == 20)
    before = len(os.listdir("/proc/self/fd"))

    for index in range(20, 60):
        bench.start("sh", "-c", "echo {index}; (sleep 300 &); exit $(( {index} % 2 ))", index=index)
    bench.until(lambda: len(bench.ended) == 60)

    assert len(os.listdir("/proc/self/fd")) <= before
    assert {bench.log(index=index) for index in range(60)} == {b"%d\n" % index for index in range(60)}
    assert sum(finished.outcome is Outcome.FAILED for finished in bench.ended.values()) == 20


def test_a_pipe_that_a_task_made_non_blocking_blocks_again_for_the_next(bench: Workbench) -> None:
    script = "import fcntl, os; print(fcntl.fcntl(1, fcntl.F_GETFL) & os.O_NONBLOCK); os.set_blocking(1, False)"

    bench.run(sys.executable, "-c", script)
    bench.run(sys.executable, "-c", script, index=1)

    assert (bench.log(), bench.log(index=1)) == (b"0\n", b"0\n")
