"""The client and the whole engine behind it: a real process, a real worker."""

from __future__ import annotations

import io
import socket
import uuid
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from echelon.controller.client import Client, NotAllowed, Rejected, ServerFault, Unreachable
from echelon.shared.errors import Conflict, NotFound
from tests.contract.servers import free_port
from tests.system.process import PATIENCE, Standalone, until

CATALOGUE = """
tasks:
  greet:
    input: {name: {source: parameter}}
    exec_command: sh
    exec_args: [-c, 'echo "hello $1"; echo oops >&2; echo "$1" > "greeting ü.txt"; echo done > "$ECHELON_OUTPUT"', sh,
      "{name}"]
  list:
    input: {name: {source: parameter}}
    exec_command: sh
    exec_args: [-c, 'echo "[{\\"name\\": \\"a\\"}, {\\"name\\": \\"b\\"}]" > "$ECHELON_SPAWN_FILE"']
  wait:
    exec_command: sh
    exec_args: [-c, 'echo begun; while [ ! -e go ]; do sleep 0.05; done; echo over']
  tell:
    input: {token: {source: parameter, secret: true}}
    exec_command: sh
    exec_args: [-c, 'test -n "$TOKEN" && printf %s "$TOKEN" | wc -c']
    env: {TOKEN: "{token}"}
  show:
    input: {data: {source: parameter}}
    exec_command: echo
    exec_args: ["{data}"]
  fail:
    exec_command: sh
    exec_args: [-c, "exit 3"]
jobs:
  show:
    input: {data: {source: http-header, key: X-Data, secret: false}}
    stages: [{name: Show, task_class: show}]
  greet:
    input: {name: {source: parameter}}
    stages:
    - {name: Greet, task_class: greet}
    - {name: Greet all, spawn_task: list, task_class: greet}
  wait: {stages: [{name: Wait, task_class: wait}]}
  tell:
    input: {token: {source: http-header, key: Authorization}}
    stages: [{name: Tell, task_class: tell}]
  fail: {stages: [{name: Fail, task_class: fail}]}
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    with Standalone(tmp_path_factory.mktemp("engine"), CATALOGUE) as made:
        yield made


@pytest.fixture
def client(engine: Standalone) -> Iterator[Client]:
    with Client(engine.url) as made:
        yield made


def test_a_job_is_submitted_awaited_read_and_removed(client: Client, tmp_path: Path) -> None:
    job = client.submit_job("greet", input={"name": "you"}, wait=60)

    job_id = job["job_id"]
    assert (job["state"], job["failed_tasks"]) == ("COMPLETED", 0)
    assert [stage["counts"]["COMPLETED"] for stage in job["stages"]] == [1, 2]
    tasks = list(client.list_tasks(job_id))
    assert [(task["stage"], task["index"], task["exit_code"]) for task in tasks] == [
        (0, 0, 0),
        (1, None, 0),
        (1, 0, 0),
        (1, 1, 0),
    ]
    assert client.get_task(tasks[0]["task_id"])["result"] == "done\n"
    assert "".join(client.read_task_log(tasks[0]["task_id"], stream="stdout")) == "hello you\n"
    log = "".join(client.read_log(job_id))
    assert log.startswith("==> stage 0 Greet, task 0, attempt 1, stdout <==\nhello you\n") and log.count("==>") == 6
    assert "".join(client.read_log(job_id, follow=True)).count("hello") == 3
    assert next(iter(client.list_events(job_id)))["kind"] == "job_submitted"
    assert [artefact["path"] for artefact in client.list_artefacts(job_id)] == ["greeting ü.txt"]
    assert (
        client.download_artefact(job_id, "greeting ü.txt", tmp_path / "copy")
        == len((tmp_path / "copy").read_bytes())
        > 0
    )
    client.download_zip(job_id, tmp_path / "all.zip")
    assert zipfile.ZipFile(io.BytesIO((tmp_path / "all.zip").read_bytes())).namelist() == ["greeting ü.txt"]
    assert client.find_job(job_id[:8]) == job_id
    assert client.find_id(tasks[0]["task_id"]) == ("task", tasks[0]["task_id"])
    assert job_id in [found["job_id"] for found in client.list_jobs(state="completed", type="greet", q="you")]
    assert client.delete_job(job_id)["state"] == "COMPLETED"
    with pytest.raises(NotFound):
        client.get_job(job_id)


def test_a_job_is_heard_while_it_runs_and_cancelled_for_good(client: Client, engine: Standalone) -> None:
    job_id = client.submit_job("wait")["job_id"]
    with Client(engine.url) as listener:
        pieces = listener.read_log(job_id, follow=True)
        heard = ""
        while "begun" not in heard:
            heard += next(pieces)

        cancelled = client.cancel_job(job_id)
        heard += "".join(pieces)

    assert cancelled["state"] == "CANCELLED"
    assert "over" not in heard
    with pytest.raises(Conflict):
        client.delete_job(client.submit_job("wait")["job_id"])


def test_a_wait_ends_with_the_job_or_with_its_time(client: Client, engine: Standalone) -> None:
    job_id = client.submit_job("wait", wait=1)["job_id"]

    assert client.get_job(job_id, wait=1)["state"] == "RUNNING"
    (engine.volume / "jobs" / job_id / "work" / "go").touch()
    assert client.get_job(job_id, wait=60)["state"] == "COMPLETED"


def test_a_failed_job_is_retried_and_keeps_its_attempts(client: Client) -> None:
    job = client.submit_job("fail", wait=60)
    again = client.retry_job(job["job_id"])
    until(lambda: client.get_job(job["job_id"], wait=5)["state"] == "FAILED", "it fails again")

    task = next(client.list_tasks(job["job_id"]))
    assert (job["state"], again["state"]) == ("FAILED", "RUNNING")
    assert (task["exit_code"], task["attempt"]) == (3, 2)
    assert [attempt["attempt"] for attempt in client.get_task(task["task_id"])["attempts"]] == [1, 2]


def test_a_header_input_reaches_the_task_and_nobody_else(client: Client) -> None:
    job = client.submit_job("tell", headers={"Authorization": "Bearer 123"}, wait=60)

    assert (job["state"], job["input"]) == ("COMPLETED", {"token": "********"})
    assert "10\n" in "".join(client.read_log(job["job_id"]))


def raw_submit(engine: Standalone, job_type: str, *headers: bytes) -> bytes:
    body = b'{"type": "%s", "input": {}}' % job_type.encode()
    lines = [b"POST /api/v1/jobs HTTP/1.1", b"Host: localhost", b"Connection: close", b"Content-Type: application/json"]
    lines += [*headers, b"Content-Length: %d" % len(body), b"", body]
    with socket.create_connection(("127.0.0.1", engine.port), timeout=PATIENCE) as connection:
        connection.sendall(b"\r\n".join(lines))
        return connection.makefile("rb").read()


@pytest.mark.parametrize(
    ("job_type", "headers"),
    [
        ("tell", [b"Authorization: one", b"Authorization: two"]),
        ("tell", [b"Authorization: one", b"authorization: one"]),
        ("show", [b"X-Data: one", b"x-data: two"]),
    ],
)
def test_two_of_a_mapped_header_are_refused(engine: Standalone, job_type: str, headers: list[bytes]) -> None:
    answer = raw_submit(engine, job_type, *headers)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


def test_a_twin_with_an_underscore_and_other_bytes_than_ascii_are_no_input(engine: Standalone) -> None:
    assert raw_submit(engine, "show", b"X-Data: good", b"X_Data: evil").startswith(b"HTTP/1.1 201 ")
    assert raw_submit(engine, "show", b"X_Data: evil").startswith(b"HTTP/1.1 422 ")
    assert raw_submit(engine, "show", "X-Data: ä".encode()).startswith(b"HTTP/1.1 422 ")


def test_too_much_that_comes_without_a_length_is_too_much_all_the_same(engine: Standalone) -> None:
    head = b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", engine.port), timeout=PATIENCE) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + 17 * piece + b"0\r\n\r\n")
        answer = connection.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer


def test_another_header_may_come_twice(engine: Standalone) -> None:
    assert raw_submit(engine, "show", b"X-Data: good", b"Accept: a", b"Accept: b").startswith(b"HTTP/1.1 201 ")


def test_the_same_key_gives_the_same_job(client: Client) -> None:
    first = client.submit_job("fail", idempotency_key="once")
    again = client.submit_job("fail", idempotency_key="once")

    assert again["job_id"] == first["job_id"]
    with pytest.raises(Conflict):
        client.submit_job("wait", idempotency_key="once")


def test_a_refusal_tells_every_mistake(client: Client) -> None:
    with pytest.raises(Rejected) as refused:
        client.submit_job("greet", input={"nam": "x"})

    assert {mistake.pointer for mistake in refused.value.mistakes} == {"#/input/nam", "#/input/name"}
    with pytest.raises(Rejected):
        client.submit_job("gret")


def test_a_value_that_json_has_no_word_for_is_refused_here_without_its_text() -> None:
    with Client("http://127.0.0.1:9") as nowhere:
        for value, told in (({"s3cr3t"}, "a value of the type set is not JSON"), (float("nan"), "not JSON compliant")):
            with pytest.raises(Rejected, match=told) as refused:
                nowhere.submit_job("greet", input={"name": value})  # type: ignore[dict-item]
            assert "s3cr3t" not in str(refused.value)


def test_a_path_is_sent_as_its_text_and_a_list_is_no_input(client: Client) -> None:
    job = client.submit_job("greet", input={"name": Path("/data/a.txt")}, paused=True)  # type: ignore[dict-item]
    client.cancel_job(job["job_id"])

    assert job["input"] == {"name": "/data/a.txt"}
    with pytest.raises(Rejected, match="#/input: must be an object"):
        client.submit_job("greet", input=["a"])  # type: ignore[arg-type]


def test_what_is_not_there_is_not_found(client: Client) -> None:
    for ask in (
        lambda: client.get_job(str(uuid.uuid4())),
        lambda: client.get_task(str(uuid.uuid4())),
        lambda: client.get_definition("gret"),
        lambda: client.find_job("ffffffffffff"),
        lambda: list(client.read_log("../jobs")),
        lambda: list(client.list_tasks("x/y")),
    ):
        with pytest.raises(NotFound):
            ask()


def test_the_engine_tells_of_itself(client: Client) -> None:
    assert client.get_health()["ready"]
    assert [worker["state"] for worker in client.list_workers()] == ["UP"]
    assert isinstance(client.list_queues(), list)
    assert [job["type"] for job in client.get_definitions()["jobs"]] == ["show", "greet", "wait", "tell", "fail"]
    assert client.get_definition("greet")["input"][0]["name"] == "name"


def test_where_nobody_listens_it_is_unreachable() -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(Unreachable, match="refused"):
        client.get_health()
    with Client("nonsense") as client, pytest.raises(Unreachable):
        client.list_jobs().__next__()


def test_waiting_for_a_job_ends_with_it_or_with_the_time(client: Client) -> None:
    held = client.submit_job("greet", input={"name": "you"}, paused=True)

    assert client.wait(held, timeout=0.1)["state"] in ("PENDING", "RUNNING")
    client.resume_job(held["job_id"])
    assert client.wait(held["job_id"])["state"] == "COMPLETED"


def test_a_wait_outlasts_a_restart_of_the_controller(client: Client, engine: Standalone) -> None:
    job_id = client.submit_job("greet", input={"name": "you"}, wait=60)["job_id"]
    engine.kill()
    with pytest.raises(Unreachable):
        client.wait(job_id, timeout=0.1)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.wait, job_id)
        engine.start()

        assert waiting.result(timeout=30)["state"] == "COMPLETED"


def test_what_is_no_controller_is_a_fault(engine: Standalone) -> None:
    with Client(f"{engine.url}/docs") as client, pytest.raises((ServerFault, NotFound)):
        client.get_health()


def test_a_name_that_is_not_this_machine_is_not_allowed(engine: Standalone) -> None:
    with Client(f"http://127.0.0.2:{engine.port}") as client, pytest.raises((NotAllowed, Unreachable)):
        client.list_workers()


@pytest.mark.parametrize("more", ["/", "/api/v1", "/api/v1/"])
def test_an_address_may_end_in_the_base_of_the_calls(engine: Standalone, more: str) -> None:
    with Client(engine.url + more) as client:
        assert client.get_health()["ready"]


def test_an_address_without_a_scheme_is_told_one_that_has_it() -> None:
    with (
        Client("127.0.0.1:8080") as client,
        pytest.raises(Unreachable, match=r"write for example http://127\.0\.0\.1:"),
    ):
        client.get_health()


def test_a_download_takes_the_name_of_a_file_as_text(client: Client, tmp_path: Path) -> None:
    job_id = client.submit_job("greet", input={"name": "you"}, wait=60)["job_id"]

    size = client.download_artefact(job_id, "greeting ü.txt", str(tmp_path / "copy"))
    packed = client.download_zip(job_id, str(tmp_path / "all.zip"))

    assert (size, packed) == ((tmp_path / "copy").stat().st_size, (tmp_path / "all.zip").stat().st_size)


def test_a_download_that_fails_leaves_nothing(client: Client, tmp_path: Path) -> None:
    job_id = client.submit_job("fail")["job_id"]

    with pytest.raises(NotFound):
        client.download_artefact(job_id, "nothing", tmp_path / "copy")

    assert list(tmp_path.iterdir()) == []
