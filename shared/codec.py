"""Encodes and decodes messages: JSON, with a version and a size limit.

Bytes from a broker are not trusted: for any bytes, `decode_message` returns a message or raises `InvalidMessage`.
"""

from __future__ import annotations

import msgspec

from echelon.shared.errors import InvalidMessage
from echelon.shared.messages import VERSION, Message

#: Size limit of a message in bytes. One attempt must always fit: a job's input has at most 1 MiB, sealing makes a
#: value half as long again, and JSON may double it.
MAX_BYTES = 4 * 1024 * 1024

CONTENT_TYPE = "application/json"
#: Characters of a name in a log.
_SHOWN = 64


class _Envelope(msgspec.Struct):
    v: int
    kind: str = "?"


class _SenderCard(msgspec.Struct):
    name: str = ""
    host: str = ""
    version: str = ""


class _Sender(msgspec.Struct):
    worker: str = ""
    kind: str = "?"
    card: _SenderCard | None = None


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_envelope_decoder = msgspec.json.Decoder(_Envelope)
_sender_decoder = msgspec.json.Decoder(_Sender)


def encode_message(message: Message) -> bytes:
    """Return the message's bytes; raise InvalidMessage if it is longer than `MAX_BYTES` or not Unicode."""
    data = _encode_part(message)
    if len(data) > MAX_BYTES:
        raise InvalidMessage(f"the message has {len(data)} bytes, more than {MAX_BYTES}")
    return data


def measure_part(part: msgspec.Struct) -> int:
    """Return the encoded length of a part of a message; raise InvalidMessage if it cannot be encoded."""
    return len(_encode_part(part))


def decode_message(data: bytes) -> Message:
    """Return the message in `data`, or raise InvalidMessage with the reason."""
    if len(data) > MAX_BYTES:
        raise InvalidMessage(f"the message has {len(data)} bytes, more than {MAX_BYTES}")
    try:
        message = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise InvalidMessage(_explain_error(data, error)) from error
    if message.v != VERSION:
        raise InvalidMessage(_describe_version(message.v))
    return message


def read_sender(data: bytes) -> tuple[str, str]:
    """Return (id, description) of the sender of a message that cannot be trusted, without control characters."""
    try:
        sender = _sender_decoder.decode(data) if len(data) <= MAX_BYTES else _Sender()
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        sender = _Sender()
    if sender.kind == "orders":
        return "", "a controller"
    if not sender.worker:
        return "", "an unknown sender"
    worker, card = sender.worker[:_SHOWN], sender.card
    named = f" ({card.name[:_SHOWN]!a} on {card.host[:_SHOWN]!a}, release {card.version[:_SHOWN]!a})" if card else ""
    return worker, f"worker {worker!a}{named}"


def _encode_part(part: msgspec.Struct) -> bytes:
    try:
        return _encoder.encode(part)
    except (UnicodeError, RecursionError, TypeError, ValueError) as error:
        raise InvalidMessage(f"the message cannot be written: {error}") from error


def _explain_error(data: bytes, error: Exception) -> str:
    """Explain the error; another version is the first explanation, because its messages may have other fields."""
    if isinstance(error, RecursionError):
        return "the message is nested too deeply"
    try:
        version = _envelope_decoder.decode(data).v
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return f"the message cannot be read: {error}"
    return f"the message cannot be read: {error}" if version == VERSION else _describe_version(version)


def _describe_version(version: int) -> str:
    return f"the message has version {version}, this release reads version {VERSION}"
