"""Whatever stands in headers, the answer is one that the interface has: never a failure of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.stand import API, Stand

NAMES = (
    "Accept", "Authorization", "Expect", "Forwarded", "Host", "Idempotency-Key", "If-Match", "If-Modified-Since",
    "If-None-Match", "If-Range", "Last-Event-ID", "Origin", "Prefer", "Range", "Sec-Fetch-Site", "X-Echelon-Token",
    "X-Request-ID", "X-Token",
)  # fmt: skip
PIECES = st.sampled_from(
    [
        "*", '"', ",", ";", "=", "-", " ", ".", "W/", "bytes=", "0-", "-1", "1-2", "9" * 30, "wait", "wait=",
        "wait=1", "respond-async", "Bearer ", "Basic ", "Zm9vOmJhcg==", "http://", "localhost", "127.0.0.1", "[::1]",
        ":80", "q=0.1", "text/html", "application/json", "same-origin", "cross-site", "1.5",
        "Sat, 01 Jan 2022 00:00:00 GMT", "\xe9", "\x7f",
        "\t", "{a}", "{{ a }}", "%00", "\\", "100-continue", "gzip", "chunked",
    ]
)  # fmt: skip
#: What a server lets through: any byte but the ends of lines and NUL.
VALUES = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40)
HEADERS = st.dictionaries(st.sampled_from(NAMES), st.lists(PIECES, max_size=8).map("".join) | VALUES, max_size=4)


class Asked:
    """What is asked for, of jobs that have ended and of one that begins."""

    def __init__(self, folder: Path) -> None:
        self.stand = Stand(folder)
        done = self.stand.finished()["job_id"]
        self.stand.leave(done, "a.txt", b"content")
        self.stand.print(done, "stdout", b"printed \xff\n")
        job = f"{API}/jobs/{done}"
        self.requests = [
            ("GET", job), ("GET", f"{job}/artefacts/a.txt"), ("GET", f"{job}/log"), ("POST", f"{job}/cancel"),
            ("POST", f"{job}/retry"), ("GET", f"{API}/jobs"), ("POST", f"{API}/jobs"),
        ]  # fmt: skip


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    made = Asked(Path(tmp_path_factory.mktemp("stand")))
    yield made
    made.stand.close()


@given(number=st.integers(0, 6), headers=HEADERS)
def test_whatever_stands_in_headers_is_answered_or_refused(asked: Asked, number: int, headers: dict[str, str]) -> None:
    method, path = asked.requests[number]
    body = {"type": "guarded", "input": {"text": "hello"}} if path == f"{API}/jobs" and method == "POST" else None

    answer = asked.stand.client.open(path, method=method, headers=headers, json=body)
    told = answer.get_data()
    answer.close()

    assert answer.status_code < 500, (answer.status_code, told)
    if answer.status_code >= 400:
        assert answer.content_type == "application/problem+json"
        assert answer.json is not None and answer.json["status"] == answer.status_code
