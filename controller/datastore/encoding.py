"""JSON in columns, and text that every database accepts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from echelon.controller.core.states import State
from echelon.shared.ids import TaskId
from echelon.shared.messages import JsonValue

STATES = {str(state): state for state in State}

_encoder = msgspec.json.Encoder()
_object_decoder = msgspec.json.Decoder(dict[str, Any])
_names_decoder = msgspec.json.Decoder(list[str])


def encode_json(value: object) -> str:
    """Return a value as JSON text."""
    return _encoder.encode(value).decode()


def decode_object(text: str | None) -> dict[str, JsonValue]:
    """Decode a JSON object; None is the empty object."""
    return _object_decoder.decode(text) if text else {}


#: What names a task for people: its class, the values of its item, its index.
NamedItem = tuple[str, dict[str, JsonValue], int]


def decode_items(rows: Iterable[Sequence[Any]]) -> dict[TaskId, NamedItem]:
    """Return what names tasks, of rows with id, class, input and index."""
    return {TaskId(task_id): (name, decode_object(values), index) for task_id, name, values, index in rows}


def decode_names(text: str) -> list[str]:
    """Decode a JSON array of strings."""
    return _names_decoder.decode(text)


def clean_text(text: str | None) -> str | None:
    """Replace NUL and lone surrogates, which databases refuse, by U+FFFD.

    Errors and results contain task output; one odd character must not block its whole batch.
    """
    if text is None:
        return None
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
