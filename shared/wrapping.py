"""Text in the columns of a terminal: how wide it is, cut with an ellipsis, wrapped at words."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Final

#: Below this width nothing is readable in any layout.
_NARROWEST: Final = 20
_DEFAULT_WIDTH: Final = 80
#: A quoted command stays in one piece, so that it can be copied, and a number with its unit, so that it can be read.
_CHUNKS: Final = re.compile(r"'echelon [^'\n]*'\S*|(?<!\S)\d[\d.,]* (?:ms|[smhB]|[KMGT]iB)(?!\w)\S*|\S+|\s+")
#: A line that ends in a command or a path, to be copied.
_CALL: Final = re.compile(r"(?P<words>\S.*?(?::| in)) (?P<copied>(?:echelon|rm) .*|/\S+)")


def measure_screen() -> int:
    """Return the columns of the terminal: COLUMNS, or those of whichever standard stream is one."""
    with suppress(ValueError):
        if columns := int(os.environ.get("COLUMNS", "")):
            return max(_NARROWEST, columns)
    for descriptor in (2, 1, 0):
        with suppress(OSError):
            if columns := os.get_terminal_size(descriptor).columns:
                return max(_NARROWEST, columns)
    return _DEFAULT_WIDTH


def measure_text(text: str) -> int:
    """Return how many columns a text takes."""
    return len(text) if text.isascii() else sum(map(_measure_character, text))


def _measure_character(character: str) -> int:
    if unicodedata.combining(character) or character in "\u200d\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut_text(text: str, width: int) -> str:
    """Return a text that is no wider than `width`; one that was cut ends in an ellipsis."""
    if measure_text(text) <= width:
        return text
    return _split_text(text, width - 1)[0].rstrip() + "…" if width > 0 else ""


def wrap_text(text: str, width: int, *, later: str = "") -> list[str]:
    """Return a text in lines of at most `width`, broken between words; `later` begins each line but the first.

    Only a word that is wider than a line is broken.
    """
    lines = [""]
    for chunk in _iterate_chunks(text, width - len(later)):
        if measure_text(lines[-1]) + measure_text(chunk.rstrip()) <= width:
            lines[-1] += chunk
        elif not chunk.isspace():
            lines.append(later + chunk)
    return [line.rstrip() for line in lines]


def wrap_lines(text: str, width: int) -> str:
    """Return the lines of a text, each wrapped as far in as it begins; a line that is a command is left whole.

    A command or a path that ends a line and has no room there gets a line of its own.
    """
    wrapped: list[str] = []
    for line in text.split("\n"):
        if measure_text(line) > width and (call := _CALL.fullmatch(line)):
            wrapped += [*wrap_text(call["words"], width), f"  {call['copied']}"]
            continue
        words = line.lstrip()
        begin = line[: len(line) - len(words)][: width // 2]
        wrapped += [line] if words.startswith("echelon ") else wrap_text(line, width, later=begin)
    return "\n".join(wrapped)


def wrap_for(stream: IO[str], text: str) -> str:
    """Return a text as it is written to a stream: wrapped for a terminal."""
    return wrap_lines(text, measure_screen()) if stream.isatty() else text


def wrap_message(text: str) -> str:
    """Return a text as it is written to stderr."""
    return wrap_for(sys.stderr, text)


def _iterate_chunks(text: str, width: int) -> Iterator[str]:
    """Yield words, quoted commands and the spaces between them; those wider than a line in parts."""
    for found in _CHUNKS.finditer(text):
        chunk = found[0]
        words = re.findall(r"\S+|\s+", chunk) if measure_text(chunk) > width else [chunk]
        for word in words:
            rest = word
            while measure_text(rest) > width:
                part, rest = _split_text(rest, width)
                yield part
            yield rest


def _split_text(text: str, width: int) -> tuple[str, str]:
    """Return the longest beginning that is no wider than `width`, but at least one character, and the rest."""
    taken = 0
    for at, character in enumerate(text):
        taken += _measure_character(character)
        if taken > width:
            return text[: max(at, 1)], text[max(at, 1) :]
    return text, ""
