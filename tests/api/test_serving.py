"""The server as a process, spoken to byte by byte."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.controller import arrivals
from tests.api.raw_server import KEPT, PATIENCE, Server, read_all, read_answer


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
