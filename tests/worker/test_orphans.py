"""What tasks leave running: it does not hold them up, it is killed, and nobody else's processes are touched."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.shared.messages import Outcome
from echelon.worker.runtimes.cgroups import make_cgroups
from echelon.worker.runtimes.process import ProcessRuntime
from echelon.worker.runtimes.spawning import PosixSpawn, spawn_with_popen
from tests.worker.workbench import Workbench, alive


@pytest.fixture(params=["posix_spawn", "subprocess", "cgroups"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workbench]:
    cgroups = make_cgroups(str(uuid.uuid4())) if request.param == "cgroups" else None
    if request.param == "cgroups" and cgroups is None:
        pytest.skip("this user cannot make cgroups of version 2 here")
    spawner = spawn_with_popen if request.param == "subprocess" else PosixSpawn()
    made = Workbench(tmp_path, runtime=ProcessRuntime(sole_parent=False, spawner=spawner, cgroups=cgroups))
    yield made
    made.executor.close()


def pid_in(path: Path) -> int:
    return int(path.read_text().split()[0])


def written(path: Path) -> bool:
    return path.exists() and path.read_text().endswith("\n")


def test_a_background_process_that_holds_stdout_does_not_hold_the_task(bench: Workbench) -> None:
    finished = bench.shell("echo out; sleep 300 & echo $! > pid; exit 0")

    assert finished.outcome is Outcome.COMPLETED
    assert finished.seconds < 5
    assert bench.log() == b"out\n"
    assert not alive(pid_in(bench.work / "pid"))


def test_a_daemon_in_a_session_of_its_own_is_killed_when_its_task_ends(bench: Workbench) -> None:
    script = "setsid sh -c 'echo $$ > one; setsid sleep 300 & echo $! > two; wait' & while ! [ -s two ]; do :; done"

    finished = bench.shell(script)

    assert finished.outcome is Outcome.COMPLETED
    assert not alive(pid_in(bench.work / "one"))
    assert not alive(pid_in(bench.work / "two"))


def test_a_daemon_of_a_task_that_still_runs_is_let_be(bench: Workbench) -> None:
    running = bench.start("sh", "-c", "setsid sleep 300 & echo $! > daemon; sleep 300", index=1, grace=5.0)
    bench.until(lambda: written(bench.work / "daemon"))

    assert bench.run("true").outcome is Outcome.COMPLETED
    assert alive(pid_in(bench.work / "daemon"))

    bench.executor.stop_attempt(running, Outcome.STOPPED, "cancelled")
    bench.end(running)
    assert not alive(pid_in(bench.work / "daemon"))


def test_a_background_process_is_found_among_more_children_than_the_kernel_lists_at_once(bench: Workbench) -> None:
    # One read of the kernel's list returns at most a page of it: some 600 children.
    ours = [subprocess.Popen(["true"]) for _ in range(1100)]
    try:
        bench.shell("sleep 300 & echo $! > pid; exit 0")

        assert not alive(pid_in(bench.work / "pid"))
    finally:
        for process in ours:
            process.wait()


def test_children_of_this_process_that_are_no_tasks_are_let_be(bench: Workbench) -> None:
    ours = [subprocess.Popen(["sleep", "300"], start_new_session=own) for own in (False, True)]
    try:
        bench.shell("sleep 300 & exit 0")

        assert [process.poll() for process in ours] == [None, None]
    finally:
        for process in ours:
            process.kill()
            process.wait()


def run_apart(script: str, folder: Path) -> tuple[str, str]:
    """Run a script, which gets `folder` and the root of the tests, in a process of its own; return what it prints."""
    command = [sys.executable, "-c", script, str(folder), str(Path(__file__).parents[2])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr


def test_where_the_worker_has_no_other_children_a_stray_without_any_mark_is_killed_too(tmp_path: Path) -> None:
    script = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.worker.workbench import Workbench, alive
from echelon.worker.runtimes.process import ProcessRuntime
bench = Workbench(Path(sys.argv[1]), runtime=ProcessRuntime(sole_parent=True))
bench.shell("env -i setsid /bin/sh -c 'echo $$ > pid; exec sleep 300' & while ! [ -s pid ]; do :; done")
print(alive(int((bench.work / "pid").read_text())))
"""

    assert run_apart(script, tmp_path) == ("False\n", "")


#: A daemon whose first thread ends: /proc calls it a zombie, and another thread goes on. It writes its number.
HEADLESS = """
import ctypes, os, threading, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(0, 100)
threading.Thread(target=time.sleep, args=(300,)).start()
with open("made", "w") as file:
    file.write(str(os.getpid()))
os.rename("made", "pid")
ctypes.CDLL(None).syscall(EXIT, 0)
"""
EXIT = {"x86_64": 60, "aarch64": 93}


@pytest.mark.skipif(platform.machine() not in EXIT, reason="the number of the system call is not known")
@pytest.mark.parametrize("environment", ["", "env -i"])
@pytest.mark.parametrize("end", ["end", "cancel"])
def test_a_process_whose_first_thread_has_ended_is_no_zombie_and_is_killed(
    tmp_path: Path, environment: str, end: str
) -> None:
    (tmp_path / "headless.py").write_text(HEADLESS.replace("EXIT", str(EXIT[platform.machine()])))
    script = f"""
import os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from echelon.shared.messages import Outcome
from echelon.worker.runtimes.process import ProcessRuntime
from tests.worker.workbench import Workbench

bench = Workbench(Path(sys.argv[1]), runtime=ProcessRuntime(sole_parent=True))
task = "{environment} /usr/bin/env python3 {tmp_path}/headless.py; while ! [ -s pid ]; do :; done; touch ready"
cancelled = "{end}" == "cancel"
ref = bench.start("sh", "-c", task + ("; sleep 300" if cancelled else ""))
bench.until(lambda: (bench.work / "ready").exists())
pid = int((bench.work / "pid").read_text())
bench.until(lambda: not os.path.exists(f"/proc/{{pid}}/exe") or not os.path.lexists(f"/proc/{{pid}}"))
if cancelled:
    bench.executor.stop_attempt(ref, Outcome.STOPPED, "cancelled", grace=0.0)
bench.end(ref)
print(os.path.exists(f"/proc/{{pid}}") and len(os.listdir(f"/proc/{{pid}}/task")))
bench.close()
"""

    assert run_apart(script, tmp_path) == ("False\n", "")


def test_what_ends_shortly_after_the_task_may_print_what_it_has(bench: Workbench) -> None:
    bench.shell("(sleep 0.02; echo late) & echo early")

    assert bench.log() == b"early\nlate\n"


def test_strays_are_found_as_well_when_the_executor_is_not_in_the_main_thread(tmp_path: Path) -> None:
    gone: list[bool] = []

    def work() -> None:
        bench = Workbench(tmp_path)
        bench.shell("setsid sleep 300 & echo $! > daemon")
        gone.append(not alive(pid_in(bench.work / "daemon")))
        bench.executor.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert gone == [True]


# With cgroups they are looked for once a second, and in a process with other children only reaped after some more.
@pytest.mark.parametrize("bench", ["posix_spawn", "subprocess"], indirect=True)
def test_no_zombie_stays(bench: Workbench) -> None:
    # Engines that other tests have killed may have left some: this process stays a subreaper.
    before = zombies()
    for _ in range(3):
        bench.shell("setsid true & (true &) ; true &")
    bench.until(lambda: zombies() <= before)


def zombies() -> set[str]:
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path("/proc", name, "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if fields[0] == "Z" and int(fields[1]) == os.getpid():
            found.add(name)
    return found
