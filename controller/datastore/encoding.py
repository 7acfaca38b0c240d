"""JSON text of columns, and text that every database takes."""

from __future__ import annotations

from typing import Any

import msgspec

from echelon.controller.core.states import State
from echelon.shared.messages import JsonValue

STATES = {str(state): state for state in State}

_encoder = msgspec.json.Encoder()
_object_decoder = msgspec.json.Decoder(dict[str, Any])
_names_decoder = msgspec.json.Decoder(list[str])


def encode_json(value: object) -> str:
    """Return a value as JSON text."""
    return _encoder.encode(value).decode()


def decode_object(text: str | None) -> dict[str, JsonValue]:
    """Return the object that JSON text holds; None is the empty one."""
    return _object_decoder.decode(text) if text else {}


def decode_names(text: str) -> list[str]:
    """Return the list of strings that JSON text holds."""
    return _names_decoder.decode(text)


def clean_text(text: str | None) -> str | None:
    """Return text that any database takes: NUL and lone surrogates become U+FFFD.

    Errors and results carry what a task has printed; one odd character must not hold up the batch that it is in.
    """
    if text is None:
        return None
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
