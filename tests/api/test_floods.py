"""Many clients that send or take nothing, wait or do not close: they keep no others from being answered."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from tests.api.raw_server import KEPT, PATIENCE, Server, read_answer


@pytest.fixture
def own_server() -> Iterator[Server]:
    made = Server()
    yield made
    made.end()


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
    assert (b"nosniff" in refused) is (path != b"/hold-politely")


def test_clients_that_do_not_close_after_their_last_answer_keep_nobody_waiting(own_server: Server) -> None:
    asked = KEPT.replace(b"Host", b"Connection: close\r\nHost")
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(own_server.connect()).sendall(asked)

        # Waited for one after the other, they would take two seconds each: longer than this answer is waited for.
        assert own_server.asks(body="x")["body"] == "x"


def test_an_answer_comes_whole_although_more_was_sent_than_is_read(own_server: Server) -> None:
    for count in (100, 60_000):
        answer = own_server.ask(KEPT.replace(b"Host", b"Connection: close\r\nHost") + b"x" * count)
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
