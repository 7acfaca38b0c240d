"""Processes that hide from their task: they are ended with it, and other tasks' processes are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.shared.messages import Outcome
from echelon.worker.runtimes import proc
from echelon.worker.runtimes.cgroups import Cgroups, kill_cgroups, make_cgroups
from echelon.worker.runtimes.process import ProcessRuntime
from tests.worker.workbench import Workbench, alive

#: Each starts `tail -f mark`, which must not outlive the task. `await` returns when it runs.
ESCAPES = {
    "clean environment and session": '(env -i setsid sh -c "tail -f mark >/dev/null" &) ; await',
    "two forks": "(env -i setsid sh -c '(setsid tail -f mark &) & exit' &) ; await",
    "nohup": "(env -i nohup tail -f mark >/dev/null 2>&1 &) ; await",
    "a group of its own": "env -i python3 group.py & await",
    "a daemon": "env -i python3 daemon.py ; await",
    "a process without its first thread": "env -i python3 threads.py & await",
}
FILES = {
    "daemon.py": (
        "import os\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.chdir('/')\n"
        "        os.closerange(0, 100)\n"
        "        os.execl('/usr/bin/tail', 'tail', '-f', MARK)\n"
        "    os._exit(0)\n"
        "os._exit(0)\n"
    ),
    "group.py": "import os; os.setpgid(0, 0); os.execlp('tail', 'tail', '-f', MARK)",
    "threads.py": (
        "import ctypes, subprocess, sys, threading\n"
        "threading.Thread(target=lambda: subprocess.run(['tail', '-f', MARK])).start()\n"
        "ctypes.CDLL(None).pthread_exit(0)\n"
    ),
    "hopper.py": ("import os\nos.setsid()\nopen('hops', 'w').write('x')\nwhile True:\n    if os.fork(): os._exit(0)\n"),
}


def running(mark: Path) -> list[int]:
    """Return the processes whose command line names a file."""
    found = []
    for pid in proc.every_pid():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(mark).encode() in words and words[0] == b"tail" and alive(pid):
            found.append(pid)
    return found


def prepare(bench: Workbench, escape: str) -> tuple[str, Path]:
    """Return a script with an escape, and the file that its process names."""
    mark = bench.work / f"mark-{uuid.uuid4()}"
    bench.work.mkdir(parents=True, exist_ok=True)
    mark.touch()
    for name, text in FILES.items():
        (bench.work / name).write_text(text.replace("MARK", repr(str(mark))))
    wait = f"until grep -qs {mark.name} /proc/[0-9]*/cmdline; do :; done"
    return ESCAPES[escape].replace("mark", str(mark)).replace("await", wait), mark


@pytest.fixture
def cgroups() -> Cgroups:
    made = make_cgroups(str(uuid.uuid4()))
    if made is None:
        pytest.skip("this user cannot make cgroups of version 2 here")
    return made


@pytest.fixture
def bench(tmp_path: Path, cgroups: Cgroups) -> Iterator[Workbench]:
    bench = Workbench(tmp_path, runtime=ProcessRuntime(sole_parent=False, cgroups=cgroups))
    yield bench
    bench.executor.close()


@pytest.mark.parametrize("escape", ESCAPES)
def test_an_escaped_process_ends_with_its_task_although_others_run(bench: Workbench, escape: str) -> None:
    script, mark = prepare(bench, escape)
    other, spared = prepare(bench, "clean environment and session")
    running_on = bench.start("sh", "-c", f"{other}; sleep 300", index=1)
    bench.until(lambda: running(spared))

    finished = bench.shell(script)

    assert (finished.outcome, running(mark)) == (Outcome.COMPLETED, [])
    assert len(running(spared)) == 1
    bench.executor.stop_attempt(running_on, Outcome.STOPPED, "cancelled", grace=0.0)
    bench.end(running_on)
    assert running(spared) == []


def test_a_process_that_forks_all_the_time_is_ended(bench: Workbench) -> None:
    prepare(bench, "nohup")
    finished = bench.shell("env -i python3 hopper.py & while ! [ -s hops ]; do :; done")

    assert finished.outcome is Outcome.COMPLETED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may move itself into another cgroup")
def test_a_task_cannot_make_cgroups_of_its_own(bench: Workbench) -> None:
    script = """
own=$(find /sys/fs/cgroup -path "*$(sed -n 's/^0:://p' /proc/self/cgroup)" -prune | head -1)
[ -e "$own/cgroup.threads" ] && ! mkdir "$own/mine"
"""

    assert bench.shell(script).outcome is Outcome.COMPLETED


def test_sigterm_reaches_every_process_once(bench: Workbench) -> None:
    script = (
        "env -i setsid python3 -c 'import signal, sys, threading, time\n"
        'signal.signal(15, lambda *_: print("heard", flush=True))\n'
        "threading.Thread(target=time.sleep, args=(300,), daemon=True).start()\n"
        'open("ready", "w").write("x")\n'
        "time.sleep(0.3); time.sleep(300)' & sleep 300"
    )
    ref = bench.start("sh", "-c", script, grace=0.5)
    bench.until((bench.work / "ready").exists)

    bench.executor.stop_attempt(ref, Outcome.STOPPED, "cancelled")

    assert bench.end(ref).outcome is Outcome.STOPPED
    assert bench.log() == b"heard\n"


def test_nothing_is_left_of_the_cgroups_when_a_worker_has_ended(tmp_path: Path, cgroups: Cgroups) -> None:
    bench = Workbench(tmp_path, runtime=ProcessRuntime(sole_parent=False, cgroups=cgroups))
    bench.shell(prepare(bench, "a daemon")[0])
    bench.start("sleep", "300")
    assert os.path.isdir(cgroups.path)

    bench.executor.close()

    assert not os.path.exists(cgroups.path)


LIFE = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from echelon.worker.runtimes.cgroups import make_cgroups
from echelon.worker.runtimes.process import ProcessRuntime
from tests.worker.test_escapes import prepare, running
from tests.worker.workbench import Workbench
grouped = sys.argv[3] != "subreaper"
bench = Workbench(
    Path(sys.argv[1]), runtime=ProcessRuntime(sole_parent=True, cgroups=make_cgroups(sys.argv[3]) if grouped else None)
)
"""


def live(tmp_path: Path, name: str, script: str) -> subprocess.Popen[str]:
    """Start a bench in a process of its own."""
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", LIFE + script, str(tmp_path), root, name],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
    )


@pytest.mark.parametrize("named", [True, False], ids=["by its name", "by its lock"])
def test_what_a_killed_worker_has_left_is_found(tmp_path: Path, cgroups: Cgroups, named: bool) -> None:
    cgroups.close()
    name = str(uuid.uuid4())
    script = """
script, mark = prepare(bench, "clean environment and session")
bench.start("sh", "-c", script + "; env -i sleep 300")
bench.until(lambda: running(mark))
print(mark, flush=True)
bench.until(lambda: False)
"""
    life = live(tmp_path, name, script)
    assert life.stdout is not None
    mark = Path(life.stdout.readline().strip())
    life.send_signal(signal.SIGKILL)
    life.communicate()
    assert len(running(mark)) == 1

    # The sleep and the tail; the shell has replaced itself or not.
    assert kill_cgroups([name] if named else [], timeout=5.0) >= 2
    assert running(mark) == []
    assert kill_cgroups([name], timeout=5.0) == 0


def test_a_cgroup_that_another_program_has_removed_has_no_survivors(cgroups: Cgroups) -> None:
    cgroup = cgroups.take_cgroup()
    for folder in Path(cgroups.path).iterdir():
        if folder.is_dir():
            folder.rmdir()

    assert not cgroup.has_survivors(main=1)


def test_what_a_living_worker_runs_is_left_alone(bench: Workbench) -> None:
    script, mark = prepare(bench, "nohup")
    running_on = bench.start("sh", "-c", f"{script}; sleep 300")
    bench.until(lambda: running(mark))

    assert kill_cgroups([str(uuid.uuid4())], timeout=5.0) == 0

    assert len(running(mark)) == 1
    bench.executor.stop_attempt(running_on, Outcome.STOPPED, "cancelled", grace=0.0)
    bench.end(running_on)


@pytest.mark.parametrize("escape", ESCAPES)
def test_without_cgroups_an_escaped_process_ends_when_it_can_belong_to_no_running_task(
    tmp_path: Path, escape: str
) -> None:
    script = f"""
script, mark = prepare(bench, {escape!r})
print(bench.shell(script).outcome.name, len(running(mark)))
other = bench.start("sh", "-c", "while ! [ -e go ]; do sleep 0.01; done", index=1)
script, mark = prepare(bench, {escape!r})
bench.shell(script, index=2)
Path(bench.work, "go").touch()
bench.end(other)
print(len(running(mark)))
bench.executor.close()
"""

    life = live(tmp_path, "subreaper", script)

    assert life.communicate()[0] == "COMPLETED 0\n0\n"


def test_processes_that_have_left_their_task_and_ended_are_reaped(tmp_path: Path, cgroups: Cgroups) -> None:
    cgroups.close()
    script = """
import os
bench.shell("(env -i setsid true &) ; (env -i true &)")
def list_children():
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
bench.until(lambda: not list_children())
bench.executor.close()
print("reaped")
"""

    assert live(tmp_path, str(uuid.uuid4()), script).communicate()[0] == "reaped\n"
