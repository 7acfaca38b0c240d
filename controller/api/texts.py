"""Answers with a text that is made while it is sent: bounded memory, any length, Range.

Processes print any bytes; the answer is UTF-8, with U+FFFD in place of invalid bytes.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import BinaryIO

from flask import Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable

PIECE = 64 * 1024

#: Makes the same text anew with every call.
Text = Callable[[], Iterator[bytes]]


class Decoder:
    """Turns bytes of unknown origin into UTF-8, piece by piece."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def __call__(self, data: bytes, *, final: bool = False) -> bytes:
        """Return as much of the text as is certain; `final` gives the rest."""
        return self._decode(data, final).encode()


def decode_file(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file as UTF-8 and close it."""
    decode = Decoder()
    with file:
        while data := file.read(PIECE):
            yield decode(data)
    if rest := decode(b"", final=True):
        yield rest


def answer_text(text: Text, *, ranges: bool = True) -> Response:
    """Return a text; the part of it that Range asks for, if it does."""
    if not ranges:
        response = Response(text(), content_type=_TYPE)
        response.headers["Accept-Ranges"] = "none"
        return response
    wanted = request.range if request.method == "GET" else None
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        response = Response(text(), content_type=_TYPE)
    else:
        response = _answer_part(text, wanted.ranges[0])
    response.headers["Accept-Ranges"] = "bytes"
    return response


_TYPE = "text/plain; charset=utf-8"


def _answer_part(text: Text, wanted: tuple[int, int | None]) -> Response:
    """Return a part of a text; its length is known only after it has been made once."""
    length = sum(len(piece) for piece in text())
    start, stop = wanted
    if start < 0:
        start = max(0, length + start)
    stop = length if stop is None else min(stop, length)
    if start >= stop:
        raise RequestedRangeNotSatisfiable(length)
    response = Response(_cut_pieces(text(), start, stop), status=206, content_type=_TYPE)
    response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{length}"
    response.content_length = stop - start
    return response


def _cut_pieces(pieces: Iterator[bytes], start: int, stop: int) -> Iterator[bytes]:
    at = 0
    for piece in pieces:
        part = piece[max(0, start - at) : stop - at]
        if part:
            yield part
        at += len(piece)
        if at >= stop:
            return
