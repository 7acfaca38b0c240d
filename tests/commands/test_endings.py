"""Every command ends with a documented exit code and without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import cast

import click
import pytest
from click.testing import CliRunner

from echelon.controller.client import Ambiguous, NotAllowed, Rejected, ServerFault, Unreachable
from echelon.controller.commands.options import exit_like_job
from echelon.controller.shapes import Job
from echelon.shared.command import ExitCode, LazyGroup, main_group
from echelon.shared.errors import Conflict, EchelonError, InvalidInput, NotFound, StoreUnavailable


def ended(error: BaseException) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a command that raises this."""

    @click.command()
    def fail() -> None:
        raise error

    class OneCommand(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            return fail

        def list_commands(self, ctx: click.Context) -> list[str]:
            return ["fail"]

    done = CliRunner().invoke(OneCommand(), ["fail"])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("option", ["--port", "--host", "--bind"])
@pytest.mark.parametrize("command", ["standalone", "controller"])
def test_an_option_of_other_programs_is_told_its_name_here(command: str, option: str) -> None:
    with pytest.raises(click.UsageError, match=f"No such option '{option}'. Did you mean '--listen'"):
        main_group([command, option, "8080"], standalone_mode=False)
    with pytest.raises(click.UsageError, match=f"No such option '{option}'") as refused:
        main_group(["jobs", option, "8080"], standalone_mode=False)
    assert "listen" not in refused.value.message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("x"), ExitCode.NOT_VALID),
        (Rejected("x"), ExitCode.NOT_VALID),
        (NotFound("x"), ExitCode.NOT_FOUND),
        (Conflict("x"), ExitCode.CONFLICT),
        (Ambiguous("x", []), ExitCode.CONFLICT),
        (Unreachable("x"), ExitCode.UNREACHABLE),
        (StoreUnavailable("x"), ExitCode.UNREACHABLE),
        (NotAllowed("x"), ExitCode.ENGINE),
        (ServerFault("x"), ExitCode.ENGINE),
        (EchelonError("x"), ExitCode.ENGINE),
    ],
)
def test_each_error_has_its_exit_code(error: EchelonError, code: ExitCode) -> None:
    assert ended(error) == (code, "", "echelon: x\n")


def test_a_mistake_of_ours_is_two_lines_and_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECHELON_DEBUG", raising=False)

    code, out, err = ended(KeyError("oops"))

    assert (code, out) == (ExitCode.ENGINE, "")
    assert err == "echelon: KeyError: 'oops'\nThis is a bug in Echelon. ECHELON_DEBUG=1 shows the traceback.\n"


def test_the_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHELON_DEBUG", "1")

    assert "Traceback (most recent call last)" in ended(KeyError("oops"))[2]


def test_an_error_cannot_trick_the_terminal() -> None:
    assert ended(NotFound("no \x1b]0;x\x07\nnext"))[2] == "echelon: no \\x1b]0;x\\x07\nnext\n"


def test_ctrl_c_ends_with_what_shells_expect() -> None:
    assert ended(KeyboardInterrupt())[0] == ExitCode.INTERRUPTED


def test_a_command_that_saw_a_job_end_says_how() -> None:
    codes = []
    for state, error in (
        ("COMPLETED", None), ("COMPLETED", "files are missing"), ("FAILED", "x"), ("CANCELLED", None),
    ):  # fmt: skip
        with pytest.raises(click.exceptions.Exit) as caught:
            exit_like_job(cast("Job", {"state": state, "failed_tasks": 1, "error": error}))
        codes.append(caught.value.exit_code)

    assert codes == [ExitCode.GOOD, ExitCode.JOB_FAILED, ExitCode.JOB_FAILED, ExitCode.CANCELLED]


def test_a_reader_that_has_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "ECHELON_CONFIG": "/dev/null"}

    done = subprocess.run(
        [sys.executable, "-m", "echelon.shared.command", "config", "--json"],
        stdout=write, stderr=subprocess.PIPE, env=environment, check=False,
    )  # fmt: skip
    os.close(write)

    assert (done.returncode, done.stderr) == (0, b"")
