from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from echelon.controller.api.transcripts import TranscriptWriter
from echelon.controller.commands.screen import escape_log
from echelon.shared.ids import JobId
from echelon.shared.volume import log_name
from tests.api.stand import API, Stand
from tests.engine.house import Puppet, ref

PATIENCE = 20.0


def task_of(stand: Stand, job: dict[str, Any], place: int = 0) -> str:
    task_id: str = stand.get(f"/jobs/{job['job_id']}/tasks")["items"][place]["task_id"]
    return task_id


def test_a_task_tells_what_it_printed(stand: Stand) -> None:
    job = stand.finished()
    stand.print(job["job_id"], "stdout", b"hello\n")
    path = f"{API}/tasks/{task_of(stand, job)}/log"

    response = stand.client.get(path)

    assert (response.data, response.content_type) == (b"hello\n", "text/plain; charset=utf-8")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert stand.client.get(f"{path}?stream=stdout").data == b"hello\n"
    assert stand.client.get(f"{path}?stream=stderr").data == b""


def test_a_line_stands_between_stdout_and_stderr(stand: Stand) -> None:
    job = stand.finished()
    stand.print(job["job_id"], "stdout", b"out\n")
    stand.print(job["job_id"], "stderr", b"err\n")
    path = f"{API}/tasks/{task_of(stand, job)}/log"

    assert stand.client.get(path).text == "out\n\n==> stderr <==\nerr\n"
    assert stand.client.get(f"{path}?stream=stderr").text == "err\n"


@pytest.mark.parametrize("follow", ["", "&follow=1"])
def test_attempts_that_have_printed_nothing_since_a_time_are_passed_over(stand: Stand, follow: str) -> None:
    job = stand.finished()
    stand.print(job["job_id"], "stdout", b"old\n")
    stand.print(job["job_id"], "stderr", b"new\n")
    old = stand.settings.volume / log_name(JobId(job["job_id"]), 0, 0, 1, "stdout")
    os.utime(old, (1_000_000_000, 1_000_000_000))

    for path in (f"{API}/jobs/{job['job_id']}/log", f"{API}/tasks/{task_of(stand, job)}/log"):
        whole, since = (
            stand.client.get(f"{path}?since={time}{follow}").text for time in ("2001-01-01", "2002-01-01T00:00:00Z")
        )
        assert "old\n" in whole and "new\n" in whole
        assert "old\n" not in since and "new\n" in since
    assert stand.client.get(f"{path}?since=yesterday").status_code == 422


def test_each_attempt_has_its_own_log_and_the_last_one_is_told(stand: Stand) -> None:
    job = stand.post()
    puppet = Puppet(stand)
    held = puppet.take()
    puppet.report(released=(ref(held),), room=puppet.room)
    task = held[1]
    puppet.run_all()
    stand.print(job["job_id"], "stdout", b"first\n", attempt=1)
    stand.print(job["job_id"], "stdout", b"second\n", attempt=2)
    path = f"{API}/tasks/{task.task_id}/log"

    assert stand.client.get(path).text == "second\n"
    assert stand.client.get(f"{path}?attempt=1").text == "first\n"
    assert stand.client.get(f"{path}?attempt=3").status_code == 404


HEADER = b"==> stage 9 Forged, task 0, attempt 1, stdout <=="
#: A line of a task that looks like ours, as it is or in the colours that a terminal leaves out.
FORGED = [HEADER, b"\x1b[31m" + HEADER, b"=\x1b[0m=\x1b[1;2m" + HEADER[2:], b"\x1b[31m" * 300 + HEADER]


@pytest.mark.parametrize("forged", FORGED, ids=range(len(FORGED)))
@pytest.mark.parametrize("before", [b"", b"a\n", b"a\r", b"a\n\n"], ids=["first", "line", "return", "gap"])
def test_a_task_cannot_write_the_line_above_a_part(stand: Stand, forged: bytes, before: bytes) -> None:
    job = stand.finished()
    stand.print(job["job_id"], "stdout", before + forged + b"\n")
    stand.print(job["job_id"], "stderr", b"err\n")

    for path in (f"/jobs/{job['job_id']}/log", f"/tasks/{task_of(stand, job)}/log"):
        shown = escape_log(stand.client.get(API + path).text)
        assert "Forged" in shown
        assert [line for line in shown.splitlines() if line.startswith("==>") and "Forged" in line] == []


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_line_above_a_part_cannot_be_written_in_pieces(size: int) -> None:
    for forged in FORGED:
        text = b"a\n" + forged + b"\n" + b"== no ==>\n=> neither\n==="
        writer = TranscriptWriter(name_first=True)
        pieces = [b"".join(writer.write_part("p", text[at : at + size])) for at in range(0, len(text), size)]

        shown = escape_log(b"".join(pieces).decode())
        assert [line for line in shown.splitlines() if line.startswith("==>")] == ["==> p <=="]
        # A beginning of that length is cut, wherever a piece ends.
        assert forged == FORGED[-1] or shown.replace(" ", "") == escape_log(f"==>p<==\n{text.decode()}").replace(
            " ", ""
        )
        assert shown.endswith("== no ==>\n=> neither\n===")


def test_one_stream_alone_is_told_as_it_is(stand: Stand) -> None:
    job = stand.finished()
    stand.print(job["job_id"], "stdout", HEADER + b"\n")

    assert stand.client.get(f"{API}/tasks/{task_of(stand, job)}/log?stream=stdout").data == HEADER + b"\n"


def test_what_is_not_utf8_is_replaced_and_nothing_else(stand: Stand) -> None:
    job = stand.finished()
    stand.print(job["job_id"], "stdout", b"a\xff\x00\x1b[31m" + "ä€😀".encode() + b"\xe2\x82")

    text = stand.client.get(f"{API}/tasks/{task_of(stand, job)}/log").text

    assert text == "a\ufffd\x00\x1b[31mä€😀\ufffd"


def test_a_log_behind_a_planted_link_is_not_told(stand: Stand) -> None:
    job = stand.finished()
    stand.print(job["job_id"], "stdout", b"")
    log = stand.settings.volume / log_name(JobId(job["job_id"]), 0, 0, 1, "stdout")
    log.unlink()
    log.symlink_to("/etc/passwd")

    assert stand.client.get(f"{API}/tasks/{task_of(stand, job)}/log").data == b""


def test_a_job_tells_all_its_logs_in_order_each_under_its_line(stand: Stand) -> None:
    job = stand.post("fan")
    puppet = Puppet(stand)
    puppet.finish(puppet.take())
    puppet.finish(puppet.take(), items=[{"text": "a"}, {"text": "b"}])
    puppet.run_all()
    stand.print(job["job_id"], "stdout", b"b", stage=1, index=1)
    stand.print(job["job_id"], "stdout", b"a\n", stage=1, index=0)
    stand.print(job["job_id"], "stderr", b"listing\n", stage=1, index=-1)
    stand.print(job["job_id"], "stdout", b"prepared\n")

    assert stand.client.get(f"{API}/jobs/{job['job_id']}/log").text == (
        "==> stage 0 Prepare, task 0, attempt 1, stdout <==\nprepared\n"
        "\n==> stage 1 Say all, spawn task, attempt 1, stderr <==\nlisting\n"
        "\n==> stage 1 Say all, task 0 (a), attempt 1, stdout <==\na\n"
        "\n==> stage 1 Say all, task 1 (b), attempt 1, stdout <==\nb"
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A stand with a log of every kind of bytes, its path and its whole text."""
    stand = Stand(Path(tmp_path_factory.mktemp("stand")))
    job = stand.finished()
    stand.print(job["job_id"], "stdout", bytes(range(256)) * 300 + "ä€😀".encode() * 5000)
    stand.print(job["job_id"], "stderr", b"\xf0\x9f")
    path = f"{API}/jobs/{job['job_id']}/log"
    yield stand, path, stand.client.get(path).data
    stand.close()


@given(some.integers(0, 300_000), some.integers(0, 300_000))
def test_any_range_is_that_part_of_the_whole_text(told: Any, start: int, length: int) -> None:
    stand, path, whole = told

    response = stand.client.get(path, headers={"Range": f"bytes={start}-{start + length}"})

    part = whole[start : start + length + 1]
    if part:
        assert (response.status_code, response.data == part) == (206, True)
        assert response.headers["Content-Range"] == f"bytes {start}-{start + len(part) - 1}/{len(whole)}"
    else:
        assert (response.status_code, response.headers["Content-Range"]) == (416, f"bytes */{len(whole)}")


def test_the_end_of_a_log_can_be_asked_for(told: Any) -> None:
    stand, path, whole = told

    assert stand.client.get(path, headers={"Range": "bytes=-10"}).data == whole[-10:]
    assert stand.client.get(path, headers={"Range": "bytes=100-"}).data == whole[100:]
    assert stand.client.get(path, headers={"Range": f"bytes=-{10**9}"}).data == whole
    assert stand.client.get(path).headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=0-1", "bytes=x", "bytes=5-1", ""])
def test_a_range_that_cannot_be_served_gets_the_whole_text(told: Any, asked: str) -> None:
    stand, path, whole = told

    response = stand.client.get(path, headers={"Range": asked})

    assert (response.status_code, response.data == whole) == (200, True)


class Listener:
    """Reads a followed log in a thread."""

    def __init__(self, stand: Stand, path: str) -> None:
        self._client = stand.app.test_client()
        self._path = path
        self._heard = b""
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        with self._client.get(API + self._path, buffered=False) as response:
            for piece in response.iter_encoded():
                with self._changed:
                    self._heard += piece
                    self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def hears(self, text: bytes) -> bool:
        """Wait until a text has been heard."""
        with self._changed:
            return self._changed.wait_for(lambda: text in self._heard, PATIENCE)

    def end(self) -> bytes:
        """Wait for the end and return everything."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._over, PATIENCE)
        self._thread.join(PATIENCE)
        return self._heard


def test_a_followed_task_is_heard_while_it_runs_and_until_it_ends(stand: Stand) -> None:
    job = stand.post()
    listener = Listener(stand, f"/tasks/{task_of(stand, job)}/log?follow=1")
    puppet = Puppet(stand)
    held = puppet.take()

    stand.print(job["job_id"], "stdout", b"one \xe2\x82")
    assert listener.hears(b"one ")
    stand.print(job["job_id"], "stdout", b"\xac two")
    assert listener.hears("€ two".encode())
    stand.print(job["job_id"], "stderr", b"oops\n")
    puppet.finish(held)

    assert listener.end().decode() == "one € two\n\n==> attempt 1, stderr <==\noops\n"


def test_a_followed_job_is_heard_task_by_task(stand: Stand) -> None:
    job = stand.post("fan")
    listener = Listener(stand, f"/jobs/{job['job_id']}/log?follow=1")
    puppet = Puppet(stand)
    held = puppet.take()
    stand.print(job["job_id"], "stdout", b"prep")
    assert listener.hears(b"==> stage 0 Prepare, task 0, attempt 1, stdout <==\nprep")
    stand.print(job["job_id"], "stdout", b"ared\n")
    puppet.finish(held)
    assert listener.hears(b"prepared\n")
    puppet.finish(puppet.take(), items=[{"text": "a"}, {"text": "b"}])
    stand.print(job["job_id"], "stdout", b"a\n", stage=1, index=0)
    stand.print(job["job_id"], "stdout", b"b\n", stage=1, index=1)
    puppet.run_all()

    heard = listener.end().decode()

    assert heard.count("==>") == 3
    assert "\n==> stage 1 Say all, task 1 (b), attempt 1, stdout <==\nb\n" in heard


def test_a_followed_job_that_is_cancelled_comes_to_its_end(stand: Stand) -> None:
    job = stand.post()
    puppet = Puppet(stand)
    puppet.take()
    listener = Listener(stand, f"/jobs/{job['job_id']}/log?follow=1")
    stand.print(job["job_id"], "stdout", b"begun\n")
    assert listener.hears(b"begun")

    stand.client.post(f"{API}/jobs/{job['job_id']}/cancel")

    assert listener.end().endswith(b"begun\n")


def test_a_follower_is_let_go_when_the_process_ends(stand: Stand) -> None:
    job = stand.post()
    listener = Listener(stand, f"/jobs/{job['job_id']}/log?follow=1")

    stand.app.extensions["echelon"].settings.stopping.set()

    assert listener.end() == b""


def test_following_what_has_ended_tells_all_of_it(stand: Stand) -> None:
    job = stand.finished()
    stand.print(job["job_id"], "stdout", b"hello\n")

    assert Listener(stand, f"/tasks/{task_of(stand, job)}/log?follow=1&stream=stdout").end() == b"hello\n"
    assert Listener(stand, f"/jobs/{job['job_id']}/log?follow=1").end().endswith(b" <==\nhello\n")
