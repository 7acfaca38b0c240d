"""The log of a service: two forms, no forged lines, and repeated warnings once a minute."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import dataclass, field

import pytest

from echelon.shared.logs import Facts, JsonFormatter, QuietHandler, TextFormatter, log_facts


@dataclass
class Bench:
    """A logger of its own, on a stream, with a clock in the test's hands."""

    formatter: logging.Formatter
    now: float = 0.0
    stream: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        self.logger = logging.Logger("bench", logging.INFO)
        handler = QuietHandler(self.stream, clock=lambda: self.now)
        handler.setFormatter(self.formatter)
        self.logger.addHandler(handler)

    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def test_a_fact_is_a_line_of_names_and_values() -> None:
    bench = Bench(TextFormatter())

    log_facts(
        bench.logger, logging.INFO, [{"event": "task_failed", "job": "j1", "stage": None, "error": "no such file"}]
    )

    assert [line.split("bench: ")[1] for line in bench.lines()] == ['task_failed job=j1 error="no such file"']


def test_a_fact_in_json_has_the_same_names() -> None:
    bench = Bench(JsonFormatter())

    log_facts(bench.logger, logging.WARNING, [{"event": "a", "job": "j1", "n": 3}, {"event": "b", "stage": None}])

    first, second = map(json.loads, bench.lines())
    assert (first["event"], first["job"], first["n"], first["level"], first["logger"]) == (
        "a",
        "j1",
        3,
        "warning",
        "bench",
    )
    assert set(second) == {"time", "level", "logger", "event"}


def test_nothing_is_formatted_that_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(TextFormatter())
    asked: list[object] = []
    monkeypatch.setattr(Facts, "__init__", lambda self, lines: asked.append(lines))

    log_facts(bench.logger, logging.DEBUG, [{"event": "x"}])

    assert asked == []


@pytest.mark.parametrize(
    "text", ["x\n2026-11-30 00:00:00 INFO echelon.jobs: job_completed", "x\r\x1b[2Jy", "x\u202ey", "x\u2028y"]
)
def test_text_from_outside_forges_no_line(text: str) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        bench = Bench(formatter)

        log_facts(bench.logger, logging.INFO, [{"event": "task_failed", "error": text}])
        bench.logger.info("a path %s", text)
        try:
            raise ValueError(text)
        except ValueError:
            bench.logger.exception("it failed")

        for line in bench.stream.getvalue().split("\n"):
            assert line.isprintable()
            assert not line.startswith("2026-11-30 00:00:00")


def test_a_repeated_warning_is_written_once_a_minute_with_its_count() -> None:
    bench = Bench(TextFormatter())
    for second in range(130):
        bench.now = second / 2
        bench.logger.warning("the engine waits: %s", "the disk is full")
        if second % 50 == 0:
            bench.logger.info("something else")

    written = [line.split("bench: ")[1] for line in bench.lines() if "engine" in line]
    assert written == [
        "the engine waits: the disk is full",
        "the engine waits: the disk is full (and 119 times since it was last logged)",
    ]
    assert len(bench.lines()) == 2 + 3


def test_other_words_are_another_warning() -> None:
    bench = Bench(TextFormatter())

    bench.logger.warning("worker %s is lost", "a")
    bench.logger.warning("worker %s is lost", "b")
    bench.logger.error("worker %s is lost", "b")

    assert len(bench.lines()) == 3


def test_the_memory_of_warnings_is_bounded() -> None:
    bench = Bench(TextFormatter())

    for number in range(5_000):
        bench.logger.warning("warning %d", number)

    (handler,) = bench.logger.handlers
    assert isinstance(handler, QuietHandler)
    assert len(handler._written) <= 1_000
