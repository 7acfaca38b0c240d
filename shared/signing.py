"""Signs messages and checks their signatures, so that access to the broker alone is no right to give orders or reports.

A signature covers the body and the name of the queue, that is, the direction and for orders the recipient; the body
names the sender. It does not tell when a message was sent: one that is sent again by another program has to do no harm
by itself (`echelon.controller.engine.turn.intake`, `echelon.worker.orders`).
"""

from __future__ import annotations

import hmac
from typing import Final

from echelon.shared.errors import InvalidMessage
from echelon.shared.sealing import Sealer
from echelon.shared.volume import Volume

_HASH: Final = "sha256"


class NotSigned(InvalidMessage):
    """The message has no valid signature."""


class Signer:
    """Signs with one key. Safe for any thread."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign_body(self, queue: str, body: bytes) -> str:
        """Return the signature of a body that is meant for a queue."""
        return hmac.digest(self._key, b"%b\0%b" % (queue.encode(), body), _HASH).hex()

    def check_signature(self, queue: str, body: bytes, signature: object) -> None:
        """Raise NotSigned if this is not the signature of a body that has come from a queue."""
        if not isinstance(signature, str) or not hmac.compare_digest(
            signature.encode("utf-8", "replace"), self.sign_body(queue, body).encode()
        ):
            raise NotSigned


def make_signer(volume: Volume) -> Signer:
    """Return the signer of those who share this volume; raise VolumeUnavailable if its key cannot be read."""
    return Signer(Sealer(volume).derive_key("echelon messages"))
