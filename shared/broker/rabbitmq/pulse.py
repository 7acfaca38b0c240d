"""Notices a server that hangs while its connections stay open.

A server that is stopped, or whose machine hangs, closes nothing, and AMQP's own heartbeats notice it after more than a
lease. So a server that has sent nothing for a moment is asked for an answer. The question changes nothing, and has a
channel of its own.
"""

from __future__ import annotations

import time

from pika.adapters.select_connection import SelectConnection
from pika.channel import Channel

from echelon.shared.lease import BROKER_LOOKED_PART, HANGS_PART

#: Seconds until a channel that the server closed is opened again.
REOPEN_AFTER = 0.5


class Pulse:
    """Tells whether the server of one link answers. The link's thread uses it; any thread may read `is_felt`."""

    def __init__(self, lease: float | None) -> None:
        """`lease` decides how soon a server without an answer hangs; None: it is not asked."""
        self._lease = lease
        self._connection: SelectConnection | None = None
        #: Since when an answer is owed, on the monotonic clock; None: none is.
        self._asked_at: float | None = None
        #: Bytes that had come on the connection at the last look.
        self._received = 0

    @property
    def is_felt(self) -> bool:
        """Tell whether the server has answered in time."""
        asked_at = self._asked_at
        return self._lease is None or asked_at is None or time.monotonic() - asked_at <= HANGS_PART * self._lease

    def begin(self, connection: SelectConnection) -> None:
        """Ask on a fresh connection from now on."""
        if self._lease is not None:
            self._connection = connection
            self._open_channel()

    def end(self) -> None:
        """Ask no more: the connection is gone."""
        self._connection, self._asked_at, self._received = None, None, 0

    def _open_channel(self) -> None:
        connection = self._connection
        if connection is not None and connection.is_open:
            self._asked_at = time.monotonic()
            connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        self._look(channel)

    def _look(self, channel: Channel) -> None:
        """Ask if nothing has come since the last look: a busy server shows by what it sends that it does not hang."""
        if not channel.is_open or self._lease is None:
            return
        received = channel.connection.bytes_received
        if received != self._received:
            self._note_received(received)
        elif self._asked_at is None:
            self._asked_at = time.monotonic()
            channel.basic_qos(callback=lambda _: self._note_received(channel.connection.bytes_received))
        channel.connection.ioloop.call_later(BROKER_LOOKED_PART * self._lease, lambda: self._look(channel))

    def _note_received(self, received: int) -> None:
        self._received, self._asked_at = received, None

    def _on_channel_closed(self, channel: Channel, reason: Exception) -> None:
        self._asked_at = None
        if self._connection is not None and self._connection.is_open:
            self._connection.ioloop.call_later(REOPEN_AFTER, self._open_channel)
