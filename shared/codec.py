"""Turns messages into bytes and back: JSON, versioned, bounded.

Bytes from a broker are not trusted: whatever they hold, `decode` returns a message or raises `InvalidMessage`.
"""

from __future__ import annotations

import msgspec

from echelon.shared.errors import InvalidMessage
from echelon.shared.messages import VERSION, Message

#: Longest message in bytes. One attempt must always fit: a job's input has at most 1 MiB, a sealed value grows by
#: half, and JSON may double it.
MAX_BYTES = 4 * 1024 * 1024

CONTENT_TYPE = "application/json"


class _Envelope(msgspec.Struct):
    v: int
    kind: str = "?"


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_envelope_decoder = msgspec.json.Decoder(_Envelope)


def encode(message: Message) -> bytes:
    """Return the message's bytes; InvalidMessage when it is longer than `MAX_BYTES` or not Unicode."""
    data = _written(message)
    if len(data) > MAX_BYTES:
        raise InvalidMessage(f"the message has {len(data)} bytes, more than {MAX_BYTES}")
    return data


def measure(part: msgspec.Struct) -> int:
    """Return how many bytes a part of a message takes; InvalidMessage when it cannot be written."""
    return len(_written(part))


def decode(data: bytes) -> Message:
    """Return the message that `data` holds; InvalidMessage says why there is none."""
    if len(data) > MAX_BYTES:
        raise InvalidMessage(f"the message has {len(data)} bytes, more than {MAX_BYTES}")
    try:
        message = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise InvalidMessage(_reason(data, error)) from error
    if message.v != VERSION:
        raise InvalidMessage(_other_version(message.v))
    return message


def _written(part: msgspec.Struct) -> bytes:
    try:
        return _encoder.encode(part)
    except (UnicodeError, RecursionError, TypeError, ValueError) as error:
        raise InvalidMessage(f"the message cannot be written: {error}") from error


def _reason(data: bytes, error: Exception) -> str:
    """Blame the version first: the shape of another version's message means nothing here."""
    if isinstance(error, RecursionError):
        return "the message is nested too deeply"
    try:
        version = _envelope_decoder.decode(data).v
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return f"the message cannot be read: {error}"
    return f"the message cannot be read: {error}" if version == VERSION else _other_version(version)


def _other_version(version: int) -> str:
    return f"the message has version {version}, this release reads version {VERSION}"
