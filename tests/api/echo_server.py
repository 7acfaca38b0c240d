"""A process that serves an application which tells what it was asked: `echo_server THREADS REQUEST_TIME`."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from echelon.controller.serving import WAITS, Serving, WsgiApp, serve
from echelon.controller.settings import Address

#: A piece of a large answer, and how many of them are more than a client that does not read can be sent.
PIECE, PIECES = bytes(1 << 20), 32


def say(word: str) -> None:
    """Tell the test, on stdout."""
    print(word, flush=True)


class Echo:
    """Answers with the headers and the body of the request."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def app(self) -> WsgiApp:
        return self._answer

    def start(self) -> None:
        say("started")

    def interrupt(self) -> None:
        self._stopping.set()

    def hurry(self) -> None:
        say("hurried")
        self._stopping.set()

    def stop(self) -> None:
        say("stopped")

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        may_wait = True
        if environ["PATH_INFO"].startswith("/hold"):
            if environ["PATH_INFO"] == "/hold-politely":
                may_wait = environ[WAITS]()
            if may_wait:
                self._stopping.wait()
        if environ["PATH_INFO"] == "/until-the-end":
            start_response("200 OK", [])
            return self._last_words()
        if environ["PATH_INFO"] == "/much":
            start_response("200 OK", [("Content-Length", str(len(PIECE) * PIECES))])
            return [PIECE] * PIECES
        told: dict[str, object] = {name: value for name, value in environ.items() if name.startswith("HTTP_")}
        told["path"] = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
        told["body"] = environ["wsgi.input"].read().decode("latin-1")
        body = json.dumps(told).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _last_words(self) -> Iterable[bytes]:
        yield b"begun\n"
        self._stopping.wait()
        yield b"over\n"


if __name__ == "__main__":
    serving = Serving(
        Address("127.0.0.1", 0),
        Echo,
        ready=lambda at: say(str(at.port)),
        patience=5.0,
        threads=int(sys.argv[1]),
        request_time=float(sys.argv[2]),
    )
    sys.exit(serve(serving))
