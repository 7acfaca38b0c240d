"""Logs messages that are refused, without letting those who send them fill the log."""

from __future__ import annotations

import logging
from typing import Final

from echelon.shared.codec import read_sender
from echelon.shared.errors import InvalidMessage
from echelon.shared.signing import NotSigned

log = logging.getLogger(__name__)

#: Senders that are logged: a program without the key may claim to be ever new ones.
_SENDERS_AT_MOST: Final = 50


class RefusalLog:
    """The log of one subscription's refused messages."""

    def __init__(self) -> None:
        #: Senders of messages without a valid signature.
        self._senders: set[str] = set()

    def log_refusal(self, queue: str, body: bytes, error: InvalidMessage) -> None:
        """Log a message that goes to the dead ones; one without a valid signature only if its sender is new."""
        if not isinstance(error, NotSigned):
            log.warning("a message in %s cannot be read and goes to the dead ones: %s", queue, error)
        elif len(self._senders) < _SENDERS_AT_MOST:
            sender, description = read_sender(body)
            if sender not in self._senders:
                self._senders.add(sender)
                self._log_sender(queue, description)

    def _log_sender(self, queue: str, description: str) -> None:
        log.warning(
            "messages without a valid signature, from %s, go from %s to the dead ones: if it is part of this engine,"
            " give it the same release and the same volume; if not, change the broker's password",
            description,
            queue,
        )
        if len(self._senders) == _SENDERS_AT_MOST:
            log.warning("further senders of messages without a valid signature are not logged")
