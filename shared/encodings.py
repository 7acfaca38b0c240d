"""How text is read that people and programs send: UTF-8, with or without a byte order mark. Anything else is named."""

from __future__ import annotations

import codecs

_BEGINNINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    b"\x1f\x8b": "compressed (gzip)",
}


class NotUtf8(ValueError):
    """Bytes that are no UTF-8 text; the message says what they are instead."""


def refuse_encoding(data: bytes) -> None:
    """Raise NotUtf8 for the beginning of a text in another encoding."""
    found = next((name for beginning, name in _BEGINNINGS.items() if data.startswith(beginning)), None)
    if found is None and b"\0" in data[:2]:
        # Without a mark: one byte of an ASCII character is zero.
        found = "UTF-16"
    if found is not None:
        raise NotUtf8(f"is {found}, not UTF-8 text; write it as UTF-8")


def decode_text(data: bytes) -> str:
    """Return a text without its byte order mark; raise NotUtf8."""
    refuse_encoding(data)
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        start = error.start + (len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0)
        raise NotUtf8(f"is not UTF-8 text: byte {start} does not belong there") from None
