"""The log of a service: lines of text or of JSON on stderr. A repeated warning is written once a minute.

Facts about the work are written like `job_completed job=... failed_tasks=0`, with the same names in JSON. All facts of
a transaction are one record and one write, because records are the expensive part.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TextIO

#: The loggers of the work; each can be searched by its name.
JOBS: Final = logging.getLogger("echelon.jobs")
WORKERS: Final = logging.getLogger("echelon.workers")
ATTEMPTS: Final = logging.getLogger("echelon.attempts")
ACCESS: Final = logging.getLogger("echelon.access")

FORMATS: Final = ("text", "json")
_TEXT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
#: A value that needs no quotes.
_PLAIN: Final = re.compile(r"[!#-<>-\[\]-~]+").fullmatch
#: Seconds in which a warning with the same words is written once.
_QUIET: Final = 60.0
#: Different warnings that are remembered.
_REMEMBERED: Final = 1_000

Fact = Mapping[str, object]


class Facts:
    """The message of a record: one line for each fact."""

    __slots__ = ("lines",)

    def __init__(self, lines: Sequence[Fact]) -> None:
        self.lines = lines

    def __str__(self) -> str:
        return "\n".join(map(write_fact, self.lines))


def log_facts(logger: logging.Logger, level: int, lines: Sequence[Fact]) -> None:
    """Write a line for each fact; the first key of a fact is `event`. Nothing is formatted unless it is wanted."""
    if lines and logger.isEnabledFor(level):
        # Not `logger.log`: it looks for the caller's line, which takes longer than all the rest.
        logger.handle(logging.LogRecord(logger.name, level, "", 0, Facts(lines), None, None))


def write_fact(fact: Fact) -> str:
    """Return `event key=value ...`; values with spaces are quoted, missing ones are left out."""
    words = [str(fact.get("event", ""))]
    words += [f"{key}={_quote(value)}" for key, value in fact.items() if key != "event" and value is not None]
    return " ".join(words)


def _quote(value: object) -> str:
    if isinstance(value, str):
        return value if _PLAIN(value) else json.dumps(value, ensure_ascii=False)
    return str(value) if isinstance(value, int | float) else json.dumps(value, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Lines for people. No text from outside can begin a line: further lines are indented, control characters shown."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines."""
        if isinstance(record.msg, Facts):
            head = f"{self.formatTime(record)} {record.levelname:<7} {record.name}: "
            return "\n".join(head + _show_controls(write_fact(fact)) for fact in record.msg.lines)
        return "\n    ".join(map(_show_controls, super().format(record).split("\n")))


class JsonFormatter(logging.Formatter):
    """One JSON object a line, the times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        head = {"time": moment, "level": record.levelname.lower(), "logger": record.name}
        if isinstance(record.msg, Facts):
            facts = record.msg.lines
            return "\n".join(
                json.dumps(head | {k: v for k, v in one.items() if v is not None}, default=str) for one in facts
            )
        body = head | {"message": record.getMessage()}
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return json.dumps(body)


class QuietHandler(logging.StreamHandler[TextIO]):
    """Writes a warning whose words were written a moment ago only once a minute, with the number of times."""

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        #: (logger, level, words) of a warning -> until when it is not written again, and how often it came since.
        self._written: dict[tuple[str, int, str], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it."""
        if record.levelno >= logging.WARNING:
            now = self._clock()
            key = (record.name, record.levelno, _words_of(record))
            until, count = self._written.pop(key, (0.0, 0))
            if now < until:
                self._written[key] = until, count + 1
                return
            self._written[key] = now + _QUIET, 0
            self._forget_oldest()
            if count:
                record = _copy_with_count(record, count)
        super().emit(record)

    def _forget_oldest(self) -> None:
        while len(self._written) > _REMEMBERED:
            del self._written[next(iter(self._written))]


def set_up_logging(level: str, form: str) -> None:
    """Log to stderr in this form, lines of this level and above."""
    handler = QuietHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    # Neither form names them, and to ask for them is half of the cost of a record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # pika logs each step of a connection; our adapter logs the important ones.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _words_of(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return record.getMessage() if error is None else f"{record.getMessage()}: {error!r}"


def _copy_with_count(record: logging.LogRecord, count: int) -> logging.LogRecord:
    copy = logging.makeLogRecord(record.__dict__)
    times = "once" if count == 1 else f"{count} times"
    copy.msg, copy.args = f"{record.getMessage()} (and {times} since it was last logged)", None
    return copy


def _show_controls(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
