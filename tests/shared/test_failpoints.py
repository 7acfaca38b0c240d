"""A failpoint does nothing unless the environment asks for it, and then once, loudly."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys

import pytest

from echelon.shared import failpoints
from echelon.shared.errors import InvalidInput
from echelon.shared.failpoints import FAILPOINTS, VARIABLE, FailpointReached, arm_failpoints, failpoint
from tests.system.process import until

REACH = (
    "import os; from echelon.shared.failpoints import arm_failpoints, failpoint;"
    " arm_failpoints(os.environ); failpoint('exec.mid'); print('after')"
)


@pytest.fixture(autouse=True)
def disarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "_armed", None)


def reach(action: str, program: str = REACH) -> subprocess.Popen[str]:
    environ = os.environ | {VARIABLE: f"exec.mid:{action}"}
    return subprocess.Popen([sys.executable, "-c", program], env=environ, stdout=subprocess.PIPE, text=True)


def test_nothing_happens_at_a_failpoint_that_nobody_has_armed() -> None:
    arm_failpoints({})
    for name in FAILPOINTS:
        failpoint(name)

    arm_failpoints({VARIABLE: "exec.mid:raise"})
    failpoint("submit.after_commit")


def test_a_failpoint_raises_at_its_nth_hit_and_never_again() -> None:
    arm_failpoints({VARIABLE: "exec.mid:raise:3, drain.begun:raise"})
    failpoint("exec.mid")
    failpoint("exec.mid")
    with pytest.raises(FailpointReached, match=r"exec\.mid"):
        failpoint("exec.mid")
    failpoint("exec.mid")

    with pytest.raises(FailpointReached, match=r"drain\.begun"):
        failpoint("drain.begun")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("exec.midd:kill", "there is no failpoint 'exec.midd'; there are: submit.before_insert, "),
        ("exec.mid", "'exec.mid' is not NAME:ACTION"),
        ("exec.mid:explode", "'exec.mid:explode' is not NAME:ACTION"),
        ("exec.mid:kill:0", "'exec.mid:kill:0' is not NAME:ACTION"),
        ("exec.mid:kill,", "'' is not NAME:ACTION"),
        ("exec.mid:sleep", "'exec.mid:sleep' is not NAME:ACTION"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_words(asked: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        arm_failpoints({VARIABLE: asked})

    assert said in str(caught.value)


def test_a_command_with_an_unknown_failpoint_does_not_start() -> None:
    command = [sys.executable, "-m", "echelon.shared.command", "jobs"]
    done = subprocess.run(command, env=os.environ | {VARIABLE: "no:kill"}, capture_output=True, text=True)

    assert done.returncode != 0
    assert "there is no failpoint 'no'; there are: submit.before_insert" in done.stderr


def test_a_process_that_is_armed_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        arm_failpoints({VARIABLE: "exec.mid:raise"})

    assert "this process fails on purpose: exec.mid:raise" in caplog.text


def test_kill_ends_the_process_and_stop_halts_it() -> None:
    with reach("kill") as killed:
        assert killed.communicate()[0] == ""
        assert killed.returncode == -signal.SIGKILL
    with reach("stop") as stopped:
        os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
        os.kill(stopped.pid, signal.SIGCONT)
        assert stopped.communicate()[0] == "after\n"


def test_sleep_goes_on_after_a_while() -> None:
    with reach("sleep=0.01") as slow:
        assert slow.communicate()[0] == "after\n"


def test_children_count_together_with_their_parent_so_that_the_next_one_lives() -> None:
    again = "\nimport sys\nfor _ in range(3):\n    pid = os.fork()\n    if not pid:\n        failpoint('exec.mid')\n"
    again += "        os._exit(0)\n    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)\n"
    with reach("kill:2", REACH + again) as parent:
        assert parent.communicate()[0].split() == ["after", "-9", "0", "0"]
    until(lambda: parent.poll() is not None, "it has ended")


def test_nobody_dies_between_the_count_of_a_failpoint_and_its_line_in_the_log() -> None:
    # The line of the first one is slow; meanwhile another thread comes past the second.
    code = """
import logging, threading, time
from echelon.shared import failpoints
from echelon.shared.failpoints import arm_failpoints, failpoint
logging.basicConfig(format="%(message)s")
begun = threading.Event()
def slow(record):
    if "submit.after_insert reached" in record.getMessage():
        begun.set()
        time.sleep(0.5)
    return True
failpoints.log.addFilter(slow)
arm_failpoints({failpoints.VARIABLE: "submit.after_insert:kill,claim.before_commit:kill"})
threading.Thread(target=failpoint, args=["submit.after_insert"]).start()
begun.wait()
failpoint("claim.before_commit")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ended.returncode == -signal.SIGKILL
    assert "submit.after_insert reached" in ended.stderr
