"""Connections whose requests have not arrived cost no thread: what a client has sent so far is looked at, not taken.

The same holds for connections that end: they are closed when their clients have closed theirs, or two seconds later.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import re
import selectors
import socket
import struct
import termios
import time
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

#: Bytes of a request that are looked at to find the end of its head.
_PEEK = 8192
_HEAD_END = b"\r\n\r\n"
_READS = (b"GET ", b"HEAD")
_BODY = re.compile(rb"\n(?:content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)
_LENGTH = re.compile(rb"\ncontent-length[ \t]*:[ \t]*(\d{1,15})[ \t]*\r", re.IGNORECASE)
#: Bytes of a body that are waited for in the kernel's memory.
_HELD = 64 * 1024
_NO_FILE_LEFT = (errno.EMFILE, errno.ENFILE)
#: Seconds and bytes that a client gets to close its side after the last answer: closed at once, a connection on which
#: something unread has arrived would take the end of the answer with it.
_FAREWELL, _DRAINED = 2.0, 64 * 1024
#: Seconds of rest where no connection can be closed for another.
_REST = 0.05


class PatientWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's worker of threads; a thread gets a connection when most of a request has arrived.

    The poller watches it until then. Where there are too many connections, the one that has waited longest is closed.
    """

    #: Seconds for which a connection is watched.
    request_time: float

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)
        #: Connections that have got their last answer, the first to be closed first.
        self._ending: deque[Any] = deque()

    def finish_request(self, conn: Any, fs: Future[object]) -> None:
        """Take a connection back from its thread; gunicorn would wait in the main thread until a client closes."""
        if not fs.cancelled() and fs.exception() is None and fs.result():
            super().finish_request(conn, fs)
            return
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            conn.timeout, conn.drained = time.monotonic() + _FAREWELL, 0
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
            self._ending.append(conn)
        except (OSError, ValueError):
            # The client has gone.
            self.nr_conns -= 1
            conn.close()

    def _drain(self, conn: Any, client: socket.socket) -> None:
        """Drop what a client still sends; close when it has closed."""
        with contextlib.suppress(OSError):
            count = len(client.recv(_DRAINED))
            conn.drained += count
            if count and conn.drained < _DRAINED:
                return
        self._end_connection(conn)

    def _end_connection(self, conn: Any) -> None:
        self._ending.remove(conn)
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def murder_keepalived(self, force: bool = False) -> None:
        """Close connections whose time is over; called every second, at the end of the process too."""
        super().murder_keepalived(force)
        while self._ending and (force or self._ending[0].timeout <= time.monotonic()):
            self._end_connection(self._ending[0])

    def accept(self, listener: Any) -> None:
        """Accept a connection; one that waits gives way if there are too many."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in _NO_FILE_LEFT:
                raise
            self._close_one()
            # There may be none that waits; then this is tried again without end.
            time.sleep(_REST)
        if self.nr_conns >= self.worker_connections:
            self._close_one()

    def _close_one(self) -> None:
        """Close the connection that has waited longest for its client to send."""
        if self.pending_conns:
            self.pending_conns[0].timeout = 0.0
            super().murder_pending()
        elif self._ending:
            self._end_connection(self._ending[0])
        elif self.keepalived_conns:
            self.keepalived_conns[0].timeout = 0.0
            self.murder_keepalived()

    def enqueue_req(self, conn: Any) -> None:
        """Let a thread read a request that has arrived; watch the connection until then."""
        if conn.parser is None or not conn.parser.unreader.buf.getvalue():
            needed = count_needed(conn.sock)
            # Not again for as many: it is readable because the client has gone.
            if needed and needed != getattr(conn, "needed", 0):
                self._watch(conn, needed)
                return
        self._set_needed(conn, 0)
        conn.data_ready = True
        super().enqueue_req(conn)

    def _watch(self, conn: Any, needed: int) -> None:
        self._set_needed(conn, needed)
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + self.request_time
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def on_pending_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Go on watching a connection as long as too little has come."""
        needed = count_needed(client)
        if needed and needed != conn.needed:
            self._set_needed(conn, needed)
        else:
            super().on_pending_socket_readable(conn, client)

    def _set_needed(self, conn: Any, needed: int) -> None:
        if needed != getattr(conn, "needed", 0):
            conn.needed = needed
            # The client may be gone already.
            with contextlib.suppress(OSError):
                wait_for_bytes(conn.sock, max(needed, 1))

    def _cap_keepalive(self, deadline: float) -> None:
        """Give clients that have not sent a request as much time at the end as those that have got an answer."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)


def count_needed(connection: socket.socket) -> int:
    """Return how many bytes have to be there before a request is worth reading; 0: it is.

    That is its head, and its body as far as the kernel keeps it.
    """
    head = _peek(connection)
    if head is None:
        return 1
    end = head.find(_HEAD_END)
    if end < 0:
        return len(head) + 1 if 0 < len(head) < _PEEK else 0
    end += len(_HEAD_END)
    length = _LENGTH.search(head, 0, end)
    needed = end + min(int(length[1]), _HELD) if length else end
    return 0 if _count_there(connection) >= needed else needed


def is_whole_read(connection: socket.socket) -> bool:
    """Tell whether a whole request that only reads has arrived: it can be answered without waiting for its client.

    Those are the requests that come again and again. One that writes waits for the disk, and so for its turn there.
    """
    head = _peek(connection) or b""
    # One with a body may still have to send it.
    return head.startswith(_READS) and _HEAD_END in head and not _BODY.search(head)


def wait_for_bytes(connection: socket.socket, count: int) -> None:
    """Let the connection count as readable when so many bytes are there, or when the client has gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)


def _peek(connection: socket.socket) -> bytes | None:
    """Return the first bytes, nothing if the client has gone; None: it has sent nothing yet."""
    try:
        return connection.recv(_PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _count_there(connection: socket.socket) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, b"\0" * 4))
    return int(count)
