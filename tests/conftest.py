"""What every ring of tests shares: seeded randomness, and who runs beside whom."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

_HERE = Path(__file__).parent
_PREFIX = "echelon-tests-"


def _temporary_folder() -> Path | None:
    """Let all that is made from now on lie in one folder for temporary files; None: the run that started us did so.

    What pytest keeps to be looked at (tmp_path) stays where it always is.
    """
    place = Path(tempfile.gettempdir())
    if place.name.startswith(_PREFIX):
        return None
    for left in place.glob(f"{_PREFIX}*"):
        # Of a run that was killed.
        if not Path(f"/proc/{left.name.removeprefix(_PREFIX)}").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = place / f"{_PREFIX}{os.getpid()}"
    # PostgreSQL runs as another user.
    folder.mkdir(mode=0o711, exist_ok=True)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(place))
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    return folder


_TEMPORARY = _temporary_folder()


def pytest_unconfigure() -> None:
    """Leave nothing behind, also when the run was interrupted."""
    if _TEMPORARY is not None:
        shutil.rmtree(_TEMPORARY, ignore_errors=True)


# A runner that was started in the background ignores these, and what a test starts would inherit that.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL)

#: Examples that every property is tried with: ECHELON_FUZZ=20000 tries so many, others each time, and minds the time
#: that each takes. Without it there are few, always the same: who has a red build wants to see it again.
FUZZ = int(os.environ.get("ECHELON_FUZZ", "0"))
_SLOW = [HealthCheck.too_slow]
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=_SLOW)
settings.register_profile(
    "fuzz", max_examples=FUZZ or 1, deadline=timedelta(seconds=1), suppress_health_check=_SLOW, print_blob=True
)
settings.load_profile("fuzz" if FUZZ else "ci")


#: The quick ring, by the beginnings of test ids: the core, the messages and the catalogue; one product for each port;
#: and a job that runs from end to end.
QUICK = (
    "tests/core/",
    "tests/catalogue/",
    "tests/shared/",
    "tests/test_architecture.py::test_no_source_breaks_the_rule",
    "tests/contract/test_broker.py::",
    "tests/contract/test_datastore.py::",
    "tests/contract/test_datastore_tasks.py::",
    "tests/engine/test_attempts.py::",
    "tests/engine/test_verbs.py::",
    "tests/worker/test_process.py::",
    "tests/api/test_jobs.py::",
    "tests/commands/test_run.py::",
)


#: The folders whose tests take longest: begun last, one of them would keep a single process busy at the end.
_LONGEST = {"system": 0, "simulation": 1, "contract": 2}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the quick ring, and begin with what takes longest."""
    for item in items:
        if item.nodeid.startswith(QUICK) and not {"slow", "server"} & {marker.name for marker in item.iter_markers()}:
            item.add_marker(pytest.mark.quick)
    items.sort(key=lambda item: _LONGEST.get(item.path.relative_to(_HERE).parts[0], len(_LONGEST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests together, for they share servers; and all of tests/system, for each fills a machine."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            place = nodeid.split("::", 1)[0]
            return "tests/system" if "tests/system/" in place else place

    # In the order above, not by the number of tests in a file.
    config.option.loadscopereorder = False
    return Together(config, log)


def _seconds_by_folder(terminalreporter: pytest.TerminalReporter) -> Counter[str]:
    spent: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                file = report.nodeid.split("::", 1)[0]
                spent[file.rpartition("/")[0] if file.count("/") > 1 else file] += report.duration
    return spent


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seconds spent by folder, and the figures that tests show beside the fact that they passed."""
    if terminalreporter.config.option.durations:
        terminalreporter.section("seconds by folder")
        for folder, seconds in _seconds_by_folder(terminalreporter).most_common():
            terminalreporter.write_line(f"{seconds:8.1f}  {folder}")
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "shown":
                terminalreporter.section(report.nodeid)
                terminalreporter.write_line(value)
