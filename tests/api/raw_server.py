"""The server as a process, and how it is spoken to byte by byte."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

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
