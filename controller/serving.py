"""Serves a WSGI application and runs a service beside it: gunicorn with one worker process of threads.

gunicorn's first process only watches: it makes the listening socket, forks, and forks again should the second one die.
Everything else (connections, threads, the engine) is made in the second process, after the fork. Knows nothing of
Flask, jobs or stores.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from echelon.controller import arrivals
from echelon.controller.arrivals import PatientWorker
from echelon.controller.fair_lock import FairLock
from echelon.controller.long_answers import LongAnswers, make_problem
from echelon.controller.settings import Address
from echelon.shared.errors import EchelonError

#: A private header in which repeated headers are noted, with all their values: WSGI would join them.
REPEATED = "X-ECHELON-REPEATED"
#: Key of the function that a view calls before a long wait, so that other threads compute meanwhile. It returns whether
#: the request may wait: not if too many do.
WAITS = "echelon.waits"

#: Seconds without a byte after which a client that sends (or takes) is let go.
_SILENCE = 10.0
_STALLED = 60.0
#: Seconds for which a thread that has answered waits for the client's next request.
_NEXT_REQUEST = 0.05
#: Seconds that answers under way get when the process ends.
_LINGER = 5.0
#: Seconds without an answer of the second process after which the first one starts another.
_HUNG = 120
#: Seconds that a reading request stands in line for its turn at most.
_PATIENCE = 0.25
#: Seconds after which a client that still sends is let go if half of the threads wait for such ones.
_HURRY = 1.0
#: Three quarters of the threads.
LONG_ANSWERS = 192
_BACKLOG = 1024
#: Most connections; half of the files that this process may open at most.
_CONNECTIONS = 2000

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Service(Protocol):
    """The application that runs in the serving process."""

    def app(self) -> WsgiApp:
        """Return the application."""

    def start(self) -> None:
        """Begin to work."""

    def interrupt(self) -> None:
        """Begin to end, and at the second call hurry. Called from a signal handler: sets events, waits for nothing."""

    def hurry(self) -> None:
        """Begin to end and wait for nothing: the process that watched is dead, and its successor needs the port."""

    def stop(self) -> None:
        """End, and return when all has ended."""


@dataclass(frozen=True, slots=True)
class Serving:
    """The application to serve, and how."""

    listen: Address
    #: Makes the service, in the process that serves. An EchelonError ends everything with its message.
    build: Callable[[], Service]
    #: Called in the process that serves when it answers, with the true address: port 0 becomes a free one.
    ready: Callable[[Address], None] = field(default=lambda address: None)
    #: Seconds that `Service.stop` may take.
    patience: float = 30.0
    #: Requests at once.
    threads: int = 256
    #: Those of them that may wait, follow a log or send much: each holds a thread as long as its client likes.
    long_answers: int = LONG_ANSWERS
    #: Requests that only read and are answered at once, while others stand in line.
    readers: int = 2
    #: Seconds in which a whole request, head and body, has to arrive.
    request_time: float = 30.0
    #: Bytes of a body that are read before the application is asked; it judges what is longer.
    max_body: int = 1 << 20


def serve(serving: Serving) -> int:
    """Serve until a signal ends it; return 0, or another number when it could not start or had to be killed."""
    if threading.active_count() > 1:
        raise RuntimeError("a process with threads must not fork")
    first = os.getpid()
    try:
        _Arbiter(_Application(serving)).run()
    except SystemExit as end:
        if os.getpid() != first:
            # The second process: its exit code tells the first one whether another try makes sense.
            raise
        return end.code if isinstance(end.code, int) else 1
    return 0


class _Arbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's first process."""

    def handle_usr2(self) -> None:
        """Do nothing: gunicorn would start the program anew, without the secrets that have left the environment."""

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """End. Why the service could not be built has been said; gunicorn would add that something failed."""
        if exit_status == self.APP_LOAD_ERROR:
            self.log.error_log.setLevel(logging.CRITICAL)
        super().halt(reason, exit_status)


class _Log(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's lines, among those of the program and in their form."""

    def setup(self, cfg: Any) -> None:
        """Write through the handlers of the program: gunicorn's own form fails here, with a trace for each line."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.addFilter(_is_news)


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own idea of an application: settings, and what to load."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.service: Service | None = None
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn how to serve."""
        settings: dict[str, object] = {
            "bind": str(self.serving.listen),
            "worker_class": _Worker,
            "workers": 1,
            "threads": self.serving.threads,
            "worker_connections": min(_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2),
            "backlog": _BACKLOG,
            "keepalive": 30,
            "timeout": _HUNG,
            "graceful_timeout": int(self.serving.patience + _LINGER + 5),
            "loglevel": "warning",
            "logger_class": _Log,
            "proc_name": "echelon",
            "control_socket_disable": True,
            # A header with an underscore would pass for its twin with a dash.
            "header_map": "drop",
            # No proxy is trusted to rewrite paths and schemes.
            "forwarded_allow_ips": "",
            "forwarder_headers": "",
            "limit_request_fields": 100,
            "limit_request_field_size": 8190,
            "when_ready": _limit_silence,
            "pre_request": note_repeats,
            "post_worker_init": lambda worker: worker.begin(self.serving),
            "worker_exit": lambda _arbiter, _worker: self._end(),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> WsgiApp:
        """Build the service; runs in the process that serves."""
        # The first process kills this one after its own, longer patience; answers under way get less of it.
        self.cfg.set("graceful_timeout", int(_LINGER))
        # The objects built now stay: collecting garbage among them would take a quarter of the first answer's time.
        gc.disable()
        try:
            self.service = self.serving.build()
            return self.service.app()
        except EchelonError as error:
            print(f"echelon: {error}", file=sys.stderr, flush=True)  # noqa: T201 - nobody else would say it
            sys.exit(Arbiter.APP_LOAD_ERROR)

    def _end(self) -> None:
        if self.service is not None:
            self.service.stop()


class _Worker(PatientWorker):
    """gunicorn's worker of threads; a client gets so long to send a request, and errors are problem documents."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)
        self.request_time = self.app.serving.request_time
        #: Thread -> connection that it reads a request from, and until when.
        self._reading: dict[int, tuple[socket.socket, float]] = {}
        self._turns = FairLock(self.app.serving.readers, patience=_PATIENCE)
        self._long = LongAnswers(self.app.serving.long_answers)
        self.wsgi: Any = None

    def begin(self, serving: Serving) -> None:
        """Start the service and tell that this process answers."""
        self._inner, self.wsgi = self.wsgi, self._read_first
        self.app.service.start()
        gc.freeze()
        gc.enable()
        serving.ready(Address(*self.sockets[0].getsockname()[:2]))

    def handle(self, conn: Any) -> object:
        """Serve the requests of a connection, as long as one follows the other."""
        while (result := self._handle_one(conn)) is True and self._goes_on(conn):
            pass
        return result

    def _goes_on(self, conn: Any) -> bool:
        """Tell whether a client sends its next request at once; then this thread answers it.

        gunicorn would hand the connection to the main thread and back: for a busy client that is a third of what an
        answer costs, and two more turns to wait for while other threads compute. A thread that waits here
        delays no other connection: there are enough threads for all.
        """
        if not self.alive or self.nr_conns > self.app.serving.threads or conn.parser.unreader.buf.getvalue():
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(_NEXT_REQUEST * 1000)) and self.alive and not arrivals.count_needed(conn.sock)

    def _handle_one(self, conn: Any) -> object:
        self._reading[threading.get_ident()] = (conn.sock, time.monotonic() + self.app.serving.request_time)
        if arrivals.is_whole_read(conn.sock):
            self._turns.acquire()
        try:
            return super().handle(conn)
        finally:
            self._turns.release()
            self._long.forget()
            self._reading.pop(threading.get_ident(), None)

    def murder_pending(self) -> None:
        """Let go of clients that take too long to send; called every second."""
        super().murder_pending()
        now, serving = time.monotonic(), self.app.serving
        readings = list(self._reading.values())
        for place, (connection, deadline) in enumerate(readings):
            is_too_many = place < len(readings) - serving.threads // 2
            if now > (deadline - serving.request_time + _HURRY if is_too_many else deadline):
                _hang_up(connection)

    def handle_exit(self, sig: int, frame: object) -> None:
        """Begin to end."""
        super().handle_exit(sig, frame)
        if self.app.service is not None:
            self.app.service.interrupt()

    def handle_quit(self, sig: int, frame: object) -> None:
        """End in order at Ctrl-C too: gunicorn would just exit."""
        self.handle_exit(sig, frame)

    def is_parent_alive(self) -> bool:
        """Tell whether the first process lives; without it, end as fast as can be."""
        alive = bool(super().is_parent_alive())
        if not alive and self.app.service is not None:
            # The next first process tries for five seconds to listen where this one does.
            self.cfg.set("graceful_timeout", 0)
            self.app.service.hurry()
        return alive

    def init_signals(self) -> None:
        """Keep Ctrl-C from cutting off system calls, as gunicorn does for SIGTERM."""
        super().init_signals()
        signal.siginterrupt(signal.SIGINT, False)

    def handle_error(self, req: object, client: Any, addr: object, exc: BaseException) -> None:
        """Answer a request that cannot be read with a problem document."""
        if isinstance(exc, OSError):
            # The client was too slow, and has been let go.
            return
        super().handle_error(req, _ProblemSocket(client), addr, exc)

    def _read_first(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Read the body while the clock runs, then ask the application."""
        length, largest = environ.get("CONTENT_LENGTH") or "0", self.app.serving.max_body
        if length.isdigit() and int(length) <= largest:
            body = environ["wsgi.input"].read(largest + 1)
            # A body in chunks names no length; without one the application would take its beginning for all of it.
            environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        self._reading.pop(threading.get_ident(), None)
        environ[WAITS] = self._begin_wait
        answer = self._long.answer(self._inner, environ, start_response)
        # The client takes it in its own time.
        self._turns.release()
        return answer

    def _begin_wait(self) -> bool:
        self._turns.release()
        return self._long.admit()


def note_repeats(worker: object, req: Any) -> None:
    """Note the headers that came more than once, with all their values; drop a note that the client made itself."""
    headers = [(name, value) for name, value in req.headers if name != REPEATED]
    counts = Counter([name for name, _ in headers])
    if len(counts) < len(headers):
        twice = {name.lower(): [v for n, v in headers if n == name] for name, count in counts.items() if count > 1}
        headers.append((REPEATED, json.dumps(twice)))
    req.headers = headers


def _limit_silence(arbiter: Any) -> None:
    """Let the kernel end reads and writes on which nothing moves; accepted connections inherit it."""
    for listener in arbiter.LISTENERS:
        for option, seconds in ((socket.SO_RCVTIMEO, _SILENCE), (socket.SO_SNDTIMEO, _STALLED)):
            listener.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(seconds), 0))


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a line says something: not that a client was too slow, or what the second process has said."""
    slow = record.exc_info and isinstance(record.exc_info[1], BlockingIOError)
    code = record.args[-1] if isinstance(record.args, tuple) and "exited with code" in str(record.msg) else 0
    return not slow and code != Arbiter.APP_LOAD_ERROR


def _hang_up(connection: socket.socket) -> None:
    # It may be gone already.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _ProblemSocket:
    """Stands for a connection while gunicorn writes its page of an error, and sends a problem document instead."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner

    def gettimeout(self) -> float | None:
        return self._inner.gettimeout()

    def setblocking(self, flag: bool) -> None:
        self._inner.setblocking(flag)

    def sendall(self, page: bytes) -> None:
        detail = "the request cannot be understood as HTTP/1.1, or is larger than allowed"
        status, headers, body = make_problem(HTTPStatus(int(page.split(b" ", 2)[1])), detail)
        lines = [f"HTTP/1.1 {status}", "Connection: close", *(f"{name}: {value}" for name, value in headers), "", ""]
        self._inner.sendall("\r\n".join(lines).encode() + body)
