"""The server as a process, spoken to byte by byte."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echelon.controller import arrivals

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0


class Server:
    """A process that serves, and its port."""

    def __init__(self, threads: int = 256, request_time: float = 2.0) -> None:
        environ = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.api.echo_server", str(threads), str(request_time)],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.says() == "started"
        self.port = int(self.says())

    def says(self) -> str:
        """Return its next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def ask(self, request: bytes) -> bytes:
        """Return all that is answered to some bytes."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_all(connection)

    def asks(self, *headers: str, body: str = "") -> dict[str, Any]:
        """Return what the application was asked."""
        lines = ["POST / HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}", *headers, "", body]
        answer = self.ask("\r\n".join(lines).encode("latin-1"))
        assert answer.startswith(b"HTTP/1.1 200"), answer
        told: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return told

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=PATIENCE)


KEPT = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def read_answer(connection: socket.socket) -> bytes:
    """Return one answer to KEPT from a connection that stays open."""
    answer = b""
    while not answer.endswith(b"}"):
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    return answer


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    try:
        while piece := connection.recv(65536):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.end()


@pytest.fixture
def own_server() -> Iterator[Server]:
    made = Server()
    yield made
    made.end()


def test_a_header_with_an_underscore_does_not_pass_for_its_twin(server: Server) -> None:
    told = server.asks("X_Auth: evil", "X-Auth: good", "X_Other: evil")

    assert told["HTTP_X_AUTH"] == "good"
    assert "HTTP_X_OTHER" not in told


def test_headers_that_came_twice_are_noted_with_all_their_values(server: Server) -> None:
    told = server.asks("X-Auth: one", "Accept: a", "x-auth: two, three", "Accept: b")

    assert json.loads(told["HTTP_X_ECHELON_REPEATED"]) == {"x-auth": ["one", "two, three"], "accept": ["a", "b"]}


def test_a_client_cannot_write_that_note(server: Server) -> None:
    told = server.asks('X-Echelon-Repeated: {"authorization": ["forged"]}', "X_Echelon_Repeated: {}")

    assert "HTTP_X_ECHELON_REPEATED" not in told


def test_nobody_rewrites_the_path_or_the_scheme(server: Server) -> None:
    told = server.asks("Script-Name: /x", "SCRIPT_NAME: /evil", "PATH_INFO: /evil", "X-Forwarded-Proto: https")

    assert told["path"] == "/"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nabcde", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n0\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_with_a_problem(server: Server, request_: bytes, status: int) -> None:
    answer = server.ask(request_)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == status


def test_more_kept_connections_than_threads_are_all_served() -> None:
    server = Server(threads=2)
    connections = [server.connect() for _ in range(6)]
    try:
        for _ in range(3):
            for connection in connections:
                connection.sendall(KEPT)
                assert read_answer(connection).startswith(b"HTTP/1.1 200")
    finally:
        for connection in connections:
            connection.close()
        server.end()


def test_requests_that_come_at_once_on_one_connection_are_all_answered(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(KEPT * 3 + KEPT.replace(b"Host", b"Connection: close\r\nHost"))
        answers = read_all(connection)

    assert answers.count(b"HTTP/1.1 200") == 4


def test_a_client_that_asks_again_and_again_does_not_hold_up_the_end(own_server: Server) -> None:
    with own_server.connect() as connection:
        connection.sendall(KEPT)
        read_answer(connection)
        os.kill(own_server.process.pid, signal.SIGTERM)
        with contextlib.suppress(AssertionError, OSError):
            while True:
                connection.sendall(KEPT)
                read_answer(connection)

    assert own_server.says() == "stopped"
    assert own_server.process.wait(PATIENCE) == 0


def test_two_hundred_slow_clients_keep_nobody_waiting_and_are_let_go(own_server: Server) -> None:
    slow = [own_server.connect() for _ in range(100)]
    for connection in slow:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Le")
    slower = [own_server.connect() for _ in range(100)]
    for connection in slower:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
    began = time.monotonic()

    assert own_server.asks(body="x")["body"] == "x"

    answered = time.monotonic() - began
    # Drips one byte each time, which a limit on silence alone would never end.
    while time.monotonic() < began + PATIENCE and any(map(drip, slow + slower)):
        own_server.asks()
    assert answered < 2.0
    assert not any(map(drip, slow + slower))
    for connection in slow + slower:
        connection.close()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process open more files than is usual."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def flooded_server() -> Iterator[Server]:
    """Give a server whose clients may take longer than any test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    made = Server(request_time=1000.0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    yield made
    made.end()


FLOODS: dict[str, tuple[int, bytes]] = {
    "silent": (2500, b""),
    "slow heads": (700, KEPT[:20]),
    "slow heads behind a request": (700, KEPT + KEPT[:20]),
    "slow bodies": (700, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345"),
    "slow large bodies": (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n" + b"x" * 70_000),
    "slow bodies in chunks": (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345"),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_clients_that_do_not_send_their_requests_keep_no_others_from_being_answered(
    flooded_server: Server, many_files: None, flood: str
) -> None:
    count, sent = FLOODS[flood]
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(flooded_server.connect())
            # The server may have let it go by now.
            with contextlib.suppress(ConnectionError):
                connection.sendall(sent)

        for _ in range(3):
            assert flooded_server.asks(body="x")["body"] == "x"
        # As long as they stay, one after the other.
        with flooded_server.connect() as kept:
            for _ in range(3):
                kept.sendall(KEPT)
                assert read_answer(kept).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", [b"/hold", b"/hold-politely"])
def test_requests_that_wait_for_something_keep_no_others_from_being_answered(own_server: Server, path: bytes) -> None:
    waiting = [own_server.connect() for _ in range(8)]
    for connection in waiting:
        connection.sendall(KEPT.replace(b" / ", b" " + path + b" "))

    with own_server.connect() as connection:
        for _ in range(3):
            connection.sendall(KEPT)
            assert read_answer(connection).startswith(b"HTTP/1.1 200")

    os.kill(own_server.process.pid, signal.SIGTERM)
    for connection in waiting:
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
        connection.close()


@pytest.mark.parametrize("path", [b"/hold-politely", b"/until-the-end", b"/much"])
def test_long_answers_leave_threads_for_short_ones(own_server: Server, path: bytes) -> None:
    asked = KEPT.replace(b" / ", b" " + path + b" ")
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(own_server.connect()).sendall(asked)

        for _ in range(3):
            assert own_server.asks(body="x")["body"] == "x"
        refused = own_server.ask(asked.replace(b"Host", b"Connection: close\r\nHost"))

    # A wait can be left out; what is long in any case is refused, and the client told when to come again.
    expected = b"HTTP/1.1 200" if path == b"/hold-politely" else b"HTTP/1.1 503"
    assert refused.startswith(expected), refused[:200]
    assert (b"Retry-After: 5" in refused) is (path != b"/hold-politely")


def test_clients_that_do_not_close_after_their_last_answer_keep_nobody_waiting(own_server: Server) -> None:
    asked = KEPT.replace(b"Host", b"Connection: close\r\nHost")
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(own_server.connect()).sendall(asked)

        # Waited for one after the other, they would take two seconds each: longer than this answer is waited for.
        assert own_server.asks(body="x")["body"] == "x"


def test_an_answer_comes_whole_although_more_was_sent_than_is_read(server: Server) -> None:
    for count in (100, 60_000):
        answer = server.ask(KEPT.replace(b"Host", b"Connection: close\r\nHost") + b"x" * count)
        assert answer.endswith(b"}"), (count, answer)


def test_when_clients_that_do_not_read_have_left_a_long_answer_is_possible_again(own_server: Server) -> None:
    asked = b"GET /much HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(own_server.connect()).sendall(asked)
        assert own_server.ask(asked).startswith(b"HTTP/1.1 503")

    deadline = time.monotonic() + PATIENCE
    while not own_server.ask(asked).startswith(b"HTTP/1.1 200"):
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("sent", "asks"),
    [
        (KEPT, True),
        (KEPT.replace(b"GET", b"HEAD"), True),
        (KEPT[:-1], False),
        (KEPT.replace(b"GET", b"POST"), False),
        (KEPT.replace(b"Host", b"Content-Length: 5\r\nHost"), False),
        (KEPT.replace(b"Host", b"TRANSFER-ENCODING: chunked\r\nHost"), False),
    ],
)
def test_only_a_whole_request_that_reads_waits_for_a_turn(sent: bytes, asks: bool) -> None:
    client, server = socket.socketpair()
    with client, server:
        client.sendall(sent)

        assert arrivals.is_whole_read(server) is asks
        assert server.recv(1000, socket.MSG_DONTWAIT) == sent, "the request is only looked at"
        assert not arrivals.is_whole_read(server)


def test_a_request_that_comes_in_pieces_is_answered(server: Server) -> None:
    with server.connect() as connection:
        last = KEPT.replace(b"Host", b"Connection: close\r\nHost")
        for piece in (KEPT[:3], KEPT[3:20], KEPT[20:] + last[:10], last[10:]):
            connection.sendall(piece)
            select.select([connection], [], [], 0.05)
        answers = read_all(connection)

    assert answers.count(b"HTTP/1.1 200") == 2


def drip(connection: socket.socket) -> bool:
    """Send one byte; tell whether the server still wants it."""
    try:
        connection.settimeout(0.01)
        connection.sendall(b"x")
        return connection.recv(1000) != b"" and False
    except TimeoutError:
        return True
    except OSError:
        return False


def test_a_signal_ends_it_in_order_and_lets_answers_come_to_their_end(own_server: Server) -> None:
    with own_server.connect() as connection:
        connection.sendall(b"GET /until-the-end HTTP/1.0\r\nHost: x\r\n\r\n")
        heard = b""
        while b"begun" not in heard:
            heard += connection.recv(1000)
        os.kill(own_server.process.pid, signal.SIGTERM)
        heard += read_all(connection)

    assert heard.endswith(b"over\n")
    assert own_server.says() == "stopped"
    assert own_server.process.wait(PATIENCE) == 0


def test_ctrl_c_ends_it_in_order_too(own_server: Server) -> None:
    os.killpg(own_server.process.pid, signal.SIGINT)

    assert own_server.says() == "stopped"
    assert own_server.process.wait(PATIENCE) == 0


def test_a_process_that_is_killed_is_followed_by_another(own_server: Server) -> None:
    children = Path(f"/proc/{own_server.process.pid}/task/{own_server.process.pid}/children").read_text().split()

    os.kill(int(children[0]), signal.SIGKILL)

    assert own_server.says() == "started"
    assert int(own_server.says()) == own_server.port
    assert own_server.asks(body="again")["body"] == "again"


def test_without_the_process_that_watches_it_ends_in_a_hurry(own_server: Server) -> None:
    os.kill(own_server.process.pid, signal.SIGKILL)

    assert [own_server.says(), own_server.says()] == ["hurried", "stopped"]


def test_it_leaves_no_control_socket_in_the_home_folder(server: Server) -> None:
    descriptors = Path(f"/proc/{server.process.pid}/fd").iterdir()

    assert not any(".ctl" in os.readlink(one) for one in descriptors if one.exists())
