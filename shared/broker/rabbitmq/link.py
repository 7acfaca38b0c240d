"""One connection to RabbitMQ, owned by one thread, made again for ever.

Everything of pika happens on that thread; others hand it callbacks. It knows nothing of queues and messages.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Protocol

from pika.adapters.select_connection import IOLoop, SelectConnection
from pika.connection import Connection, Parameters

from echelon.shared.broker.rabbitmq.causes import Trouble
from echelon.shared.broker.rabbitmq.pulse import Pulse

log = logging.getLogger(__name__)

#: Pause before connecting again, in seconds: doubles, and each is shortened at random so that a fleet does not march.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.5
#: Seconds that a dropped connection gets to close its socket.
DROPPED_AFTER = 0.2


class LinkUser(Protocol):
    """A user of a link. All calls come on the link's thread."""

    def on_opened(self, connection: SelectConnection) -> None:
        """Begin: the connection is open."""

    def on_lost(self) -> None:
        """End: the connection is gone, and with it every channel."""

    def on_blocked(self, blocked: bool) -> None:
        """Note that the broker takes no messages for a while, or takes them again."""


class Link:
    """A connection that comes back."""

    def __init__(
        self, parameters: Parameters, tenant: LinkUser, name: str, trouble: Trouble, *, lease: float | None = None
    ) -> None:
        """`lease`: a server that does not answer for a part of it hangs; None: the link does not ask."""
        self._parameters = parameters
        self._tenant = tenant
        self._name = name
        self._trouble = trouble
        self._lock = threading.Lock()
        self._loop: IOLoop | None = None
        self._connection: SelectConnection | None = None
        self._open = False
        self._pulse = Pulse(lease)
        self._closing = threading.Event()
        self._pause = FIRST_PAUSE
        self._thread = threading.Thread(target=self._run_thread, name=f"amqp-{name}", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Tell whether the connection is open."""
        return self._open

    @property
    def hangs(self) -> bool:
        """Tell whether the connection is open and the server at its other end does not answer."""
        return self._open and not self._pulse.is_felt

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run a callback on the link's thread soon; never when there is no connection. Any thread may call it."""
        with self._lock:
            if self._loop is not None:
                self._loop.add_callback_threadsafe(callback)

    def close(self, *, timeout: float) -> None:
        """Close within `timeout` seconds, politely if the broker answers in time, else by dropping the connection."""
        deadline = time.monotonic() + timeout
        self._closing.set()
        self.call_soon(self._close_politely)
        self._thread.join(max(0.0, deadline - time.monotonic() - 0.2))
        if self._thread.is_alive():
            log.warning("the broker does not answer; its %s connection is dropped", self._name)
            self.call_soon(self._drop_connection)
            self._thread.join(0.2)

    def _run_thread(self) -> None:
        while not self._closing.is_set():
            try:
                self._run_connection()
            except Exception:
                log.exception("the %s connection to the broker is made anew after a mistake", self._name)
            if not self._closing.is_set():
                self._closing.wait(self._pause * random.uniform(0.5, 1.0))
                self._pause = min(LONGEST_PAUSE, self._pause * 2)

    def _run_connection(self) -> None:
        loop = IOLoop()
        try:
            connection = SelectConnection(
                self._parameters, self._on_open, self._on_open_error, self._on_close, custom_ioloop=loop
            )
            with self._lock:
                self._loop, self._connection = loop, connection
            if not self._closing.is_set():
                loop.start()
        except Exception:
            # Let go of the socket, or the broker believes in a listener that is none.
            self._drop_connection()
            loop.call_later(DROPPED_AFTER, loop.stop)
            loop.start()
            raise
        finally:
            with self._lock:
                self._loop = self._connection = None
            self._pulse.end()
            if self._open:
                self._open = False
                self._tenant.on_lost()
            loop.close()

    def _on_open(self, connection: SelectConnection) -> None:
        log.info("the %s connection to the broker is open", self._name)
        self._pause = FIRST_PAUSE
        self._open = True
        self._trouble.clear(self)
        connection.add_on_connection_blocked_callback(lambda *_: self._tenant.on_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._tenant.on_blocked(False))
        self._tenant.on_opened(connection)
        self._pulse.begin(connection)

    def _on_open_error(self, connection: Connection, error: BaseException) -> None:
        self._trouble.note_failure(self, error)
        self._stop_loop()

    def _on_close(self, connection: Connection, error: BaseException) -> None:
        if not self._closing.is_set():
            self._trouble.note_failure(self, error)
        self._stop_loop()

    def _stop_loop(self) -> None:
        if self._loop is not None:
            self._loop.stop()

    def _drop_connection(self) -> None:
        if self._connection is not None and not self._connection.is_closed:
            self._connection._adapter_disconnect_stream()

    def _close_politely(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed:
            self._stop_loop()
        elif not connection.is_closing:
            # One that is still being opened is given up by this.
            connection.close()
