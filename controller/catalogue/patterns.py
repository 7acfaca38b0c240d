"""Patterns: regular expressions in RE2's syntax, whose cost grows with the value and never explodes.

Python's `re` can take for ever, and holds the interpreter's lock meanwhile. RE2 releases the lock while it matches, but
not while it compiles. So the size of what a pattern unfolds to is bounded here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import re2

from echelon.shared.errors import InvalidInput

#: Memory for one compiled pattern, in bytes: room for {1,64} letters of all scripts. Compiling stays below 0.3 s.
MAX_MEMORY: Final = 2 << 20
#: All counts of the repeats {n,m} of one pattern together. RE2 has the same limit for repeats within repeats.
MAX_REPEATS: Final = 1000

_SYNTAX = "https://github.com/google/re2/wiki/Syntax"
#: An escape, or the count of a repeat.
_TOKEN = re.compile(r"\\x\{[^}]*\}|\\.|\{(?P<least>\d*)(?P<comma>,?)(?P<most>\d*)\}", re.DOTALL)
#: Escapes for which RE2 knows ASCII alone, and Python's `re` every script.
_ASCII_ESCAPES = frozenset("wWdDsSbB")
#: A complaint of RE2 -> the text to write instead.
_REMEDIES: Final = (
    (
        re.compile(r"perl operator: \(\?<?[=!]"),
        "there is no look-around; write out what is accepted (an input can list it in an enum)",
    ),
    (
        re.compile(r"escape sequence: \\[1-9]|perl operator: \(\?P"),
        "a group cannot be referred to; write its content out again",
    ),
    (re.compile(r"escape sequence: \\Z"), r"write \z for the end of the text"),
    (re.compile(r"escape sequence: \\[uUN]"), r"write \x{20AC} for the character U+20AC"),
    (re.compile(r"repetition operator: .\+|perl operator: \(\?>"), "repeat once; it never takes long"),
    (re.compile(r"perl operator: \(\?[#xauL(]"), "leave it out"),
    (
        re.compile(r"repetition size"),
        f"write {{n,m}} with n not above m, and repeat at most {MAX_REPEATS} times in all",
    ),
    (re.compile(r"too large"), "write * or + in place of large counts"),
)


@dataclass(frozen=True, slots=True)
class PatternFault:
    """Why a pattern cannot be used."""

    message: str
    #: The text to write instead, or another step to take.
    remedy: str


class UnusablePattern(InvalidInput):
    """The pattern of an input cannot be used."""


def find_fault(pattern: str) -> PatternFault | None:
    """Return why a pattern cannot be used; None when it can."""
    read = _read_pattern(pattern)
    return read if isinstance(read, PatternFault) else None


def matches_pattern(pattern: str, text: str) -> bool:
    """Tell whether the whole text matches; raise UnusablePattern for a pattern that cannot be used.

    The store may hold one: releases before this rule accepted what Python's `re` can read.
    """
    read = _read_pattern(pattern)
    if isinstance(read, PatternFault):
        raise UnusablePattern(f"{read.message} -> {read.remedy}")
    return read.fullmatch(text.encode()) is not None


def make_search(pattern: str) -> Callable[[str], bool]:
    """Return what tells whether a text holds a match, in any case; raise UnusablePattern."""
    read = _read_pattern(pattern, any_case=True)
    if isinstance(read, PatternFault):
        raise UnusablePattern(f"{read.message} -> {read.remedy}")
    return lambda text: read.search(text.encode("utf-8", "replace")) is not None


def find_ascii_escape(pattern: str) -> str | None:
    r"""Return the first escape such as \w that means ASCII alone here, and more in Python's `re`.

    A pattern with \p{...} is written for RE2.
    """
    escapes = [found[0] for found in _TOKEN.finditer(pattern) if found[0].startswith("\\")]
    if any(one in ("\\p", "\\P") for one in escapes):
        return None
    return next((one for one in escapes if one[1] in _ASCII_ESCAPES), None)


@lru_cache(maxsize=128)
def _read_pattern(pattern: str, *, any_case: bool = False) -> Any | PatternFault:
    """Return the compiled pattern, or why there is none."""
    shown = repr(pattern if len(pattern) <= 60 else pattern[:60] + "...")
    if (fault := _find_costly_repeat(pattern)) is not None:
        return PatternFault(f"{shown} {fault.message}", fault.remedy)
    try:
        return re2.compile(pattern, _make_options(any_case))
    except (re2.error, UnicodeEncodeError) as error:
        said = _read_error(error)
        remedy = next((one for form, one in _REMEDIES if form.search(said)), f"see {_SYNTAX}")
        return PatternFault(f"{shown} is not a regular expression of RE2: {said[:100]}", remedy)


def _find_costly_repeat(pattern: str) -> PatternFault | None:
    """Return what is wrong with the counts of repeats, before RE2 unfolds them."""
    total = 0
    for found in _TOKEN.finditer(pattern):
        least, most = found["least"], found["most"]
        if not least and most:
            # Python's `re` reads {,5} as a repeat, RE2 as text.
            return PatternFault(f"holds {found[0]}", f"write {{0,{most}}}, or \\{found[0]} for this very text")
        total += max((int(count[:9]) for count in (least, most) if count), default=0)
    if total > MAX_REPEATS:
        remedy = "write * or + in place of large counts"
        return PatternFault(f"repeats {total} times in all, and may at most {MAX_REPEATS} times", remedy)
    return None


def _make_options(any_case: bool) -> Any:
    options = re2.Options()
    options.case_sensitive = not any_case
    options.max_mem = MAX_MEMORY
    options.never_capture = True
    # Else RE2 writes to stderr.
    options.log_errors = False
    return options


def _read_error(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(error)
