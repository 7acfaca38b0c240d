"""What lies ready for servers says nothing that Echelon would not understand: systemd units, Compose, the image."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
import yaml

from echelon.controller.settings import list_settings
from echelon.shared.command import GROUP
from echelon.shared.settings import settings_of
from echelon.worker.settings import WorkerOptions

ROOT = Path(__file__).resolve().parent.parent
UNITS = sorted((ROOT / "deploy").glob("*.service"))
SECURE = ROOT / "docs" / "how-to" / "secure.md"
FILES = [*UNITS, *sorted((ROOT / "deploy").glob("*.env")), ROOT / "Dockerfile", SECURE]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
COMMANDS: dict[str, click.Command] = {entry.name: entry.load() for entry in entry_points(group=GROUP)}


def known_variables() -> set[str]:
    """Return the names of all variables that controller and worker read."""
    known = [*list_settings(), *settings_of(WorkerOptions)]
    return {one.variable for one in known} | {f"{one.variable}_FILE" for one in known if one.secret}


def unknown_options(name: str, words: list[str]) -> list[str]:
    """Return the subcommand, or its options, that do not exist."""
    if name not in COMMANDS:
        return [name]
    options = {option for param in COMMANDS[name].params for option in param.opts}
    return [word for word in words if word.startswith("--") and word not in options]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_variable_that_is_set_for_a_server_is_one_that_is_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert set(re.findall(r"\b(ECHELON_[A-Z_]+)=", text)) - known_variables() == set()


def test_every_variable_that_compose_sets_is_one_that_is_read() -> None:
    given = {name for service in COMPOSE["services"].values() for name in service.get("environment", {})}

    assert {name for name in given if name.startswith("ECHELON_")} - known_variables() == set()


def test_every_variable_of_compose_is_explained_in_its_first_lines() -> None:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")

    used = set(re.findall(r"\$\{(\w+)", text))

    assert used - set(re.findall(r"^#   (\w+) ", text, re.MULTILINE)) == set()


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_the_commands_of_a_unit_exist(unit: Path) -> None:
    calls = re.findall(r"^Exec\w+=/opt/echelon/bin/echelon (\w+)(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)

    assert calls
    assert [wrong for name, rest in calls for wrong in unknown_options(name, rest.split())] == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can give up capabilities")
def test_the_capabilities_of_the_page_are_enough_to_run_tasks_as_another_user() -> None:
    page = SECURE.read_text(encoding="utf-8")
    (worker,) = re.findall(r"^```ini\n# the worker: (.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^CapabilityBoundingSet=(.*)$", worker, re.MULTILINE)
    bounds = ",".join(["-all", *(f"+{one.removeprefix('CAP_').lower()}" for one in " ".join(lines).split())])
    test = f"{ROOT}/tests/worker/test_rights.py::test_a_task_can_do_all_that_its_own_work_needs"

    words = ["setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set={bounds}", sys.executable, "-m", "pytest"]
    done = subprocess.run([*words, "-q", "-p", "no:cacheprovider", test], capture_output=True, text=True, check=False)

    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout


def test_the_commands_of_compose_exist() -> None:
    calls = [service["command"] for service in COMPOSE["services"].values() if "command" in service]

    assert sorted(call[0] for call in calls) == ["controller", "migrate", "worker"]
    assert [wrong for name, *words in calls for wrong in unknown_options(name, words)] == []


def test_only_this_machine_reaches_what_compose_publishes() -> None:
    published = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]

    assert len(published) == 2
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_a_worker_is_given_more_time_to_end_than_its_tasks_have() -> None:
    drain = WorkerOptions().drain_timeout
    unit = (ROOT / "deploy/echelon-worker@.service").read_text(encoding="utf-8")
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)

    assert stop
    # The grace of a task, the wait for a slow broker, and time to tidy up.
    assert int(stop[1]) >= drain + 60
    assert COMPOSE["services"]["worker"]["stop_grace_period"] == "2m"


def test_a_task_that_forks_without_end_meets_a_limit() -> None:
    unit = (ROOT / "deploy/echelon-worker@.service").read_text(encoding="utf-8")
    said = (ROOT / "docs/explanation/processes-of-a-task.md").read_text(encoding="utf-8")
    limit = re.search(r"^TasksMax=(\d+)$", unit, re.MULTILINE)

    assert limit
    assert COMPOSE["services"]["worker"]["pids_limit"] == int(limit[1])
    assert f"`TasksMax={limit[1]}`" in said and f"`pids_limit`, {limit[1]} " in said
