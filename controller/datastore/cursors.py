"""Where a page ends: opaque text for users, a list of integers inside.

A cursor names its kind of list, so that another list refuses it instead of misreading it.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct

from echelon.shared.errors import InvalidInput

_LONGEST = 200
#: Larger numbers would overflow the database's integers; no key or number of ours is as large.
_LARGEST = 2**63 - 1


def cursor_after(kind: str, *place: int) -> str:
    """Return the cursor for the place after this one in a list of this kind."""
    text = json.dumps([kind, *place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_of(kind: str, cursor: str, length: int) -> tuple[int, ...]:
    """Return the place of a cursor of this kind; InvalidInput for any other text."""
    try:
        if len(cursor) > _LONGEST:
            raise ValueError
        text = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found, *place = json.loads(text)
        if found != kind or len(place) != length or not all(_is_usable(number) for number in place):
            raise ValueError
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise InvalidInput("the cursor is not one that this list has given out; start without one") from None
    return tuple(place)


def encode_time(seconds: float) -> int:
    """Return a time as an integer for a cursor, in the order of the times and without loss."""
    return int.from_bytes(struct.pack(">d", max(seconds, 0.0)))


def decode_time(number: int) -> float:
    """Return the time of `encode_time`."""
    (seconds,) = struct.unpack(">d", number.to_bytes(8))
    return float(seconds)


def _is_usable(number: object) -> bool:
    return type(number) is int and 0 <= number <= _LARGEST
