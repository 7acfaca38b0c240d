"""compose.yaml brought up for real: containers killed in the middle of a job, and PostgreSQL in place of SQLite."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests
from pytest_docker.plugin import DockerComposeExecutor, get_docker_services

from echelon.controller.client import Client
from echelon.shared.errors import EchelonError
from tests.contract.servers import free_port
from tests.system.process import until

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose.yaml"
#: Stays behind, so that the next run finds its layers.
IMAGE = "echelon-test"
# So many that the job outlives the deaths of a worker and of the broker, however fast the machine.
TASKS = 20_000


def run(*command: str) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def found(*command: str) -> bool:
    """Tell whether a command is there and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="session")
def compose_command() -> str:
    """Return how Compose is called here; without an engine skip, unless the environment promises one."""
    commands = ("docker compose", "docker-compose")
    usable = [command for command in commands if found(*command.split(), "version")]
    if usable and found("docker", "info"):
        return usable[0]
    if os.environ.get("ECHELON_TEST_DOCKER") == "1":
        pytest.fail("ECHELON_TEST_DOCKER is set, and there is no Docker engine with Compose")
    pytest.skip("no Docker engine with Compose runs here")


@pytest.fixture(scope="session")
def image(compose_command: str) -> str:
    """Build the image once and return its name."""
    environ = os.environ | {"ECHELON_IMAGE": IMAGE, "ECHELON_DATASTORE": ""}
    command = [*compose_command.split(), "-f", str(COMPOSE), "build"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return IMAGE


class Stack:
    """The services of compose.yaml under a name and at ports of their own."""

    def __init__(self, command: str, project: str, port: int) -> None:
        self._command = DockerComposeExecutor(command, str(COMPOSE), project)
        self.client = Client(f"http://127.0.0.1:{port}")
        self.port = port

    def compose(self, words: str) -> str:
        """Give Compose a command and return what it printed."""
        return str(self._command.execute(words).decode().strip())

    def ids(self, service: str) -> list[str]:
        """Return the containers of a service, those that do not run among them: only 1.29 lists them unasked."""
        return self.compose(f"ps --all --quiet {service}").split()

    def ready(self) -> bool:
        """Tell whether the controller says that jobs can be taken and run."""
        try:
            return bool(self.client.get_health()["ready"])
        except EchelonError:
            return False

    def workers(self, state: str = "UP") -> int:
        """Return how many workers are in a state."""
        try:
            return sum(one["state"] == state for one in self.client.list_workers())
        except EchelonError:
            return 0

    def completed(self, job_id: str) -> int:
        """Return how many tasks of a job's first stage are done."""
        return self.client.get_job(job_id)["stages"][0]["counts"]["COMPLETED"]

    def read(self, job_id: str, path: str) -> str:
        """Return what an artefact holds."""
        return b"".join(self.client.read_artefact(job_id, path)).decode()

    def ended(self, job_id: str) -> str:
        """Wait for a job's end and return its state."""
        until(lambda: self.client.get_job(job_id)["state"] != "RUNNING", f"job {job_id} ends", patience=180)
        return self.client.get_job(job_id)["state"]


@contextmanager
def brought_up(command: str, image: str, **settings: str) -> Iterator[Stack]:
    """Bring a stack up; afterwards it is gone with all its volumes, and its last words are in the test's report."""
    project = f"echelontest{uuid.uuid4().hex[:8]}"
    port = free_port()
    ports = {"ECHELON_PORT": str(port), "ECHELON_RABBITMQ_PORT": str(free_port())}
    with pytest.MonkeyPatch.context() as patch, ExitStack() as afterwards:
        for name in [name for name in os.environ if name.startswith(("ECHELON_", "COMPOSE_"))]:
            patch.delenv(name)
        for name, value in (ports | settings | {"ECHELON_IMAGE": image}).items():
            patch.setenv(name, value)
        stack = Stack(command, project, port)
        # Before anything is made, so that a start that fails leaves nothing behind.
        cleanup = ["down -v --remove-orphans -t 1"]
        afterwards.enter_context(get_docker_services(command, str(COMPOSE), project, [], cleanup))
        afterwards.callback(lambda: print(stack.compose("logs --no-color --tail 40")))
        afterwards.callback(stack.client.close)
        # `docker-compose` 1.29 knows no --wait.
        stack.compose("up -d --wait" if command == "docker compose" else "up -d")
        until(stack.ready, "the controller is ready")
        yield stack


@pytest.fixture(scope="module")
def stack(compose_command: str, image: str) -> Iterator[Stack]:
    """Bring up what `docker compose up --wait` does."""
    with brought_up(compose_command, image) as running:
        yield running


@pytest.mark.slow
def test_the_image_runs_as_nobody_special_and_holds_no_tools_of_the_build(image: str) -> None:
    tools = "for tool in gcc cc make git; do command -v $tool; done; ls /root/.cache /src"
    done = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", "sh", image, "-c", f"id -u; id -g; {tools}"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.stdout.split() == ["10001", "10001"]
    assert run("docker", "run", "--rm", image, "--version")


@pytest.mark.slow
def test_the_curl_of_the_page_on_installation_is_answered_as_shown(stack: Stack) -> None:
    text = (ROOT / "docs/how-to/install.md").read_text(encoding="utf-8")
    shown = re.search(r"^\$ (curl -i .*)\n(HTTP/1\.1 (?:.+\n)+)", text, re.MULTILINE)
    assert shown

    answer = run(*shlex.split(shown[1].replace("127.0.0.1:8080", f"127.0.0.1:{stack.port}")))

    (status, names), (shown_status, shown_names) = head(answer), head(shown[2])
    assert status == shown_status
    assert [name for name in names if name in shown_names] == shown_names
    assert "YWRhOjE4MTU=" not in answer
    job_id = json.loads(answer.replace("\r", "").partition("\n\n")[2])["job_id"]
    assert (stack.ended(job_id), stack.read(job_id, "user.txt")) == ("COMPLETED", "ada\n")


def head(answer: str) -> tuple[str, list[str]]:
    """Return the status line of an answer and the names of its headers."""
    first, *headers = answer.replace("\r", "").split("\n\n")[0].splitlines()
    return first, [line.partition(":")[0] for line in headers if line != "..."]


@pytest.mark.slow
def test_without_a_token_a_name_from_outside_is_not_answered(stack: Stack) -> None:
    answer = requests.get(f"http://127.0.0.1:{stack.port}/readyz", headers={"Host": "evil.example"}, timeout=30)

    assert answer.status_code == 421


@pytest.mark.slow
def test_a_health_check_tells_who_has_lost_the_broker(stack: Stack) -> None:
    def healthy(service: str) -> bool:
        return found("docker", "exec", stack.ids(service)[0], "echelon-healthcheck")

    def both(state: bool) -> Callable[[], bool]:
        return lambda: [healthy(service) for service in ("controller", "worker")] == [state, state]

    until(both(True), "both are healthy")
    run("docker", "stop", "-t", "1", *stack.ids("rabbitmq"))
    until(both(False), "both are not healthy")
    run("docker", "start", *stack.ids("rabbitmq"))
    until(both(True), "both are healthy again")


@pytest.mark.slow
def test_a_job_survives_the_death_of_a_worker_and_of_the_broker(stack: Stack) -> None:
    stack.compose("up -d --no-recreate --scale worker=3")
    until(lambda: stack.workers() == 3, "three workers are up")
    job_id = stack.client.submit_job("fanout", input={"count": TASKS})["job_id"]

    until(lambda: stack.completed(job_id) >= 200, "the fan-out is under way")
    run("docker", "kill", stack.ids("worker")[0])
    until(lambda: stack.completed(job_id) >= 600, "the other workers go on")
    run("docker", "kill", *stack.ids("rabbitmq"))
    until(lambda: not stack.ready(), "the broker is missed")
    while_away = stack.client.submit_job("hello")["job_id"]
    before = stack.client.get_job(job_id)
    run("docker", "start", *stack.ids("rabbitmq"))

    assert before["state"] == "RUNNING"
    assert stack.ended(job_id) == "COMPLETED"
    assert stack.ended(while_away) == "COMPLETED"
    squares = stack.client.get_job(job_id)["stages"][0]
    assert {state: count for state, count in squares["counts"].items() if count} == {"COMPLETED": TASKS}
    assert squares["total"] == TASKS
    assert stack.read(job_id, "sum.txt") == str(sum(number * number for number in range(TASKS)))
    until(lambda: (stack.workers("UP"), stack.workers("LOST")) == (2, 1), "the dead worker is given up")


@pytest.mark.slow
def test_postgresql_can_stand_in_place_of_sqlite(compose_command: str, image: str) -> None:
    url = "postgresql://echelon:echelon@postgresql/echelon"
    with brought_up(compose_command, image, COMPOSE_PROFILES="postgresql", ECHELON_DATASTORE=url) as stack:
        job_id = stack.client.submit_job("fanout", input={"count": 20})["job_id"]

        assert stack.ended(job_id) == "COMPLETED"
        assert stack.read(job_id, "sum.txt") == "2470"
        query = "psql -h 127.0.0.1 -U echelon -tAc 'SELECT count(*) FROM jobs'"
        assert stack.compose(f"exec -T -e PGPASSWORD=echelon postgresql {query}") == "1"
        assert "postgresql" not in stack.compose("exec -T worker env")
