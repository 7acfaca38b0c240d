"""`echelon submit` to a controller that takes no more."""

from __future__ import annotations

from pathlib import Path

from echelon.shared.command import ExitCode
from tests.commands.calling import Caller
from tests.commands.catalogue import CATALOGUE
from tests.system.process import Standalone


def test_a_controller_that_takes_no_more_says_so_and_what_to_do(tmp_path: Path) -> None:
    folder, home = tmp_path / "standalone", tmp_path / "home"
    folder.mkdir(), home.mkdir()  # type: ignore[func-returns-value]
    with Standalone(folder, CATALOGUE, "--max-open-jobs", "1") as running:
        echelon = Caller(home=home, url=running.url)
        first = echelon("submit", "hello", "--paused", "--idempotency-key", "k")
        again = echelon("submit", "hello", "--paused", "--idempotency-key", "k")
        second = echelon("submit", "hello", "--paused")
        running.terminate()

    assert first.code == again.code == ExitCode.GOOD
    assert first.out == again.out
    assert second.code == ExitCode.UNREACHABLE
    assert "no more jobs are taken: about 1 are open, and at most 1 may be" in second.err
    assert "max_open_jobs" in second.err


def test_the_flag_is_explained_and_a_wrong_value_is_refused(tmp_path: Path) -> None:
    echelon = Caller(home=tmp_path)

    told = " ".join(echelon("controller", "--help").out.split())
    refused = echelon("standalone", "--catalogue", "x.yaml", "--max-open-jobs", "-1")

    assert "--max-open-jobs N Jobs that may be open at once" in told
    assert refused.code == ExitCode.USAGE
    assert "write a whole number from 0" in refused.err
